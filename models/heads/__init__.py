"""Detection heads, one per file. Importing this package registers them."""

from models.heads import asff, decoupled, detect, dfl, implicit, yolox

__all__ = ["asff", "decoupled", "detect", "dfl", "implicit", "yolox"]
