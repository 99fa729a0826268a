"""What an exported file says of itself: class names, stride, image size, what is dynamic."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any

from utils.errors import UserError

_MAX_TEXT = 1 << 20
_MAX_CLASSES = 50_000
_MAX_STRIDE = 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The entries of an exported file that decide how it is used.

    Attributes:
        names: class names by class id; None where the file has none, as files of YOLOv5 before 6.2.
        stride: what the sides of an image must be multiples of.
        nms: the output is (B, max_det, 6) xyxy, confidence, class id, after NMS.
        dynamic: whether batch, height and width are free, for formats that cannot be asked; None where the file does not say.
        half: the network computes in half precision.
    """

    names: dict[int, str] | None = None
    stride: int = 32
    nms: bool = False
    dynamic: bool | None = None
    half: bool = False


def parse_metadata(entries: Mapping[str, Any], where: str) -> Metadata:
    """Read entries of a file; texts are Python literals, as YOLOv5 writes them.

    Raises:
        UserError: an entry is not what it should be.
    """
    names = _names(_literal(entries.get("names"), where), where)
    flags = {key: _flag(_literal(entries.get(key), where)) for key in ("nms", "dynamic", "half")}
    return Metadata(
        names=names,
        stride=_stride(_literal(entries.get("stride", 32), where), where),
        nms=bool(flags["nms"]),
        dynamic=flags["dynamic"],
        half=bool(flags["half"]),
    )


def _literal(value: Any, where: str) -> Any:
    if not isinstance(value, str):
        return value
    if len(value) > _MAX_TEXT:
        raise UserError(f"{where}: its metadata holds a text of {len(value)} characters")
    try:
        tree = ast.parse(value.strip(), mode="eval")
        return ast.literal_eval(tree) if all(map(_hashes_well, ast.walk(tree))) else value
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return value


def _hashes_well(node: ast.AST) -> bool:
    """Whether a part of a literal holds no keys but texts and class numbers: large numbers and tuples can all have one hash."""
    if not isinstance(node, ast.Dict):
        return not isinstance(node, ast.Set)
    keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
    return all(isinstance(key, str) or (isinstance(key, int) and key < _MAX_CLASSES) for key in keys)


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _names(value: Any, where: str) -> dict[int, str] | None:
    if value is None:
        return None
    named = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list | tuple) else {}
    listed = [named.get(i, named.get(str(i))) for i in range(min(len(named), _MAX_CLASSES))]
    if not named or len(listed) < len(named) or not all(isinstance(name, str) for name in listed):
        raise UserError(f"{where}: its metadata lists no class names by number 0, 1, 2, ...")
    return {i: str(name) for i, name in enumerate(listed)}


def _stride(value: Any, where: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_STRIDE:
        raise UserError(f"{where}: its metadata gives a stride of {str(value)[:50]}; expected 1 to {_MAX_STRIDE}")
    return value
