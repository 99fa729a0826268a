"""Print a model's resolved table: ``python -m models.show yolov5s-ca --nc 3``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from utils import cli
from utils.errors import UserError
from utils.runs import LOG, start_log

if TYPE_CHECKING:
    from models.detector import Detector
    from models.registry import Row

_HEADER = ("row", "base", "from", "number", "module", "args", "output", "parameters", "GFLOPs")
_RIGHT = {"row", "number", "parameters", "GFLOPs"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShowConfig:
    """Flags of models.show."""

    cfg: str = cli.option("", "model YAML, or its name (yolov5s-ca)", positional=True)
    nc: int = cli.option(0, "number of classes; 0 takes the YAML's")
    imgsz: int = cli.option(640, "side of the image in pixels", "--img", "--img-size")
    plugins: tuple[str, ...] = cli.option((), "Python files of your own that register modules", nargs="+", type=str)
    modules: bool = cli.option(False, "list the modules a YAML may use instead")

    def __post_init__(self) -> None:
        if not self.cfg and not self.modules:
            raise UserError("name a model YAML: python -m models.show models/yolov5s-ca.yaml")
        if self.nc < 0 or self.imgsz < 1:
            raise UserError("--nc and --imgsz are positive")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of a model, or the list of modules.

    Raises:
        UserError: a wrong flag, YAML or plug-in.
    """
    config, _ = cli.parse(ShowConfig, argv, description=__doc__ or "")
    from models import build_model, list_modules, load_plugins

    start_log()
    load_plugins(config.plugins)
    if config.modules:
        LOG.info("\n".join(list_modules()))
        return
    model = build_model(config.cfg, config.nc or None)
    strides = ", ".join(f"{s:g}" for s in model.stride.tolist())
    side = -(-config.imgsz // model.max_stride) * model.max_stride
    try:
        rows = list(_rows(model.to("meta"), side))  # shapes and counts need no arithmetic
    except UserError:
        rows = list(_rows(build_model(config.cfg, config.nc or None), side))  # a module that cannot do without
    LOG.info(table([_HEADER, *((*row[:-2], f"{row[-2]:,}", f"{row[-1]:.3f}") for row in rows)]))
    total, giga = sum(row[-2] for row in rows), sum(row[-1] for row in rows)
    LOG.info(
        f"{config.cfg}: {len(rows)} rows, {total:,} parameters, {giga:.1f} GFLOPs at {side}x{side}, {model.nc} classes, strides {strides}"
    )


def _rows(model: Detector, side: int) -> Iterator[tuple[Any, ...]]:
    """One tuple of the table's columns for each row, the last two as numbers."""
    import torch

    from models.probe import run_rows, shape_of
    from utils.cost import count_operations, parameters

    spec = model.spec
    device = next(model.parameters()).device
    steps = run_rows(model.model, spec, torch.empty(1, spec.ch, side, side, device=device))
    for layer in model.model:
        with count_operations() as operations:
            row, _, output = next(steps)
        shapes = shape_of(output)
        yield (*_described(row), _shape_text(shapes), parameters(layer), operations.giga)


def _described(row: Row) -> tuple[str, ...]:
    from models.table import relative, thaw

    sources = [relative(s, row.index) for s in row.sources]
    args = dict(row.keywords) or thaw(row.args)
    name = f"Gate({row.name})" if row.gate else row.name
    return str(row.index), row.base, str(sources[0] if len(sources) == 1 else sources), str(row.repeats), name, str(args)


def _shape_text(shapes: Any) -> str:
    if isinstance(shapes, tuple):
        return "x".join(str(side) for side in shapes[1:])
    return ", ".join(_shape_text(shape) for shape in shapes)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows of text in columns; the first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = [name in _RIGHT for name in rows[0]]
    lines = (
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)).rstrip() for row in rows
    )
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
