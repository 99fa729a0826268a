"""Detection heads, one per file. Importing this package registers them."""

from models.heads import detect

__all__ = ["detect"]
