"""Necks. Importing this package registers them."""

from models.necks import carafe, dyhead, fusion, horfpn  # noqa: F401  importing them registers their modules
