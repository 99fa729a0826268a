"""Comparing variants of a detector: plan, runs, statistics and report."""

from utils.compare.load import load_study

__all__ = ["load_study"]
