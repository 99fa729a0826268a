"""Measurements of speed and cost; a package with this file, as ``benchmarks.py`` beside it would else be taken for it."""
