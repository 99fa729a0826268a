"""The reset control: the baseline that loses the start weights which a variant loses, and nothing else.

A block in the place of a pretrained one has to learn what the other one knew. If the variant is no worse than a baseline that has to learn
as much again, then not its mechanism costs accuracy, but the lost weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from models.weights.load import read_weights
from utils.compare.start import transferred
from utils.compare.study import StudyPlan, Variant
from utils.compare.variants import RESET
from utils.log import LOG


def reset_controls(variants: Sequence[Variant], plan: StudyPlan) -> list[Variant]:
    """Make a control for each variant that loses tensors of the start weights; names those that lose none in a warning.

    Args:
        variants: with the baseline.
        plan: has the classes, and the start weights.

    Raises:
        UserError: the weights cannot be read.
    """
    base = next(v for v in variants if v.baseline)
    names, weights = dict(enumerate(plan.data.names)), read_weights(plan.weights)
    have = transferred(base, weights, names)[1].keys
    made, nothing = [], []
    for variant in variants:
        if variant.baseline or variant.error:
            continue
        lost = sorted(have - transferred(variant, weights, names)[1].keys)
        if not lost:
            nothing.append(variant.name)
            continue
        rows = sorted({int(key.split(".")[1]) for key in lost})
        edits = (f"{len(lost)} of {len(weights.state)} tensors re-initialised, in rows {', '.join(map(str, rows))}",)
        changes: dict[str, Any] = {"name": RESET + variant.name, "baseline": False, "control_of": variant.name}
        made.append(dataclasses.replace(base, **changes, edits=edits, reset=tuple(lost)))
    if nothing:
        LOG.warning("--control reset: nothing to reset for %s: all weights that %s keeps are kept", ", ".join(nothing), base.name)
    return made
