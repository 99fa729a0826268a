"""Comparing variants of a detector: plan, runs, statistics, report."""

from utils.compare.study import load_study

__all__ = ["load_study"]
