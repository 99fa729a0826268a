"""Criteria of detection heads, and the assigners that they use."""
