"""The training loop of one epoch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.data.loading.loader import Batch, Loader
from utils.distributed import gradient_sync, sum_over_ranks
from utils.images.tensors import to_float
from utils.training.fade import set_fade
from utils.training.freeze import train_mode
from utils.training.losses.loss import Terms
from utils.training.nonfinite import AccumulatedBatches, NonFiniteGuard, Verdict
from utils.training.optim import Setting, apply_setting
from utils.training.out_of_memory import OutOfMemoryRetry
from utils.training.state import START, TERMS, OnStep, Position, Report, TrainState, noop

MAX_NORM = 10.0
"""Maximum norm of the gradient of all parameters together."""


def train_one_epoch(
    state: TrainState, loader: Loader, epoch: int, guard: NonFiniteGuard, report: Report, start: Position = START, on_step: OnStep = noop
) -> dict[str, float]:
    """Train for one epoch and return the mean loss terms over its batches and all ranks.

    Gradients still accumulated after the last batch are stepped too, so that only weights, EMA and optimizer state carry over.

    Args:
        state: what is trained.
        loader: the batches of this rank.
        guard: decides about steps with NaN or Inf values.
        report: called after each batch; on a GPU, which it waits for, after every tenth.
        start: where to begin, after an optimizer step or at the start.
        on_step: called after each optimizer step; what it raises ends the epoch there.

    Raises:
        UserError: steps stay non-finite, or a batch does not fit into memory.
    """
    train_mode(state.model, state.layers, state.frozen)
    run_or_recompute, accumulated, steps = OutOfMemoryRetry(state), AccumulatedBatches(epoch), len(loader)
    sums = torch.tensor(start.sums, dtype=torch.float32, device=state.precision.device)
    interval = 10 if sums.is_cuda else 1
    for number, batch in enumerate(loader.epoch(epoch, start.batch), start.batch):
        setting = _begin_batch(state, epoch, number, steps)
        last = number + 1 == steps
        due = last or len(accumulated) + 1 >= setting.accumulate
        if not accumulated:
            guard.save_buffers()
        images, targets = prepare(batch, state, epoch, number)

        def forward_backward(images: Tensor, targets: Tensor) -> tuple[Tensor, Terms]:
            with state.precision.autocast():
                maps = state.wrapped(images)
            loss, terms = state.criterion(maps, targets)
            state.scaler.scale(loss).backward()
            return loss.detach(), terms

        with gradient_sync(state.wrapped, enabled=due):
            loss, terms = run_or_recompute(forward_backward, images, targets, f"epoch {epoch}, batch {number}")
        accumulated.batches.append((number, batch.paths, loss))
        values = torch.stack([terms[t] for t in TERMS])
        sums += torch.where(values.isfinite().all(), values, sums / max(number, 1))  # a non-finite batch counts as the mean so far
        if due:
            state.scaler.unscale_(state.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(state.parameters(), MAX_NORM, foreach=True)
            verdict = guard.check(accumulated, norm)
            if verdict is Verdict.TAKE:  # a fused SGD whose first step the scaler skips would start from undefined momentum
                state.scaler.step(state.optimizer)
            if verdict is not Verdict.SKIP:
                state.scaler.update()
                state.optimizer.zero_grad(set_to_none=True)
                state.ema.update()
            accumulated.batches.clear()
        if number < interval or number % interval == 0 or last:
            report(number, (sums * state.ranks.world_size / (number + 1)).tolist(), batch, images.shape[-1])
        if due:
            on_step(number + 1, sums)
    return dict(zip(TERMS, sum_over_ranks((sums / steps).tolist(), sums.device, state.ranks), strict=True))


def _begin_batch(state: TrainState, epoch: int, number: int, steps: int) -> Setting:
    """Bring everything that is a function of the batch's number to it."""
    # dropout is a function of the batch, in a resumed run too
    torch.manual_seed(int(np.random.default_rng((state.seed, epoch, number, state.ranks.rank)).integers(2**63)))
    setting = state.schedule.at(epoch * steps + number, epoch)
    apply_setting(state.optimizer, setting)
    set_fade(state.gates, state.schedule.fade(epoch * steps + number))
    return setting


def prepare(batch: Batch, state: TrainState, epoch: int, number: int) -> tuple[Tensor, Tensor]:
    """Bring images and targets to the device: (B, 3, H, W) channels-last values in 0..1, at a random size with multi-scale, and (n, 6).

    The values are in the precision in which the first convolution reads them: 0..255 is exact in each.
    """
    device, stride = state.precision.device, state.stride
    targets = batch.targets.to(device, non_blocking=True)
    images = to_float(batch.images, device, state.precision.dtype or torch.float32)
    if not state.multi_scale:
        return images, targets
    rng = np.random.default_rng([state.seed, epoch, number])
    low, high = max(state.imgsz // 2 // stride, 2), state.imgsz * 3 // 2 // stride
    ratio = int(rng.integers(low, high + 1)) * stride / max(images.shape[2:])
    shape = [max(round(side * ratio / stride), 1) * stride for side in images.shape[2:]]
    return F.interpolate(images, shape, mode="bilinear", align_corners=False), targets
