"""A model's specification: YAML -> rows, scale, anchors. Every error names the file and the row."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.registry import MAX_CHANNELS, Row, Scale
from models.spec.anchors import Anchors, parse_anchors
from models.spec.combine import read_model
from models.spec.edits import apply_edits
from models.spec.rows import freeze, joined, parse_module, parse_table, relative, thaw
from utils.errors import UserError, nearest

MAX_ROWS = 1000
"""YOLOv5x has 25; each takes a millisecond to build."""
MAX_BANDS = 1024
"""Channels of an image: hyperspectral ones have some hundreds, and the shapes of a network are found with an image."""
_SETTINGS = ("nc", "depth_multiple", "width_multiple", "channel_multiple", "anchors", "activation", "ch", "names")
# `inplace` and `yaml_file` occur in YOLOv5's files and checkpoints and are ignored.
_KNOWN = (*_SETTINGS, "backbone", "head", "base", "edits", "identities", "gates", "replaced", "inplace", "yaml_file")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Everything that defines a network except its weights.

    Attributes:
        rows: the table, sources resolved; the last row is the head.
        nc: number of classes.
        scale: depth, width and divisor.
        anchors: per level pixels (w, h, w, h, ...), or a number per level.
        ch: channels of the image.
        activation: expression for the activation of all `Conv`, or None for SiLU.
        names: class names, or None.
        where: name of the model in messages; ignored in comparisons.
    """

    rows: tuple[Row, ...]
    nc: int = 80
    scale: Scale = dataclasses.field(default_factory=Scale)
    anchors: Anchors = 3
    ch: int = 3
    activation: str | None = None
    names: tuple[str, ...] | None = None
    where: str = dataclasses.field(default="model", compare=False)

    def __post_init__(self) -> None:
        _integer(self.nc, "nc", self.where)
        _integer(self.ch, "ch", self.where, MAX_BANDS)

    @classmethod
    def from_yaml(cls, path: str | Path) -> ModelSpec:
        """Read a model YAML, given by path, by name (``yolov5s``, ``yolov5m-ca.yaml``) or as a combination (``yolov5s-ca+gnconv``).

        Raises:
            UserError: not found, not valid; names the row.
        """
        return cls.from_dict(_load(Path(path), Path(), ()), str(path))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str) -> ModelSpec:
        """Check the content of a model YAML, classic or variant; `where` is its name in messages.

        Raises:
            UserError: names the key or the row.
        """
        if not isinstance(content, Mapping):
            raise UserError(f"{where}: a model is a mapping of settings, not {type(content).__name__}")
        merged = _merge(dict(content), where, Path(), ())
        activation = merged.get("activation")
        if not isinstance(activation, str | None):
            raise UserError(f"{where}: 'activation' is text such as nn.LeakyReLU(0.1), not {activation!r}")
        if len(merged["rows"]) > MAX_ROWS:
            raise UserError(f"{where}: {len(merged['rows'])} rows; at most {MAX_ROWS}")
        return cls(
            rows=merged["rows"],
            nc=merged.get("nc", 80),
            scale=Scale(
                _factor(merged, "depth_multiple", where),
                _factor(merged, "width_multiple", where),
                _integer(merged.get("channel_multiple", 8), "channel_multiple", where),
            ),
            anchors=parse_anchors(merged.get("anchors", 3), where),
            ch=merged.get("ch", 3),
            activation=activation,
            names=parse_names(merged.get("names"), where),
            where=where,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data from which `from_dict` makes an equal spec."""
        rows = [_plain_row(row) for row in self.rows]
        replaced = [[*_plain_row(row.replaced)[1:], row.replaced.origin] if row.replaced else None for row in self.rows]
        return {
            "nc": self.nc,
            "depth_multiple": self.scale.depth,
            "width_multiple": self.scale.width,
            "channel_multiple": self.scale.divisor,
            "anchors": thaw(self.anchors),
            "ch": self.ch,
            "activation": self.activation,
            "names": None if self.names is None else list(self.names),
            "backbone": rows[:-1],
            "head": rows[-1:],
            "identities": [row.origin for row in self.rows],
            "gates": [row.gate for row in self.rows],
            **({"replaced": replaced} if any(replaced) else {}),
        }

    def finished(self) -> ModelSpec:
        """What training leaves: blocks that fade in stand alone, without the ones they replace."""
        fading = [row.replaced is not None and row.gate == "zero" for row in self.rows]
        rows = [dataclasses.replace(row, gate="", replaced=None) if f else row for row, f in zip(self.rows, fading, strict=True)]
        return dataclasses.replace(self, rows=tuple(rows))


def base_of(path: str | Path) -> ModelSpec | None:
    """Read the base that a variant's YAML edits; None for a classic file.

    Raises:
        UserError: as `ModelSpec.from_yaml`.
    """
    content, found, _ = read_model(Path(path))
    base = content.get("base")
    if not isinstance(base, str):
        return None
    return ModelSpec.from_dict(_load(Path(base), found.parent, ()), base)


def _plain_row(row: Row) -> list[Any]:
    sources = [relative(s, row.index) for s in row.sources]
    # `pretrained` is omitted: the checkpoint contains the weights, and the file may be gone when it is read.
    args = joined(row.args, {k: v for k, v in row.keywords.items() if k != "pretrained"})
    return [sources[0] if len(sources) == 1 else sources, row.repeats, row.name, args]


def _load(path: Path, folder: Path, visited: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file and the bases it names into one mapping with parsed ``rows``."""
    content, found, letter = read_model(path, folder)
    if (key := found.resolve()) in visited and letter is None:
        raise UserError(f"{found}: is its own base, by way of {' -> '.join(p.name for p in visited)}")
    if len(visited) > 20:
        raise UserError(f"{found}: more than 20 bases on top of each other")
    return _merge(content, str(path if "+" in path.name else found), found.parent, (*visited, key))


def _merge(content: dict[str, Any], where: str, folder: Path, visited: tuple[Path, ...]) -> dict[str, Any]:
    if isinstance(content.get("rows"), tuple):  # merged already; a YAML has a list
        return content
    for key in content:
        if key not in _KNOWN:
            raise UserError(f"{where}: unknown key {key!r}{nearest(key, _KNOWN)}")
    if "base" not in content:
        return {**content, "rows": _classic(content, where)}
    for key in ("backbone", "head", "identities", "gates", "replaced"):
        if key in content:
            raise UserError(f"{where}: has both 'base' and {key!r}; a variant has 'base' and 'edits'")
    if not isinstance(content["base"], str):
        raise UserError(f"{where}: 'base' is the name of a model YAML, not {content['base']!r}")
    base = _load(Path(content["base"]), folder, visited)
    own = {key: content[key] for key in _SETTINGS if key in content}
    return {**base, **own, "rows": apply_edits(base["rows"], content.get("edits", []), where)}


def _classic(content: dict[str, Any], where: str) -> tuple[Row, ...]:
    if "edits" in content:
        raise UserError(f"{where}: has 'edits' but no 'base'")
    parts = [content.get("backbone", []), content.get("head", [])]
    for name, part in zip(("backbone", "head"), parts, strict=True):
        if not isinstance(part, list):
            raise UserError(f"{where}: {name!r} is a list of rows, not {type(part).__name__}")
    rows = parse_table([*parts[0], *parts[1]], where)
    identities, gates = content.get("identities"), content.get("gates")
    for name, values in (("identities", identities), ("gates", gates)):
        if values is not None and (not isinstance(values, list) or len(values) != len(rows) or not all(isinstance(v, str) for v in values)):
            raise UserError(f"{where}: {name!r} is a list of {len(rows)} strings, one per row")
    if identities is not None:
        rows = tuple(dataclasses.replace(row, origin=origin) for row, origin in zip(rows, identities, strict=True))
    if gates is not None:
        if unknown := [gate for gate in gates if gate not in ("", "zero", "learned")]:
            raise UserError(f"{where}: gate {unknown[0]!r} is unknown; there is zero and learned")
        rows = tuple(dataclasses.replace(row, gate=gate) for row, gate in zip(rows, gates, strict=True))
    if (replaced := content.get("replaced")) is not None:
        if not isinstance(replaced, list) or len(replaced) != len(rows):
            raise UserError(f"{where}: 'replaced' is a list of {len(rows)} entries, one per row")
        rows = tuple(dataclasses.replace(row, replaced=_replaced(old, row, where)) for row, old in zip(rows, replaced, strict=True))
    return rows


def _replaced(old: Any, row: Row, where: str) -> Row | None:
    place = f"{where}: {row}"
    if old is None:
        return None
    if not isinstance(old, list) or len(old) != 4 or not isinstance(old[3], str):
        raise UserError(f"{place}: what it replaces has the form [repeats, module, args, identity], not {old!r}")
    if not row.gate:
        raise UserError(f"{place}: replaces {old[1]} gradually, but has no gate")
    repeats, name, args, keywords = parse_module(old[:3], place)
    return Row(0, (), repeats, name, args, old[3], keywords=keywords)


def _integer(value: Any, key: str, where: str, maximum: int = MAX_CHANNELS) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= maximum:
        raise UserError(f"{where}: {key!r} is a positive integer, not {value!r} (at most {maximum})")
    return value


def _factor(content: Mapping[str, Any], key: str, where: str) -> float:
    value = content.get(key, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and 0 < value <= 100):
        raise UserError(f"{where}: {key!r} is a positive number, not {value!r}")
    return float(value)


def parse_names(value: Any, where: str) -> tuple[str, ...] | None:
    """Check class names: a list, or a mapping from 0, 1, ... to them."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        if set(value) != set(range(len(value))):
            raise UserError(f"{where}: 'names' counts its classes from 0 without gaps, found {list(value)}")
        value = [value[i] for i in range(len(value))]
    if not isinstance(value, list | tuple) or not value:
        raise UserError(f"{where}: 'names' is a list of class names or a mapping from their numbers, not {value!r}")
    return tuple(str(name) for name in freeze(value))
