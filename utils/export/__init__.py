"""Export of a trained detector: one file a format, a registry, and one check that all of them have to pass."""
