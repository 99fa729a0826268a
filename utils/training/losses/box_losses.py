"""Box losses by name: ``box_loss:`` of the hyper-parameters.

A name of `PENALTIES`, ``nwd`` or ``wiou-v1`` to ``wiou-v3``; in front of it ``inner-``, ``focal-`` or ``alpha-``, each with or without
its number (``inner1.2-eiou``); or several with weights, ``nwd:0.5+ciou:0.5``.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from utils.distributed import SINGLE, Ranks, sum_over_ranks
from utils.errors import UserError, nearest
from utils.training.losses.box_pairs import EPS, Pairs
from utils.training.losses.penalties import PENALTIES

NWD_PIXELS = 12.8
"""C of NWD: the mean absolute size of AI-TOD's objects in pixels, which the paper takes for every dataset."""
MOMENTUM = 0.01
WISE = ("wiou-v1", "wiou-v2", "wiou-v3")
_MAX_LENGTH = 300
"""Characters; bounds how deep prefixes nest and how many losses are computed."""
_PREFIX = re.compile(r"(alpha|inner|focal)(\d+(?:\.\d+)?)?-(.+)")
_DEFAULTS = {"alpha": 3.0, "inner": 0.7, "focal": 0.5}


class Loss(Protocol):
    """Pairs -> (M,) losses, 0 for equal boxes."""

    def __call__(self, pairs: Pairs) -> Tensor: ...


class Penalized:
    """1 - IoU^a + the sum of penalty^a; a = 1 unless it is an alpha-IoU loss (He et al., NeurIPS 2021)."""

    def __init__(self, name: str, alpha: float = 1.0) -> None:
        self.penalty, self.alpha = PENALTIES[name], alpha

    def __call__(self, pairs: Pairs) -> Tensor:
        terms = self.penalty(pairs)
        if self.alpha == 1:
            return 1 - pairs.iou + sum(terms)
        powered = [(term.clamp(min=0) + EPS) ** self.alpha for term in terms]  # the root of a power below 1 has no gradient at 0
        return 1 - (pairs.iou + EPS) ** self.alpha + sum(powered)


class Inner:
    """`loss` + IoU - IoU of both boxes scaled by `ratio` (Inner-IoU; Zhang et al., arXiv:2311.02877)."""

    def __init__(self, loss: Loss, ratio: float) -> None:
        self.loss, self.ratio = loss, ratio

    def __call__(self, pairs: Pairs) -> Tensor:
        return self.loss(pairs) + pairs.iou - pairs.scaled(self.ratio).iou


class Focal:
    """IoU^gamma times `loss` (Focal-EIoU; Zhang et al., arXiv:2101.08158). The weight has no gradient: IoU^0.5 has none at 0."""

    def __init__(self, loss: Loss, gamma: float) -> None:
        self.loss, self.gamma = loss, gamma

    def __call__(self, pairs: Pairs) -> Tensor:
        return pairs.iou.detach() ** self.gamma * self.loss(pairs)


def nwd(pairs: Pairs) -> Tensor:
    """1 - exp(-W / C), W the Wasserstein distance of the boxes as Gaussians in pixels (Wang et al., arXiv:2110.13389)."""
    squared = pairs.shift.square().sum(1) + pairs.growth.square().sum(1) / 4
    distance = (squared + EPS).sqrt() * pairs.pixels  # a root has no gradient at 0
    return 1 - torch.exp(-distance / NWD_PIXELS)


class WiseIoU:
    """Wise-IoU (Tong et al., arXiv:2301.10051): 1 - IoU times a factor of the centres' distance, and from v2 on a focusing factor.

    The focusing factor compares the loss with the running mean of 1 - IoU: (L / mean)^0.5 in v2; b / (3 * 1.9^(b - 3)), b = L / mean,
    in v3. It is a constant to the gradient, as are the hull and the mean.

    Attributes:
        mean: of 1 - IoU, 1 at the start.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.mean = 1.0
        self.seen = [0.0, 0.0]
        """Sum and number of the losses since `step`."""

    def __call__(self, pairs: Pairs) -> Tensor:
        loss = 1 - pairs.iou
        attention = torch.exp(pairs.shift.square().sum(1) / pairs.diagonal.detach())
        if self.version == "wiou-v1":
            return attention * loss
        beta = loss.detach() / self.mean
        self.seen = [self.seen[0] + float(loss.detach().double().sum()), self.seen[1] + len(loss)]
        focus = beta**0.5 if self.version == "wiou-v2" else beta / (3 * 1.9 ** (beta - 3))
        return focus * attention * loss

    def step(self, device: torch.device, ranks: Ranks) -> None:
        """Move the mean by what was seen on all ranks since the last call."""
        total, count = sum_over_ranks(self.seen, device, ranks)
        self.seen = [0.0, 0.0]
        if count and math.isfinite(total):  # a step with NaN is skipped, the mean would keep it
            self.mean += MOMENTUM * (total / count - self.mean)


class BoxLoss:
    """The sum of weighted losses, as `parse_box_loss` reads them from a name.

    Calling it with pairs returns the (M,) losses, and the (M,) IoU without gradient, 0..1, which heads with an objectness predict.
    For plain ``ciou`` that is the CIoU, as in YOLOv5.
    """

    def __init__(self, name: str, terms: list[tuple[float, Loss]]) -> None:
        self.name, self.terms = name, terms
        self.wise = list(_wise(loss for _, loss in terms))

    def __call__(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        if self.name == "ciou":
            value = functools.reduce(torch.sub, PENALTIES["ciou"](pairs), pairs.iou)
            return 1 - value, value.detach().clamp(min=0)
        loss = torch.stack([weight * loss(pairs) for weight, loss in self.terms]).sum(0)
        return loss, pairs.iou.detach().clamp(0, 1)

    def step(self, device: torch.device, ranks: Ranks = SINGLE) -> None:
        """End a batch of training; every rank calls it. In a validation it is not called, and nothing changes."""
        for wise in self.wise:
            wise.step(device, ranks)

    def state(self) -> list[float]:
        """What carries over from batch to batch, for the checkpoint: the mean of each Wise-IoU."""
        return [wise.mean for wise in self.wise]

    def restore(self, state: Sequence[float]) -> None:
        """Take over what `state` returned; a Wise-IoU that was not there starts from 1."""
        for wise, mean in zip(self.wise, state, strict=False):
            wise.mean = float(mean)


def _wise(losses: Iterable[Loss]) -> Iterator[WiseIoU]:
    for loss in losses:
        if isinstance(loss, WiseIoU):
            yield loss
        elif isinstance(loss, Inner | Focal):
            yield from _wise([loss.loss])


def parse_box_loss(text: str) -> BoxLoss:
    """Read the name of a box loss.

    Raises:
        UserError: unknown, with the nearest known name, or a number or combination that makes no sense.
    """
    if len(text) > _MAX_LENGTH:
        raise UserError(f"box_loss {text[:20]!r}...: {len(text)} characters; at most {_MAX_LENGTH}")
    terms = []
    for part in text.split("+"):
        name, _, weight = part.strip().partition(":")
        terms.append((_number(weight or "1", f"box_loss {text!r}: the weight of {name}"), _parse(name, f"box_loss {text!r}")))
    return BoxLoss(text, terms)


def _parse(name: str, where: str) -> Loss:
    if name in PENALTIES:
        return Penalized(name)
    if name in WISE:
        return WiseIoU(name)
    if name == "nwd":
        return nwd
    match = _PREFIX.fullmatch(name)
    if match is None:
        kinds = [*PENALTIES, "nwd", *WISE]
        near = nearest(name, [*kinds, *(f"{prefix}-{kind}" for prefix in _DEFAULTS for kind in kinds)])
        raise UserError(f"{where}: unknown box loss {name!r}{near}; there are {', '.join(kinds)}, each also after inner- or focal-")
    prefix, rest = match[1], match[3]
    number = _number(match[2] or str(_DEFAULTS[prefix]), f"{where}: the number after {prefix}")
    if prefix == "alpha":
        if rest not in PENALTIES:
            raise UserError(
                f"{where}: alpha is a power of IoU and penalties, of which {rest!r} has none; use one of {', '.join(PENALTIES)}"
            )
        return Penalized(rest, number)
    return (Inner if prefix == "inner" else Focal)(_parse(rest, where), number)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1000:
        raise UserError(f"{what} must be a number above 0, not {text!r}")
    return value
