"""Assigners of heads without anchors: which cell predicts which object. All take whole batches.

Letters: as in `scene`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.geometry import iou
from utils.training.losses.scene import Assigner, PointTargets, Scene, at_owner, both_below, resolve

TOP, ALPHA, BETA = 10, 0.5, 6.0
"""Of `task_aligned`."""
RADIUS, CANDIDATES, BOX_COST, OUTSIDE_COST = 2.5, 10, 3.0, 1e5
"""Of `simota`."""
ATSS_TOP, ATSS_SIDE = 9, 5.0
"""Of `atss`: cells a level, and the side of the square that stands for a cell in strides."""


@torch.no_grad()
def task_aligned(scene: Scene) -> PointTargets:
    """TOOD's assignment (Feng et al., ICCV 2021): the 10 cells inside an object of largest alignment score^0.5 * IoU^6.

    A cell that several objects choose predicts the one it overlaps most. Its quality is the alignment, scaled so that an object's best
    cell has the object's largest IoU.
    """
    scores = scene.scores.transpose(1, 2).gather(1, scene.classes[..., None].expand(-1, -1, scene.scores.shape[1]))
    alignment = scores**ALPHA * scene.ious**BETA * scene.inside
    chosen = _top(torch.where(scene.inside, alignment, -1.0), TOP) & scene.inside
    owner = resolve(chosen, scene.ious)
    own = chosen & (owner[:, None] == torch.arange(chosen.shape[1], device=owner.device)[:, None])
    best, overlap = ((values * own).amax(2, keepdim=True) for values in (alignment, scene.ious))
    return PointTargets(owner, at_owner(alignment * overlap / (best + 1e-9), owner))


@torch.no_grad()
def simota(scene: Scene) -> PointTargets:
    """YOLOX's assignment (Ge et al., arXiv:2107.08430): an object takes as many cells as the sum of its 10 best IoUs, of least cost.

    The cost is the class BCE + 3 * -log IoU, and 1e5 for a cell that is not both inside the object and within 2.5 strides of its centre;
    one that is neither is not taken. A cell that several objects choose predicts the one of least cost.
    """
    near = both_below(scene.offsets, RADIUS * scene.strides[:, None]) & scene.exists[..., None]
    allowed, both = near | scene.inside, near & scene.inside
    p = scene.scores.clamp(1e-7, 1 - 1e-7)
    own = p.transpose(1, 2).gather(1, scene.classes[..., None].expand(-1, -1, p.shape[1]))
    change = torch.log1p(-own) - torch.log(own)  # from the BCE at target 0 to that at target 1
    cost = change - torch.log1p(-p).sum(2)[:, None] - BOX_COST * torch.log(scene.ious + 1e-8) + OUTSIDE_COST * ~both
    cost = torch.where(allowed, cost, torch.inf)
    count = min(CANDIDATES, cost.shape[2])
    wanted = torch.where(allowed, scene.ious, 0.0).topk(count, 2).values.sum(2).int().clamp(min=1)
    order = cost.topk(count, 2, largest=False).indices
    picked = torch.arange(count, device=cost.device) < wanted[..., None]
    chosen = torch.zeros_like(allowed).scatter_(2, order, picked) & allowed
    owner = resolve(chosen, -cost)
    return PointTargets(owner, at_owner(scene.ious, owner))


@torch.no_grad()
def atss(scene: Scene) -> PointTargets:
    """ATSS (Zhang et al., CVPR 2020): of the 9 nearest cells of each level those inside the object whose square overlaps it by at least
    the mean plus the standard deviation over all of these.

    A cell that several objects choose predicts the one that its square overlaps most. Its quality is the IoU of its predicted box.
    """
    half = scene.strides[:, None] * (ATSS_SIDE / 2)
    squares = torch.cat((scene.points - half, scene.points + half), 1)
    overlaps = iou(scene.objects[:, :, None], squares)
    distance = scene.offsets.square().sum(-1)
    candidates = torch.zeros_like(overlaps, dtype=torch.bool)
    for stride in scene.strides.unique():
        level = (scene.strides == stride).nonzero().squeeze(1)
        candidates[..., level] = _top(-distance[..., level], ATSS_TOP)
    number = candidates.sum(2, keepdim=True)
    mean = (overlaps * candidates).sum(2, keepdim=True) / number
    deviation = (((overlaps - mean).square() * candidates).sum(2, keepdim=True) / (number - 1).clamp(min=1)).sqrt()
    chosen = candidates & (overlaps >= mean + deviation) & scene.inside
    owner = resolve(chosen, overlaps)
    return PointTargets(owner, at_owner(scene.ious, owner))


def _top(values: Tensor, count: int) -> Tensor:
    """Where the `count` largest values of the last axis are."""
    index = values.topk(min(count, values.shape[-1]), -1).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter_(-1, index, value=True)


POINT_ASSIGNERS: dict[str, Assigner] = {"task-aligned": task_aligned, "simota": simota, "atss": atss}
"""By the names that ``assigner`` takes."""


def one_hot(classes: Tensor, count: int) -> Tensor:
    """(...) class indices -> (..., count) float32."""
    return F.one_hot(classes, count).float()
