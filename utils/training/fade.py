"""Blocks that fade in for those they replace: their gate follows the schedule, and what is left at the end has the new block alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.gate import Replacement
from models.spec.model_spec import ModelSpec


def set_fade(gates: Sequence[Replacement], g: float) -> None:
    """Set the gates of model and EMA alike, so that the EMA does not lag behind."""
    for gate in gates:
        gate.g.fill_(g)


def has_faded(gates: Sequence[Replacement]) -> bool:
    """Whether all replaced blocks are without effect; true for a model without any."""
    return all(float(gate.g) == 1 for gate in gates)


def without_replaced(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint in which blocks that have faded in stand alone; as it is if there are none, or they still fade in.

    Args:
        payload: with the model's weights alone, as `utils.training.checkpointing.ema_only` makes it.
    """
    spec = ModelSpec.from_dict(payload["spec"], "checkpoint")
    after = spec.finished()
    prefixes = [f"model.{a.index}." for a, b in zip(spec.rows, after.rows, strict=True) if a != b]
    state = payload["model"]
    if not prefixes or any(float(state[f"{prefix}g"]) != 1 for prefix in prefixes):
        return payload
    kept = {}
    for key, tensor in state.items():
        prefix = next((p for p in prefixes if key.startswith(p)), "")
        part, _, rest = key.removeprefix(prefix).partition(".")
        if not prefix or part == "new":
            kept[prefix + rest if prefix else key] = tensor
    return payload | {"spec": after.to_dict(), "model": kept}
