"""Text in CSV files that people open in a spreadsheet."""

from __future__ import annotations

import re

from utils.log import escaped


def cell(text: str) -> str:
    """Return the text, quoted where a spreadsheet would take it for a formula; what is not printable, line breaks too, is escaped."""
    quote = "'" if re.match(r"\s*[=+\-@|%'\uff1d\uff0b\uff0d\uff20]|[\t\r\n]", text) else ""  # the last four: full-width = + - @
    return quote + escaped(text, keep="")
