"""A training step that does not fit into memory: computed again in another way, with the same result.

The first way is recomputation: only what passes from row to row is kept, and a row's inside is computed once more in the
backward pass (Chen et al., 2016), on the whole batch and hence to the same bits. Where that is not enough, the batch passes in
parts. Each part's loss is its share of the whole batch's, so that the gradients add up to the same; but batch norm then takes
its statistics over the images of a part.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from utils.errors import UserError
from utils.training.buffer_snapshot import Buffers
from utils.training.tensor_lists import add_lists

if TYPE_CHECKING:
    from utils.training.engine import Trainee
    from utils.training.losses.loss import Terms

_SIGNS = ("not enough memory", "DefaultCPUAllocator", "out of memory")
"""What errors say that are not of a type of their own."""


@dataclasses.dataclass(slots=True)
class Fitting:
    """How a step's forward and backward pass are made to fit; what once did not fit is not tried again in the run.

    Attributes:
        recompute: rows are computed again in the backward pass.
        parts: parts that a batch passes in.
    """

    recompute: bool = False
    parts: int = 1


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, of the GPU or the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def backward(trainee: Trainee, images: Tensor, targets: Tensor, where: str) -> tuple[Tensor, Terms]:
    """Add the gradients of a batch to those there are, in a way that fits; return the loss and its terms.

    A try that fails leaves weights, gradients, buffers and random state as they were.

    Args:
        trainee: a single process.
        images: (B, 3, H, W) on the device.
        targets: (n, 6) on the device.
        where: the batch, in words.

    Raises:
        UserError: not even image by image does the batch fit.
    """
    parameters = trainee.parameters()
    aside = [p.grad for p in parameters]
    trainee.before.keep()
    while True:
        for p in parameters:
            p.grad = None
        try:
            loss, terms = _attempt(trainee, images, targets)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200]
        else:
            _add(parameters, aside)
            return loss, terms
        # only now, outside the handler, is nothing left that holds the failed try's tensors
        trainee.before.put_back()
        torch.manual_seed(torch.initial_seed())
        if images.is_cuda:
            torch.cuda.empty_cache()
        _tighten(trainee, len(images), reason, where)


def backward_together(trainee: Trainee, images: Tensor, targets: Tensor, where: str) -> tuple[Tensor, Terms]:
    """Add the gradients of this rank's share of a batch. The other ranks cannot be asked to try again, so there is one try.

    Raises:
        UserError: it does not fit into memory.
    """
    try:
        return _pass(trainee, images, targets)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"out of memory in {where}, on rank {trainee.ranks.rank} ({' '.join(str(error).split())[:200]}): lower --batch-size or "
            "--imgsz, or train on one GPU, where a batch that does not fit is computed in parts"
        ) from error


def _add(parameters: list[nn.Parameter], aside: list[Tensor | None]) -> None:
    """Add the gradients put `aside` to the new ones, in the order in which autograd would."""
    both = [(old, p.grad) for p, old in zip(parameters, aside, strict=True) if old is not None and p.grad is not None]
    if both:
        add_lists([old for old, _ in both], [new for _, new in both])
    for p, old in zip(parameters, aside, strict=True):
        if old is not None:
            p.grad = old


def _attempt(trainee: Trainee, images: Tensor, targets: Tensor) -> tuple[Tensor, Terms]:
    parts = min(trainee.fitting.parts, len(images))
    if parts == 1:
        return _pass(trainee, images, targets)
    first, done, states = 0, list[tuple[Tensor, "Terms"]](), list[tuple[float, list[Tensor]]]()
    for part in images.tensor_split(parts):
        trainee.before.put_back()
        mine = targets[(targets[:, 0] >= first) & (targets[:, 0] < first + len(part))]
        mine[:, 0] -= first
        first += len(part)
        done.append(_pass(trainee, part, mine, whole=(len(images), targets)))
        states.append((len(part) / len(images), [b.clone() for b in trainee.before.floating()]))
    trainee.before.mix(states)  # what one pass does to the running mean; to the variance nearly
    losses, terms = zip(*done, strict=True)
    return torch.stack(losses).sum(), {name: torch.stack([t[name] for t in terms]).sum() for name in terms[0]}


def _pass(trainee: Trainee, images: Tensor, targets: Tensor, whole: tuple[int, Tensor] | None = None) -> tuple[Tensor, Terms]:
    """One forward and backward pass; `whole` is number of images and targets of the batch that `images` are a part of."""
    recompute = trainee.fitting.recompute
    with trainee.precision.autocast(), recomputed(trainee.layers) if recompute else contextlib.nullcontext():
        maps = (trainee.model if recompute else trainee.parallel)(images)
    counts = trainee.criterion.counts(*whole, maps) if whole else None
    loss, terms = trainee.criterion(maps, targets, counts)
    if not recompute:
        trainee.scaler.scale(loss).backward()
        return loss.detach(), terms
    after = Buffers(trainee.model)
    trainee.scaler.scale(loss).backward()
    after.put_back()  # the statistics took in the same images twice
    return loss.detach(), terms


@contextlib.contextmanager
def recomputed(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Within, the `layers` keep no activations of their inside and compute them again in the backward pass."""
    for layer in layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own comes to light again


def _tighten(trainee: Trainee, images: int, reason: str, where: str) -> None:
    """Choose the next way to make a batch of so many `images` fit, and record it."""
    fitting = trainee.fitting
    if not fitting.recompute:
        fitting.recompute = True
        way = "from now on the backward pass computes activations anew: the result stays, and a step takes about a third longer"
    elif fitting.parts < images:
        fitting.parts = min(fitting.parts * 2, images)
        way = (
            f"from now on a batch passes in {fitting.parts} parts: the gradients are still the whole batch's, "
            "but batch norm takes its statistics over the images of a part"
        )
    else:
        raise UserError(f"out of memory in {where}, even image by image ({reason}): lower --imgsz or take a smaller model")
    facts = {"where": where, "recompute": fitting.recompute, "parts": fitting.parts, "reason": reason}
    trainee.events.record("out of memory", f"out of memory in {where}; {way}", **facts)
