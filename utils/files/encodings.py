"""Decode text files that people and label tools write, which are not always UTF-8."""

from __future__ import annotations

import codecs
import locale
import re
from pathlib import Path

from utils.log import LOG

_RUN = re.compile(rb"[\x80-\xff]+")


def decode_text(content: bytes) -> tuple[str, str]:
    """Return a text and its encoding: UTF-8, UTF-16 with a byte order mark, this system's, or else a guess of GB18030 or Windows-1252.

    In GB18030 nearly all Chinese characters take two bytes above 127, so these come in pairs; in Western European text they are single.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace"), "UTF-16"
    pairs = all(len(run) % 2 == 0 for run in _RUN.findall(content))
    for encoding in ("utf-8-sig", locale.getencoding(), "gb18030" if pairs else "cp1252"):
        try:
            return content.decode(encoding), "UTF-8" if encoding == "utf-8-sig" else encoding
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1"), "latin-1"


def read_text(path: Path, content: bytes) -> str:
    """Return the text in the `content` of a file, with a warning where its encoding is a guess."""
    text, encoding = decode_text(content)
    if not encoding.startswith("UTF"):
        LOG.warning("%s: is not UTF-8 and is read as %s; save it as UTF-8 if names are wrong", path, encoding)
    return text
