"""Print a model's resolved table: ``python -m models.show yolov5s-ca --nc 3``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from utils import cli
from utils.errors import UserError
from utils.geometry import ceil_to_stride
from utils.log import LOG, start_log

if TYPE_CHECKING:
    from models.detector import Detector
    from models.registry import Row

_HEADER = ("row", "base", "from", "repeats", "module", "args", "output", "parameters", "GFLOPs")
_RIGHT = {"row", "repeats", "parameters", "GFLOPs", "ms", "MiB"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShowConfig:
    """Flags of models.show."""

    cfg: str = cli.option("", "model YAML, or its name (yolov5s-ca); with --timm a pattern of names (convnext*)", positional=True)
    nc: int = cli.option(0, "number of classes; 0 takes the YAML's")
    imgsz: int = cli.option(640, "side of the image in pixels", "--img", "--img-size")
    plugins: tuple[str, ...] = cli.option((), "Python files of your own that register modules", nargs="+", type=str)
    cost: bool = cli.option(False, "measure each row's time and memory, and compare the variant with its base")
    modules: bool = cli.option(False, "list the modules a YAML may use, and exit")
    timm: bool = cli.option(False, "list timm's networks that fit; those of a pattern with their strides, widths and weights; and exit")

    def __post_init__(self) -> None:
        if not self.cfg and not self.modules and not self.timm:
            raise UserError("name a model YAML: python -m models.show models/yolov5s-ca.yaml")
        if self.nc < 0 or self.imgsz < 1:
            raise UserError("--nc must be >= 0 and --imgsz >= 1")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of a model, or the list of modules.

    Raises:
        UserError: a wrong flag, YAML or plug-in.
    """
    config, _ = cli.parse(ShowConfig, argv, description=__doc__ or "")
    from models import build_model, list_modules, load_plugins
    from models.spec.rows import unread
    from models.yoloair import differences

    start_log()
    load_plugins(config.plugins)
    if config.modules:
        LOG.info("\n".join(list_modules()))
        return
    if config.timm:
        _show_timm(config.cfg)
        return
    model = build_model(config.cfg, config.nc or None)
    side = ceil_to_stride(config.imgsz, model.max_stride)
    (_show_cost if config.cost else _show)(config, model, side)
    for line in differences(model.spec.rows):
        LOG.info(line)
    if dead := unread(model.spec.rows):
        LOG.warning("%s: %s", model.spec.where, dead)


def _show_timm(pattern: str) -> None:
    """Print the names of timm's networks, or a table of those that match a pattern."""
    from models.backbones.timm import described, fitting

    if not (names := fitting(pattern)):
        raise UserError(f"none of timm's networks that fit matches {pattern!r}; python -m models.show --timm lists them all")
    LOG.info(table([("name", "strides", "widths", "parameters", "weights"), *map(described, names)]) if pattern else "\n".join(names))


def _show(config: ShowConfig, model: Detector, side: int) -> None:
    """Print the table; parameters and operations are counted on the meta device."""
    from models import build_model

    strides = model.stride.tolist()
    try:
        rows = list(_rows(model.to("meta"), side))
    except UserError:
        rows = list(_rows(build_model(config.cfg, config.nc or None), side))  # a module that cannot run on the meta device
    LOG.info(table([_HEADER, *((*row[:-2], f"{row[-2]:,}", f"{row[-1]:.3f}") for row in rows)]))
    LOG.info(_summary(config, model, side, (sum(row[-2] for row in rows), sum(row[-1] for row in rows)), strides))


def _show_cost(config: ShowConfig, model: Detector, side: int) -> None:
    """Print the table with measured time and memory, and the differences from the base."""
    from models import build_model
    from models.profiling import compared, measure, total
    from models.spec.model_spec import base_of

    base = base_of(config.cfg)
    models = [model] if base is None else [model, build_model(base, model.nc)]
    costs, *others = measure(models, side)
    rows = [
        (*_described(row), f"{c.parameters:,}", f"{c.giga:.3f}", f"{c.milliseconds:.1f}", f"{c.mebibytes:.1f}")
        for row, c in zip(model.spec.rows, costs, strict=True)
    ]
    header = [name for name in _HEADER if name != "output"]
    LOG.info(table([(*header, "ms", "MiB"), *rows]))
    whole = total(costs)
    LOG.info(_summary(config, model, side, (whole.parameters, whole.giga), model.stride.tolist()))
    LOG.info(
        f"one image: {whole.milliseconds:.1f} ms on this machine's processor, norms folded; in training {whole.mebibytes:.1f} MiB "
        f"kept for its backward pass"
    )
    if base is not None:
        LOG.info(f"against {base.where}: {compared(whole, total(others[0]))}")


def _summary(config: ShowConfig, model: Detector, side: int, counts: tuple[int, float], strides: Sequence[float]) -> str:
    return (
        f"{config.cfg}: {len(model.model)} rows, {counts[0]:,} parameters, {counts[1]:.1f} GFLOPs at {side}x{side}, {model.nc} classes, "
        f"strides {', '.join(f'{s:g}' for s in strides)}"
    )


def _rows(model: Detector, side: int) -> Iterator[tuple[Any, ...]]:
    """The table's columns for each row, the last two as numbers."""
    import torch

    from models.flops import count_operations, parameters
    from models.probe import run_rows, shape_of

    spec = model.spec
    device = next(model.parameters()).device
    steps = run_rows(model.model, spec, torch.empty(1, spec.ch, side, side, device=device))
    for layer in model.model:
        with count_operations() as operations:
            row, _, output = next(steps)
        shapes = shape_of(output)
        yield (*_described(row), _shape_text(shapes), parameters(layer), operations.giga)


def _described(row: Row) -> tuple[str, ...]:
    from models.spec.rows import joined, relative

    sources = [relative(s, row.index) for s in row.sources]
    args = joined(row.args, row.keywords)
    name = f"Gate({row.name})" if row.gate else row.name
    if row.replaced:
        name = f"Gate({row.replaced.name} -> {row.name})"
    return str(row.index), row.origin, str(sources[0] if len(sources) == 1 else sources), str(row.repeats), name, str(args)


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
