"""Detection heads, one a file. Importing this package registers them."""

from models.heads import detect

__all__ = ["detect"]
