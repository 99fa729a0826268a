"""Losses of heads without anchors: with objectness (YOLOX), and with distributions in its place (YOLOv8).

Letters: B images, N cells of all levels, K classes, R bins of a distribution, P cells that predict an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.boxes import cxcywh_to_xyxy
from utils.config import Hyp
from utils.distributed import SINGLE, Ranks, sum_over_ranks
from utils.training.losses.box_losses import parse_box_loss
from utils.training.losses.box_pairs import Pairs
from utils.training.losses.class_losses import ClassLoss
from utils.training.losses.loss import Gather, Terms
from utils.training.losses.point_assigners import POINT_ASSIGNERS, one_hot
from utils.training.losses.scene import PointTargets, Scene, padded


class PointHead(Protocol):
    """What the losses read of a head."""

    classes: int
    stride: Tensor
    """(levels,) pixels per cell."""

    def boxes(self, raw: Tensor, cells: Tensor, stride: Tensor) -> Tensor:
        """(..., outputs) raw, (..., 2) centres of the cells in cells, (..., 1) pixels per cell -> (..., 4) cx, cy, w, h in pixels."""
        ...


class DistributionHead(PointHead, Protocol):
    """What `DistributionLoss` reads."""

    reg_max: int


class PointLoss:
    """What both losses share: decoding, assignment, the box loss, and sums over ranks.

    Args:
        head: the model's head.
        hyp: names and gains of the losses.
        assigner: name of the assigner.
        label_smoothing: epsilon; class targets t become t * (1 - epsilon) + epsilon / 2.
        ranks: the processes that share the global batch, see `DetectionLoss`.
    """

    def __init__(self, head: PointHead, hyp: Hyp, assigner: str, *, label_smoothing: float = 0.0, ranks: Ranks = SINGLE) -> None:
        self.head, self.hyp, self.ranks, self.smoothing = head, hyp, ranks, label_smoothing
        self.assign = POINT_ASSIGNERS[assigner]
        self.box_loss = parse_box_loss(hyp.box_loss)
        self.obj_loss = ClassLoss(hyp.obj_loss, hyp.obj_pw, hyp.fl_gamma)
        self.cls_loss = ClassLoss(hyp.cls_loss, hyp.cls_pw, hyp.fl_gamma)

    def flat(self, maps: Sequence[Tensor]) -> Tensor:
        """Raw maps -> (B, N, outputs) float32."""
        raise NotImplementedError

    def terms(self, raw: Tensor, scene: Scene, found: PointTargets) -> Terms:
        """The weighted terms box, obj and cls, not detached."""
        raise NotImplementedError

    def __call__(self, maps: Sequence[Tensor], targets: Tensor) -> tuple[Tensor, Terms]:
        """Return the scalar to run backward from, and its weighted terms "box", "obj", "cls", detached; see `Criterion`."""
        raw = self.flat([m.float() for m in maps])
        sizes = [(m.shape[2], m.shape[3]) for m in maps]
        points, strides = self.cells(sizes, raw.device)
        size = torch.tensor(sizes[0][::-1], device=raw.device) * self.head.stride[0]
        objects, classes, exists = padded(targets, len(raw), size)
        with torch.no_grad():
            boxes = self.head.boxes(raw, points / strides[:, None], strides[:, None])
            scene = Scene(points, strides, self.scores(raw), cxcywh_to_xyxy(boxes), objects, classes, exists)
            found = self.assign(scene)
        images = sum_over_ranks([len(raw)], raw.device, self.ranks)[0]
        terms = self.terms(raw, scene, found)
        if torch.is_grad_enabled():
            self.box_loss.step(raw.device, self.ranks)
        total = (terms["box"] + terms["obj"] + terms["cls"]) * (images * self.ranks.world_size)
        return total, {name: term.detach() for name, term in terms.items()}

    def scores(self, raw: Tensor) -> Tensor:
        """(B, N, outputs) -> (B, N, K) class probabilities for the assigner."""
        raise NotImplementedError

    def cells(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
        """Centres (N, 2) and strides (N,) of all cells in pixels."""
        points, strides = [], []
        for (height, width), stride in zip(sizes, self.head.stride, strict=True):
            y, x = torch.meshgrid(*(torch.arange(n, device=device) + 0.5 for n in (height, width)), indexing="ij")
            points.append(torch.stack((x, y), 2).view(-1, 2) * stride)
            strides.append(stride.expand(height * width))
        return torch.cat(points), torch.cat(strides)

    def boxes(self, rows: Tensor, scene: Scene, match: Matched) -> Tensor:
        """The losses (P,) of the boxes that the rows (P, outputs) predict."""
        stride = scene.strides[match.cell][:, None]
        decoded = self.head.boxes(rows, scene.points[match.cell] / stride, stride)
        goal = match.goal
        cxcywh = torch.cat(((goal[:, :2] + goal[:, 2:]) / 2, goal[:, 2:] - goal[:, :2]), 1)
        last = scene.points[-1] + scene.strides[-1] / 2
        return self.box_loss(Pairs(decoded, cxcywh, 1.0, (float(last[0]), float(last[1]))))[0]

    def class_targets(self, match: Matched) -> Tensor:
        """(P, K): the quality at the object's class."""
        hot = one_hot(match.cls, self.head.classes)
        return hot * match.quality[:, None] * (1 - self.smoothing) + self.smoothing / 2


class Matched(NamedTuple):
    """The P cells that predict an object."""

    image: Tensor
    """(P,) index of the image in the batch."""
    cell: Tensor
    """(P,) index of the cell."""
    goal: Tensor
    """(P, 4) xyxy of the object in pixels."""
    cls: Tensor
    """(P,) its class."""
    quality: Tensor
    """(P,) in 0..1."""

    @classmethod
    def of(cls, scene: Scene, found: PointTargets) -> Self:
        """The cells with an owner."""
        image, cell = (found.owner >= 0).nonzero(as_tuple=True)
        owner = found.owner[image, cell]
        return cls(image, cell, scene.objects[image, owner], scene.classes[image, owner], found.quality[image, cell])


class ObjectnessLoss(PointLoss):
    """YOLOX's loss: boxes, objectness of every cell, and classes of the cells that predict an object, whose targets are the IoU; each
    divided by the number of these cells. At the default hyper-parameters the gains are YOLOX's 5, 1 and 1.
    """

    def flat(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([m.flatten(1, 3) for m in maps], 1)

    def scores(self, raw: Tensor) -> Tensor:
        return (raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()).sqrt()

    def terms(self, raw: Tensor, scene: Scene, found: PointTargets) -> Terms:
        match = Matched.of(scene, found)
        objectness, rows = Gather.apply(raw, 4, match.image, match.cell)
        number = max(sum_over_ranks([float(len(rows))], raw.device, self.ranks)[0], 1.0)
        cls = self.cls_loss(rows[:, 5:], self.class_targets(match), match.quality[:, None])
        return {
            "box": self.boxes(rows, scene, match).sum() * (100 * self.hyp.box / number),
            "obj": self.obj_loss(objectness, (found.owner >= 0).float(), found.quality).sum() * (self.hyp.obj / number),
            "cls": cls.sum() * (2 * self.hyp.cls / number),
        }


class DistributionLoss(PointLoss):
    """YOLOv8's loss: boxes and distributions of the cells that predict an object, weighted by their quality, and classes of every cell,
    whose target is the quality; each divided by the sum of qualities. There is no objectness, and its term is 0; the distributions count
    in the box term. At the default hyper-parameters the gains are YOLOv8's 7.5, 1.5 and 0.5.
    """

    head: DistributionHead

    def flat(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)

    def scores(self, raw: Tensor) -> Tensor:
        return raw[..., 4 * self.head.reg_max :].sigmoid()

    def terms(self, raw: Tensor, scene: Scene, found: PointTargets) -> Terms:
        match, sides = Matched.of(scene, found), 4 * self.head.reg_max
        classes, rows = Gather.apply(raw, slice(sides, None), match.image, match.cell)
        total = max(sum_over_ranks([float(found.quality.sum())], raw.device, self.ranks)[0], 1.0)
        points = scene.points[match.cell]
        corners = torch.cat((points - match.goal[:, :2], match.goal[:, 2:] - points), 1)
        dfl = self.distribution(rows[:, :sides], corners / scene.strides[match.cell][:, None])
        box = self.boxes(rows, scene, match)
        return {
            "box": (box * match.quality).sum() * (150 * self.hyp.box / total) + (dfl * match.quality).sum() * (30 * self.hyp.box / total),
            "obj": raw.new_zeros(()),
            "cls": self.classes(classes, rows[:, sides:], match, found) * (self.hyp.cls / total),
        }

    def classes(self, logits: Tensor, rows: Tensor, match: Matched, found: PointTargets) -> Tensor:
        """The sum of the class losses of every cell, (B, N, K), of which `rows` (P, K) predict an object."""
        wanted, background = self.class_targets(match), self.smoothing / 2
        if self.cls_loss.plain:  # the cross-entropy is softplus(logit) - logit * target, and most targets are the same
            rest = background * logits.sum() if background else 0.0
            return F.softplus(logits).sum() - (rows * (wanted - background)).sum() - rest
        target = torch.full_like(logits, background)
        target[match.image, match.cell] = wanted
        return self.cls_loss(logits, target, found.quality[..., None]).sum()

    def distribution(self, logits: Tensor, distances: Tensor) -> Tensor:
        """Distribution focal loss (Li et al., NeurIPS 2020): (P, 4 R) and (P, 4) distances in cells -> (P,), the mean over the sides."""
        bins = self.head.reg_max
        wanted = distances.clamp(0, bins - 1 - 0.01)
        low = wanted.long()
        share = low + 1 - wanted
        logits = logits.view(-1, 4, bins).transpose(1, 2)
        below, above = (F.cross_entropy(logits, index, reduction="none") for index in (low, low + 1))
        return (below * share + above * (1 - share)).mean(1)
