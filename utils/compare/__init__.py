"""Comparing variants of a detector: plan, runs, statistics, report."""
