"""Read a YAML file of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.encodings import read_text
from utils.files.safe_open import open_regular
from utils.files.safe_yaml import parse_yaml

MAX_YAML_BYTES = 512 << 10
"""YAML is parsed at 100 kB per second; the names of 10 000 classes take 200 kB."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping, without constructing objects.

    Raises:
        UserError: unreadable, not YAML, tagged, too large, or not a mapping.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if len(content) > MAX_YAML_BYTES:
        raise UserError(f"{path}: larger than {MAX_YAML_BYTES >> 10} KiB; put long lists of images into a .txt file that the YAML names")
    document = parse_yaml(read_text(path, content), str(path))
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected 'key: value' lines, found {type(document).__name__}")
    return document
