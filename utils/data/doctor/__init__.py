"""Find problems in a dataset: ``python -m utils.data.doctor DATA``."""
