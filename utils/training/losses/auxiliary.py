"""The loss of a head with auxiliary predictions (YOLOv7; Wang et al., CVPR 2023, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from utils.training.losses.assigners import Assignment
from utils.training.losses.box_pairs import Pairs
from utils.training.losses.loss import DetectionLoss, Terms

_SHARE = 0.25
_FINE, _COARSE = (0.5, 10), (1.0, 20)
"""Reach of the candidates in cells, and number of IoUs that say how many an object takes: of the lead, of the auxiliary predictions."""
_BOX_COST = 3.0


class AuxiliaryLoss(DetectionLoss):
    """`DetectionLoss` of the lead's maps, plus a quarter of the same of the auxiliary ones, which are there in training only.

    Args:
        guided: assign both by the lead's predictions, the auxiliary ones coarsely and the lead finely; else by anchor ratio.
        others: as in `DetectionLoss`.
    """

    def __init__(self, *args: Any, guided: bool, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.guided = guided

    def __call__(self, maps: Sequence[Tensor], targets: Tensor) -> tuple[Tensor, Terms]:
        levels = len(self.head.anchors)
        lead, auxiliary = maps[:levels], maps[levels:]
        total, terms = self.total(lead, self.assign(lead, targets, *_FINE))
        if not auxiliary:
            return total, terms
        extra, more = self.total(auxiliary, self.assign(lead, targets, *_COARSE))
        return total + _SHARE * extra, {name: term + _SHARE * more[name] for name, term in terms.items()}

    @torch.no_grad()
    def assign(self, lead: Sequence[Tensor], targets: Tensor, reach: float, count: int) -> list[Assignment]:
        """Of the cells and anchors that fit an object by anchor ratio take as many as the sum of its `count` best IoUs, of least cost.

        The cost is, as in SimOTA, class BCE + 3 * -log IoU of the lead's predictions, the probability of a class being the root of its
        product with the objectness. Of several objects that choose the same prediction the one of least cost keeps it.

        Args:
            lead: one raw map per level, (B, A, ny, nx, 5 + K).
            targets: (n, 6) image, class, then cx, cy, w, h in 0..1.
            reach: of the candidates, see `assigners.assign`; 0.5 gives up to three cells, 1 up to five.
            count: of the IoUs.
        """
        candidates = self.candidates(lead, targets, reach if self.guided else 0.5)
        if not self.guided:
            return candidates
        known = [self._overlap_and_cost(raw, match, i) for i, (raw, match) in enumerate(zip(lead, candidates, strict=True))]
        overlap, cost = (torch.cat(values) for values in zip(*known, strict=True))
        target = torch.cat([match.target for match in candidates])
        best = overlap * (_rank(-overlap, target) < count)
        wanted = overlap.new_zeros(len(targets)).index_add_(0, target, best).int().clamp(min=1)
        chosen = _rank(cost, target) < wanted[target]
        start = [sum(raw[..., 0].numel() for raw in lead[:i]) for i in range(len(lead))]
        place = torch.cat([_place(raw, match) + first for raw, match, first in zip(lead, candidates, start, strict=True)])
        rivals = torch.where(chosen, cost, torch.inf)
        least = cost.new_full((sum(raw[..., 0].numel() for raw in lead),), torch.inf).scatter_reduce_(0, place, rivals, "amin")
        kept = (chosen & (cost == least[place])).split([len(match.cls) for match in candidates])
        return [Assignment(*(field[mask] for field in match)) for match, mask in zip(candidates, kept, strict=True)]

    def _overlap_and_cost(self, raw: Tensor, match: Assignment, level: int) -> tuple[Tensor, Tensor]:
        """(M,) IoU of the predicted boxes with their targets, and cost."""
        rows = raw[match.image, match.anchor, match.row, match.column].float()
        overlap = Pairs(self.decode(rows, match, level), match.box.to(rows)).iou
        p = (rows[:, 4:5].sigmoid() * rows[:, 5:].sigmoid()).sqrt().clamp(1e-7, 1 - 1e-7)
        own = p.gather(1, match.cls[:, None])[:, 0]
        classes = torch.log1p(-own) - torch.log(own) - torch.log1p(-p).sum(1)
        return overlap, classes - _BOX_COST * torch.log(overlap + 1e-8)


def _place(raw: Tensor, match: Assignment) -> Tensor:
    """(M,) index of the cell and anchor in the map."""
    _, A, ny, nx, _ = raw.shape
    return ((match.image * A + match.anchor) * ny + match.row) * nx + match.column


def _rank(values: Tensor, group: Tensor) -> Tensor:
    """(M,) how many values of the same group are smaller."""
    order = values.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    counts = torch.bincount(group)
    first = (counts.cumsum(0) - counts)[group[order]]
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device) - first)
