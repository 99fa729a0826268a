"""Necks. Importing this package registers them."""

from models.necks import afpn, bifpn, carafe, dyhead, dysample, fusion, horfpn  # noqa: F401  importing them registers their modules
