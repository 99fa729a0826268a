"""Conformance checks of modules: ``python -m models.check my_block.py``."""
