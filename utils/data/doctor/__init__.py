"""Find what is wrong with a dataset: ``python -m utils.data.doctor DATA``."""
