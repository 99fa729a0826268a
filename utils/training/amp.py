"""Mixed precision: the ``--amp`` flag."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from utils.device import cpu_has_bf16
from utils.errors import UserError
from utils.log import LOG


@dataclasses.dataclass(frozen=True, slots=True)
class Precision:
    """How a training step computes.

    Attributes:
        device: the device.
        dtype: of convolutions and matrix products; None is float32 throughout.
    """

    device: torch.device
    dtype: torch.dtype | None = None

    @property
    def scaled(self) -> bool:
        """Whether gradients would underflow without a loss scale."""
        return self.dtype is torch.float16

    def autocast(self) -> torch.autocast:
        """Return the context in which the model runs."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)


def choose_precision(mode: str, device: torch.device) -> Precision:
    """Return the precision of ``auto``, ``off``, ``bf16`` or ``fp16`` on `device`.

    Raises:
        UserError: the device does not support it.
    """
    kind = device.type
    if mode == "auto":
        return Precision(device, {"cuda": torch.float16, "cpu": torch.bfloat16 if cpu_has_bf16() else None}.get(kind))
    if mode == "bf16" and kind in ("cuda", "cpu"):
        return Precision(device, torch.bfloat16)
    if mode == "fp16" and kind == "cuda":
        return Precision(device, torch.float16)
    if mode == "off":
        return Precision(device)
    raise UserError(f"--amp {mode}: not supported on {kind}; use --amp auto")


@torch.no_grad()
def verified(precision: Precision, model: nn.Module, imgsz: int) -> Precision:
    """Compare float32 and mixed-precision output of `model` on CUDA once, and fall back to float32 where they differ.

    Some GPUs (GTX 16xx) return NaN in float16.
    """
    if precision.device.type != "cuda" or precision.dtype is None:
        return precision
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, imgsz, imgsz, generator=generator).to(precision.device)
    training = model.training
    model.eval()
    exact: Tensor = model(images)
    with precision.autocast():
        mixed: Tensor = model(images)
    model.train(training)
    if bool(mixed.isfinite().all()) and torch.allclose(exact[..., 4:], mixed[..., 4:].float(), atol=0.1):
        return precision
    LOG.warning("mixed precision gives wrong results on this GPU; using float32 (as with --amp off)")
    return Precision(precision.device)
