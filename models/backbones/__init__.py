"""Backbones, one network a file: modules with the `pyramid` rule, whose outputs ``Feature`` picks. Importing registers them."""
