"""Freezing rows of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from models.weights.transfer import TransferReport
from utils.errors import UserError


def frozen_rows(freeze: Sequence[int], rows: int) -> frozenset[int]:
    """Read ``--freeze``: one number N means rows 0 to N-1, several mean those rows.

    Raises:
        UserError: a row that the model does not have, or no row left to train.
    """
    rest = frozenset(range(rows))
    first = len(freeze) == 1 and freeze[0] >= 0
    outside = [rows] if first and freeze[0] > rows else [] if first else sorted(set(freeze) - rest)
    if outside:
        raise UserError(f"--freeze: no row {outside[0]}; the model has rows 0 to {rows - 1}")
    chosen = frozenset(range(freeze[0]) if first else freeze)
    if chosen == rest:
        raise UserError(f"--freeze: all {rows} rows are frozen, nothing is left to train")
    return chosen


def untrained(frozen: Iterable[int], report: TransferReport | None) -> list[int]:
    """Those of the `frozen` rows that have new weights, which stay as random as they are: all of them without pretrained weights."""
    if report is None:
        return sorted(frozen)
    return sorted(row.index for row in report.rows if row.index in frozen and (row.new or row.misfits))


def freeze(layers: Sequence[nn.Module], rows: Iterable[int]) -> None:
    """Stop the gradients of `rows` of the model's `layers`."""
    for row in rows:
        layers[row].requires_grad_(requires_grad=False)


def train_mode(model: nn.Module, layers: Sequence[nn.Module], rows: Iterable[int]) -> None:
    """Put `model` into training mode, but the batch norms of the frozen rows into eval, so that their statistics stay."""
    model.train()
    for row in rows:
        for module in layers[row].modules():
            if isinstance(module, _NormBase):
                module.eval()
