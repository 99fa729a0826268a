"""Average precision and its pictures."""
