"""The batch size that fits a GPU: ``--batch-size -1``."""

from __future__ import annotations

import numpy as np
import torch

from models.detector import Detector
from utils.config import Hyp
from utils.errors import UserError
from utils.log import LOG
from utils.training.amp import Precision
from utils.training.losses.criterion import Criterion, build_criterion

_SHARE = 0.8
_TRIED = (1, 2, 4, 8, 16)
_FALLBACK = 16


def fit_batch_size(model: Detector, hyp: Hyp, imgsz: int, precision: Precision) -> int:
    """Measure the memory of training steps with growing batches, and return the batch size that fills 80 % of the free memory.

    Args:
        model: the detector, on the GPU; its gradients are cleared, its batch-norm statistics restored.
        hyp: of the loss.
        imgsz: the maximum image size of a training batch in pixels.
        precision: as in training.

    Raises:
        UserError: not on CUDA, or not even one image fits.
    """
    if precision.device.type != "cuda":
        raise UserError(f"--batch-size -1 measures the memory of a GPU; on {precision.device.type} set a batch size")
    state = {k: v.clone() for k, v in model.state_dict().items()}
    criterion = build_criterion(model, hyp, imgsz)
    free, _ = torch.cuda.mem_get_info(precision.device)
    used: list[tuple[int, int]] = []  # batch and bytes, which lie on a line
    model.train()
    for batch in _TRIED:
        try:
            used.append((batch, _step_memory(model, criterion, batch, imgsz, precision)))
        except torch.cuda.OutOfMemoryError:
            break
    model.zero_grad(set_to_none=True)
    model.load_state_dict(state)
    torch.cuda.empty_cache()
    if not used:
        raise UserError(f"--batch-size -1: not even one image of {imgsz} pixels fits this GPU; lower --imgsz or choose a smaller model")
    if len(used) == 1:
        return used[0][0]
    slope, offset = np.polyfit([batch for batch, _ in used], [size for _, size in used], 1)
    fitting = int((free * _SHARE - offset) / slope) if slope > 0 else _FALLBACK
    if not 1 <= fitting <= 1024:
        fitting = min(_FALLBACK, used[-1][0])
    LOG.info(f"AutoBatch: batch size {fitting} needs {(offset + slope * fitting) / 2**30:.1f} of {free / 2**30:.1f} GiB free")
    return fitting


def _step_memory(model: torch.nn.Module, criterion: Criterion, batch: int, imgsz: int, precision: Precision) -> int:
    """Peak bytes of a forward and backward pass with 40 boxes per image."""
    device = precision.device
    torch.cuda.reset_peak_memory_stats(device)
    images = torch.rand(batch, 3, imgsz, imgsz, device=device)
    targets = torch.rand(batch * 40, 6, device=device) * 0.5 + 0.1
    targets[:, 0] = torch.arange(batch, device=device).repeat_interleave(40)
    targets[:, 1] = 0
    with precision.autocast():
        maps = model(images)
    criterion(maps, targets)[0].backward()
    model.zero_grad(set_to_none=True)
    return int(torch.cuda.max_memory_reserved(device))
