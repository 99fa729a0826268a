"""Text in CSV files that people open in a spreadsheet."""

from __future__ import annotations

import re


def cell(text: str) -> str:
    """Return the text, quoted where a spreadsheet would take it for a formula."""
    return f"'{text}" if re.match(r"\s*[=+\-@|%'\uff1d\uff0b\uff0d\uff20]|[\t\r\n]", text) else text  # the last four: full-width = + - @
