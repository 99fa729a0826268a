"""The equal-capacity control: the baseline widened until it has a variant's parameters or operations.

An attention block adds capacity as well as attention. A variant that beats the plain baseline, but not a baseline of its own size,
gained by its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from models import build_model
from models.flops import gflops, parameters
from models.spec.model_spec import ModelSpec
from utils.compare.study import Variant
from utils.compare.variants import CONTROL, measured, model_side
from utils.errors import UserError
from utils.log import LOG

NEAR = 0.01
"""Relative difference in capacity that needs no control, and that a control may have."""
_DIVISORS = (8, 4, 2, 1)  # of all widths; a finer one is tried when the coarser misses
_HALVINGS = 9
_ROOM = 1.3  # capacity grows with about the square of the width; the search begins this factor around that


def controls(variants: Sequence[Variant], measure: str, names: dict[int, str], imgsz: int) -> list[Variant]:
    """Make a control for each variant whose capacity differs from the baseline's by more than `NEAR`.

    Args:
        measure: "params" or "gflops".
        names: the data's classes.
    """
    base = next(v for v in variants if v.baseline)
    made = []
    for variant in variants:
        wanted, own = _capacity(variant, measure), _capacity(base, measure)
        if variant.baseline or variant.error or abs(wanted / own - 1) <= NEAR:
            continue
        made.append(_widened(base, variant, measure, names, imgsz))
    return made


def _capacity(variant: Variant, measure: str) -> float:
    return variant.parameters if measure == "params" else variant.gflops


def _widened(base: Variant, variant: Variant, measure: str, names: dict[int, str], imgsz: int) -> Variant:
    wanted = _capacity(variant, measure)
    side = model_side(build_model(ModelSpec.from_dict(base.spec, base.cfg), len(names)), imgsz)
    guess = base.spec["width_multiple"] * (wanted / _capacity(base, measure)) ** 0.5
    best, miss = base.spec, float("inf")
    for divisor in dict.fromkeys((int(base.spec["channel_multiple"]), *_DIVISORS)):
        low, high = guess / _ROOM, guess * _ROOM
        for _ in range(_HALVINGS):
            width = round((low * high) ** 0.5, 5)
            spec = {**base.spec, "width_multiple": width, "channel_multiple": divisor}
            try:
                capacity = _count(spec, measure, names, side)
            except UserError:  # too narrow for some module
                capacity = 0
            if abs(capacity / wanted - 1) < miss:
                best, miss = spec, abs(capacity / wanted - 1)
            low, high = (width, high) if capacity < wanted else (low, width)
        if miss <= NEAR:
            break
    if miss > NEAR:
        LOG.warning("%s: its control misses its %s by %.1f %%", variant.name, measure, 100 * miss)
    width, divisor = best["width_multiple"], best["channel_multiple"]
    edits = (f"width_multiple {base.spec['width_multiple']:g} -> {width:g}", f"widths are multiples of {divisor}")
    control = Variant(name=CONTROL + variant.name, cfg=base.cfg, control_of=variant.name, edits=edits, spec=best)
    return measured(control, names, imgsz)


def _count(spec: Mapping[str, Any], measure: str, names: dict[int, str], side: int) -> float:
    """Parameters or operations of a model, which is built without its weights.

    Raises:
        UserError: it cannot be built.
    """
    with torch.device("meta"):
        model = build_model(ModelSpec.from_dict(spec, "control"), len(names), names=names)
    return parameters(model) if measure == "params" else gflops(model, side)
