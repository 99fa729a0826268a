"""Several detectors as one: their predictions are concatenated before NMS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from utils.errors import UserError
from utils.log import LOG

if TYPE_CHECKING:
    from models.detector import Detector
    from utils.inference.runtimes.exported import ExportedModel


class Ensemble(nn.Module):
    """Detectors of the same classes, run one after the other.

    Args:
        models: at least one; class names come from the first.

    Shape:
        (B, 3, H, W) -> (B, N, 5 + nc), N being the sum of the models' own; H and W are multiples of `max_stride`

    Raises:
        UserError: the models have different numbers of classes.
    """

    def __init__(self, models: Sequence[Detector | ExportedModel]) -> None:
        super().__init__()
        assert models
        first = models[0]
        for number, model in enumerate(models[1:], 2):
            if model.nc != first.nc:
                raise UserError(
                    f"an ensemble needs models of the same classes: model 1 has {first.nc} of them, model {number} has {model.nc}"
                )
            if model.ch != first.ch:
                raise UserError(f"an ensemble needs models of equal channels: model 1 has {first.ch} channels, model {number} {model.ch}")
            if model.names != first.names:
                LOG.warning("model %d of the ensemble names its classes differently; the names of model 1 are used", number)
        fixed = {model.fixed_shape for model in models if model.fixed_shape}
        if len(fixed) > 1:
            raise UserError(f"an ensemble needs models of the same images; its files are fixed to {' and '.join(map(str, sorted(fixed)))}")
        self.models = nn.ModuleList(models)
        self.members = len(models)
        self.fixed_shape: tuple[int, int] | None = next(iter(fixed), None)
        self.device: torch.device = first.device
        self.names: dict[int, str] = first.names
        self.nc: int = first.nc
        self.ch: int = first.ch
        self.max_stride: int = max(model.max_stride for model in models)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions of all models, decoded: cx, cy, w, h in pixels of x, objectness, classes."""
        return torch.cat([model(x) for model in self._members()], 1)

    def augmented(self, x: Tensor) -> Tensor:
        """The same with test-time augmentation."""
        return torch.cat([model.augmented(x) for model in self._members()], 1)

    def _members(self) -> list[Detector | ExportedModel]:
        return [cast("Detector | ExportedModel", model) for model in self.models]


def join(models: Sequence[Detector | ExportedModel]) -> Detector | ExportedModel | Ensemble:
    """One detector unchanged, several as an `Ensemble`."""
    return models[0] if len(models) == 1 else Ensemble(models)
