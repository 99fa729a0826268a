"""What a search for hyper-parameters may change: the flags ``--tune``, ``--evolve``, ``--search`` and ``--space``, and known bounds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from utils.cli import check_minimum, option
from utils.config import Hyp, TrainConfig
from utils.errors import UserError, nearest

SEARCHES = ("random", "optuna", "evolve")
ALL = "all"


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """The range in which a hyper-parameter is searched; with `log`, evenly in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}{':log' if self.log else ''}"


Space = Mapping[str, Bounds]

BOUNDS: Space = {
    "lr0": Bounds(1e-5, 1e-1, log=True),
    "lrf": Bounds(0.01, 1.0, log=True),
    "momentum": Bounds(0.6, 0.98),
    "weight_decay": Bounds(1e-5, 1e-3, log=True),
    "warmup_epochs": Bounds(0, 5),
    "warmup_momentum": Bounds(0, 0.95),
    "warmup_bias_lr": Bounds(0, 0.2),
    "backbone_lr": Bounds(0.01, 1, log=True),
    "box": Bounds(0.02, 0.2),
    "cls": Bounds(0.2, 4.0),
    "cls_pw": Bounds(0.5, 2.0),
    "obj": Bounds(0.2, 4.0),
    "obj_pw": Bounds(0.5, 2.0),
    "anchor_t": Bounds(2.0, 8.0),
    "fl_gamma": Bounds(0, 2.0),
    "hsv_h": Bounds(0, 0.1),
    "hsv_s": Bounds(0, 0.9),
    "hsv_v": Bounds(0, 0.9),
    "degrees": Bounds(0, 45),
    "translate": Bounds(0, 0.9),
    "scale": Bounds(0, 0.9),
    "shear": Bounds(0, 10),
    "perspective": Bounds(0, 0.001),
    "flipud": Bounds(0, 1),
    "fliplr": Bounds(0, 1),
    "mosaic": Bounds(0, 1),
    "mixup": Bounds(0, 1),
    "copy_paste": Bounds(0, 1),
}
"""Ranges of YOLOv5's ``--evolve`` (v7.0) where it has them."""
FLAGS = frozenset({"tune", "evolve", "search", "space"})
DEFAULT = ("lr0", "weight_decay", "warmup_epochs")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig(TrainConfig):
    """Flags of train.py, with those of a search for hyper-parameters."""

    tune: int = option(0, "search hyper-parameters: so many trainings, the first with the given ones")
    evolve: int = option(0, "search hyper-parameters by YOLOv5's mutations: so many trainings", nargs="?", const=300, type=int)
    search: str = option("random", "how --tune chooses: random; by TPE (needs optuna); YOLOv5's mutations", choices=SEARCHES)
    space: tuple[str, ...] = option(
        (), f"what to search: NAME, NAME=LOW:HIGH or NAME=LOW:HIGH:log, or {ALL} [{' '.join(DEFAULT)}]", nargs="+", type=str
    )

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        check_minimum(self, tune=0, evolve=0)
        if self.tune and self.evolve:
            raise UserError("--tune and --evolve are one search; give one of them")
        if self.space and not (self.tune or self.evolve):
            raise UserError("--space says what to search; it needs --tune N or --evolve N")
        read_space(self.space)


def without_search(config: SearchConfig) -> TrainConfig:
    """The flags of one training."""
    return TrainConfig(**{f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)})


def read_space(given: Sequence[str], default: Iterable[str] = DEFAULT) -> dict[str, Bounds]:
    """Read ``--space``.

    Args:
        given: ``NAME``, which takes its known bounds, ``NAME=LOW:HIGH``, ``NAME=LOW:HIGH:log``, or ``all``.
        default: what is searched if nothing is given.

    Raises:
        UserError: an unknown name, one that is not a number, or bounds that are missing or impossible.
    """
    space: dict[str, Bounds] = {}
    for text in given or default:
        name, equals, ends = text.partition("=")
        if text == ALL:
            space |= BOUNDS
            continue
        fields = {f.name: f for f in dataclasses.fields(Hyp)}
        if name not in fields:
            raise UserError(f"--space {text}: unknown hyper-parameter {name!r}{nearest(name, fields)}")
        if "range" not in fields[name].metadata:
            raise UserError(f"--space {text}: {name} is not a number; compare its values as arms of compare.py")
        if not equals and name not in BOUNDS:
            raise UserError(f"--space {text}: {name} has no known bounds; give them, as in {name}=2:10")
        space[name] = _bounds(text, ends, fields[name].metadata["range"]) if equals else BOUNDS[name]
    return space


def _bounds(text: str, ends: str, valid: tuple[float, float]) -> Bounds:
    low, _, rest = ends.partition(":")
    high, _, scale = rest.partition(":")
    try:
        bounds = Bounds(float(low), float(high), log=scale == "log")
    except ValueError:
        bounds = Bounds(math.nan, math.nan)
    if not bounds.low < bounds.high < math.inf or scale not in ("", "log"):
        raise UserError(f"--space {text}: expected NAME=LOW:HIGH or NAME=LOW:HIGH:log, with LOW below HIGH, such as lr0=1e-4:1e-1:log")
    if not valid[0] <= bounds.low or not bounds.high <= valid[1]:
        raise UserError(f"--space {text}: outside {valid[0]:g} to {valid[1]:g}, which is valid")
    if bounds.log and bounds.low <= 0:
        raise UserError(f"--space {text}: a logarithmic range begins above 0")
    return bounds
