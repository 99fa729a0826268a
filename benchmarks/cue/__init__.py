"""A study in which attention is known to help: the class of a ring depends on a lamp that is too far away for convolutions."""
