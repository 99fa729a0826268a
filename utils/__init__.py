"""The nouns of training, measuring and using a detector, one a file."""
