"""A page in the browser to try models: ``python -m utils.demo --weights best.pt``."""
