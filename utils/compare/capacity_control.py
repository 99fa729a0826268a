"""The equal-capacity control: the baseline widened until it has a variant's parameters or operations.

An attention block adds capacity as well as attention. If a variant is better than the baseline, but not than a baseline of equal capacity,
its gain comes from its capacity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from models import build_model
from models.flops import gflops, parameters
from models.spec.model_spec import ModelSpec
from models.weights.load import read_weights
from utils.compare.start import widened
from utils.compare.study import Variant
from utils.compare.variants import CONTROL, with_capacity
from utils.errors import UserError
from utils.geometry import training_side
from utils.log import LOG

TOLERANCE = 0.01
"""Relative difference in capacity up to which no control is made, and up to which a control may miss its target."""
_DIVISORS = (8, 4, 2, 1)  # of all widths; a finer one is tried if a coarser one misses the target
_BISECTIONS = 9
_SEARCH_FACTOR = 1.3  # capacity grows with about the square of the width; the search covers this factor around that


def controls(variants: Sequence[Variant], measure: str, names: dict[int, str], imgsz: int, weights: str = "") -> list[Variant]:
    """Make a control for each variant whose capacity differs from the baseline's by more than `TOLERANCE`.

    With start weights, which a control has in its wider layers, there is none for a variant that is smaller than the baseline.

    Args:
        measure: "params" or "gflops".
        names: the data's classes.
        weights: the start weights, or "".

    Raises:
        UserError: the weights cannot be read.
    """
    base = next(v for v in variants if v.baseline)
    made = []
    for variant in variants:
        target, own = _capacity(variant, measure), _capacity(base, measure)
        if variant.baseline or variant.error or abs(target / own - 1) <= TOLERANCE:
            continue
        if weights and target < own:
            LOG.warning("--control %s: %s has less capacity than %s, so none of its gain is capacity's", measure, variant.name, base.name)
            continue
        control = _widened(base, variant, measure, names, imgsz)
        try:
            if weights:
                widened(base, control, read_weights(weights))
        except UserError as error:
            LOG.warning("--control %s: no control of %s can have the start weights: %s", measure, variant.name, error)
            continue
        made.append(control)
    return made


def _capacity(variant: Variant, measure: str) -> float:
    return variant.parameters if measure == "params" else variant.gflops


def _widened(base: Variant, variant: Variant, measure: str, names: dict[int, str], imgsz: int) -> Variant:
    target = _capacity(variant, measure)
    side = training_side(imgsz, build_model(ModelSpec.from_dict(base.spec, base.cfg), len(names)).max_stride)
    estimate = base.spec["width_multiple"] * (target / _capacity(base, measure)) ** 0.5
    best, miss = base.spec, float("inf")
    for divisor in dict.fromkeys((int(base.spec["channel_multiple"]), *_DIVISORS)):
        low, high = estimate / _SEARCH_FACTOR, estimate * _SEARCH_FACTOR
        for _ in range(_BISECTIONS):
            width = round((low * high) ** 0.5, 5)
            spec = {**base.spec, "width_multiple": width, "channel_multiple": divisor}
            try:
                with torch.device("meta"):
                    model = build_model(ModelSpec.from_dict(spec, "control"), len(names), names=names)
                capacity = parameters(model) if measure == "params" else gflops(model, side)
            except UserError:  # too narrow for some module
                capacity = 0
            if abs(capacity / target - 1) < miss:
                best, miss = spec, abs(capacity / target - 1)
            low, high = (width, high) if capacity < target else (low, width)
        if miss <= TOLERANCE:
            break
    if miss > TOLERANCE:
        LOG.warning("%s: the %s of its control differ by %.1f %%", variant.name, measure, 100 * miss)
    width, divisor = best["width_multiple"], best["channel_multiple"]
    edits = (f"width_multiple {base.spec['width_multiple']:g} -> {width:g}", f"widths are multiples of {divisor}")
    control = dataclasses.replace(base, name=CONTROL + variant.name, baseline=False, control_of=variant.name, edits=edits, spec=best)
    return with_capacity(control, names, imgsz)
