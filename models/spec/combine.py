"""Reading a model YAML by name, or several variants of one base combined: ``yolov5n-ca+gnconv``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.spec.find_yaml import find_model, resize
from utils.errors import UserError
from utils.files.yaml_file import read_yaml

ReadModel = tuple[dict[str, Any], Path, str | None]
_SUFFIXES = (".yaml", ".yml")


def read_model(name: Path, folder: Path = Path()) -> ReadModel:
    """Read the content of a model YAML, in the size that its name asks for; that of a combination is a variant with all edits.

    A name with ``+`` that no file has is a combination: ``yolov5n-ca+gnconv`` of yolov5n-ca and yolov5n-gnconv, or ``a.yaml+b.yaml``.
    Their edits may not meet: of each base row, one variant may have the replacement or removal, and one may insert after it, unless it is
    removed.

    Args:
        folder: where the name is looked for first.

    Returns:
        The content, the file (of a combination the first), and the size letter that the name has and the file has not, or None.

    Raises:
        UserError: not found or not valid; or variants that do not fit together.
    """
    read = []
    for found, letter in find_parts(name, folder):
        content = read_yaml(found)
        read.append((content if letter is None else resize(content, letter), found, letter))
    return read[0] if len(read) == 1 else _merged(name, read)


def find_parts(name: Path, folder: Path = Path()) -> list[tuple[Path, str | None]]:
    """Find the file of a model, or of each variant that a name combines, as `find_model` does.

    Raises:
        UserError: found nowhere.
    """
    try:
        return [find_model(name, folder)]
    except UserError:
        if len(parts := combined(name)) == 1:
            raise
        return [find_model(part, folder) for part in parts]


def _merged(name: Path, read: Sequence[ReadModel]) -> ReadModel:
    parts = combined(name)
    bases = [_base(part, content, at) for part, (content, at, _) in zip(parts, read, strict=True)]
    for k, (b, (own, _, _)) in enumerate(zip(parts, read, strict=True)):
        for a, base, (other, _, _) in zip(parts[:k], bases, read, strict=False):
            pair = f"{name}: {a.stem} and {b.stem} do not combine"
            if base != bases[k]:
                raise UserError(f"{pair}: they edit {other['base']} and {own['base']}; combine variants of one base")
            _refuse_meeting(pair, other, own)
    first, found, letter = read[0]
    merged = {key: value for content, _, _ in reversed(read) for key, value in content.items()}
    return {**merged, "base": first["base"], "edits": [edit for content, _, _ in read for edit in content.get("edits", ())]}, found, letter


def combined(name: Path) -> list[Path]:
    """The variants that a name combines: of ``yolov5n-ca+gnconv`` yolov5n-ca and yolov5n-gnconv; of another name itself alone.

    Raises:
        UserError: a part is empty or given twice, or the name has no base in front of its first "-".
    """
    files = str(name).split("+")
    if len(set(files)) > 1 and all(file.endswith(_SUFFIXES) for file in files):
        return [Path(file) for file in files]
    stem = name.stem if name.suffix in _SUFFIXES else name.name
    first, *others = stem.split("+")
    if not others:
        return [name]
    base, dash, own = first.partition("-")
    parts = [own, *others]
    if not dash or not all(parts) or len(set(parts)) < len(parts):
        raise UserError(f"model {str(name)!r}: not found, and no combination; name each variant of one base once, as in yolov5n-ca+gnconv")
    return [name.with_name(f"{base}-{part}.yaml") for part in parts]


def _base(part: Path, content: dict[str, Any], found: Path) -> tuple[Path, str | None]:
    base = content.get("base")
    if not isinstance(base, str):
        raise UserError(f"{found}: {part.stem} has no 'base', so it does not combine with others; combine variants with 'base' and 'edits'")
    if not isinstance(content.get("edits", []), list) or not all(isinstance(edit, dict) for edit in content.get("edits", ())):
        raise UserError(f"{found}: 'edits' is a list of edits, not {content['edits']!r}")
    at, letter = find_model(Path(base), found.parent)
    return at.resolve(), letter


def _refuse_meeting(pair: str, one: dict[str, Any], two: dict[str, Any]) -> None:
    """Refuse two variants that insert after the same row, where the order is open, or replace or remove the same row."""
    for key in one.keys() & two.keys() - {"base", "edits"}:
        if one[key] != two[key]:
            raise UserError(f"{pair}: {key} is {one[key]!r} in one and {two[key]!r} in the other")
    for a in one.get("edits", ()):
        for b in two.get("edits", ()):
            kinds = [next((kind for kind in ("after", "replace", "remove") if kind in edit), "") for edit in (a, b)]
            if a.get(kinds[0]) == b.get(kinds[1]) and sorted(kinds) != ["after", "replace"]:
                raise UserError(
                    f"{pair}: {kinds[0]} {a.get(kinds[0])} in one meets {kinds[1]} {b.get(kinds[1])} in the other; write the edits that "
                    "you mean as a variant of its own"
                )
