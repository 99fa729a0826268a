"""Necks, one a file. Importing this package registers them."""

from models.necks import horfpn

__all__ = ["horfpn"]
