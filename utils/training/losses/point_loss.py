"""Losses of heads without anchors: with objectness (YOLOX), and with distributions in its place (YOLOv8).

Letters: B images, N cells of all levels, K classes, R bins of a distribution, P cells that predict an object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.boxes import cxcywh_to_xyxy
from utils.config import Hyp
from utils.distributed import SINGLE, Ranks, sum_over_ranks
from utils.training.losses.box_losses import parse_box_loss
from utils.training.losses.box_pairs import Pairs
from utils.training.losses.class_losses import ClassLoss
from utils.training.losses.loss import Terms
from utils.training.losses.point_assigners import POINT_ASSIGNERS, one_hot
from utils.training.losses.scene import PointTargets, Scene, padded


class PointHead(Protocol):
    """What the losses read of a head."""

    classes: int
    stride: Tensor
    """(levels,) pixels per cell."""

    def decode(self, maps: Sequence[Tensor]) -> Tensor:
        """Raw maps -> (B, N, 5 + K) cx, cy, w, h in pixels, objectness, class probabilities."""
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

    def terms(self, raw: Tensor, decoded: Tensor, scene: Scene, found: PointTargets) -> Terms:
        """The weighted terms box, obj and cls, not detached."""
        raise NotImplementedError

    def __call__(self, maps: Sequence[Tensor], targets: Tensor) -> tuple[Tensor, Terms]:
        """Return the scalar to run backward from, and its weighted terms "box", "obj", "cls", detached; see `Criterion`."""
        maps = [m.float() for m in maps]
        raw, decoded = self.flat(maps), self.head.decode(maps)
        sizes = [(m.shape[2], m.shape[3]) for m in maps]
        points, strides = self.cells(sizes, raw.device)
        size = torch.tensor(sizes[0][::-1], device=raw.device) * self.head.stride[0]
        objects, classes, exists = padded(targets, len(raw), size)
        with torch.no_grad():
            scene = Scene(points, strides, self.scores(decoded), cxcywh_to_xyxy(decoded[..., :4]), objects, classes, exists)
            found = self.assign(scene)
        images = sum_over_ranks([len(raw)], raw.device, self.ranks)[0]
        terms = self.terms(raw, decoded, scene, found)
        if torch.is_grad_enabled():
            self.box_loss.step(raw.device, self.ranks)
        total = (terms["box"] + terms["obj"] + terms["cls"]) * (images * self.ranks.world_size)
        return total, {name: term.detach() for name, term in terms.items()}

    def scores(self, decoded: Tensor) -> Tensor:
        """(B, N, K) class probabilities for the assigner."""
        return decoded[..., 5:]

    def cells(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
        """Centres (N, 2) and strides (N,) of all cells in pixels."""
        points, strides = [], []
        for (height, width), stride in zip(sizes, self.head.stride, strict=True):
            y, x = torch.meshgrid(*(torch.arange(n, device=device) + 0.5 for n in (height, width)), indexing="ij")
            points.append(torch.stack((x, y), 2).view(-1, 2) * stride)
            strides.append(stride.expand(height * width))
        return torch.cat(points), torch.cat(strides)

    def boxes(self, decoded: Tensor, scene: Scene, found: PointTargets) -> tuple[Tensor, Tensor, Tensor]:
        """Where cells predict an object (B, N), the losses (P,) of their boxes, and the boxes (P, 4) they should be, xyxy."""
        positive = found.owner >= 0
        image = positive.nonzero()[:, 0]
        goal = scene.objects[image, found.owner[positive]]
        cxcywh = torch.cat(((goal[:, :2] + goal[:, 2:]) / 2, goal[:, 2:] - goal[:, :2]), 1)
        last = scene.points[-1] + scene.strides[-1] / 2
        loss, _ = self.box_loss(Pairs(decoded[positive][:, :4], cxcywh, 1.0, (float(last[0]), float(last[1]))))
        return positive, loss, goal

    def class_targets(self, scene: Scene, found: PointTargets, positive: Tensor) -> Tensor:
        """(P, K): the quality at the object's class."""
        image = positive.nonzero()[:, 0]
        hot = one_hot(scene.classes[image, found.owner[positive]], self.head.classes)
        return hot * found.quality[positive][:, None] * (1 - self.smoothing) + self.smoothing / 2


class ObjectnessLoss(PointLoss):
    """YOLOX's loss: boxes, objectness of every cell, and classes of the cells that predict an object, whose targets are the IoU; each
    divided by the number of these cells. At the default hyper-parameters the gains are YOLOX's 5, 1 and 1.
    """

    def flat(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([m.flatten(1, 3) for m in maps], 1)

    def scores(self, decoded: Tensor) -> Tensor:
        return (decoded[..., 4:5] * decoded[..., 5:]).sqrt()

    def terms(self, raw: Tensor, decoded: Tensor, scene: Scene, found: PointTargets) -> Terms:
        positive, box, _ = self.boxes(decoded, scene, found)
        number = max(sum_over_ranks([float(positive.sum())], raw.device, self.ranks)[0], 1.0)
        cls = self.cls_loss(raw[positive][:, 5:], self.class_targets(scene, found, positive), found.quality[positive][:, None])
        return {
            "box": box.sum() * (100 * self.hyp.box / number),
            "obj": self.obj_loss(raw[..., 4], positive.float(), found.quality).sum() * (self.hyp.obj / number),
            "cls": cls.sum() * (2 * self.hyp.cls / number),
        }


class DistributionLoss(PointLoss):
    """YOLOv8's loss: boxes and distributions of the cells that predict an object, weighted by their quality, and classes of every cell,
    whose target is the quality; each divided by the sum of qualities. There is no objectness, and its term is 0; the distributions count
    in the box term. At the default hyper-parameters the gains are YOLOv8's 7.5, 1.5 and 0.5.
    """

    head: DistributionHead

    def flat(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([m.flatten(2) for m in maps], 2).transpose(1, 2)

    def terms(self, raw: Tensor, decoded: Tensor, scene: Scene, found: PointTargets) -> Terms:
        positive, box, goal = self.boxes(decoded, scene, found)
        weight = found.quality[positive]
        total = max(sum_over_ranks([float(found.quality.sum())], raw.device, self.ranks)[0], 1.0)
        target = torch.full_like(raw[..., 4 * self.head.reg_max :], self.smoothing / 2)
        target[positive] = self.class_targets(scene, found, positive)
        cls = self.cls_loss(raw[..., 4 * self.head.reg_max :], target, found.quality[..., None])
        cells = positive.nonzero()[:, 1]
        corners = torch.cat((scene.points[cells] - goal[:, :2], goal[:, 2:] - scene.points[cells]), 1)
        dfl = self.distribution(raw[positive][:, : 4 * self.head.reg_max], corners / scene.strides[cells][:, None])
        return {
            "box": (box * weight).sum() * (150 * self.hyp.box / total) + (dfl * weight).sum() * (30 * self.hyp.box / total),
            "obj": raw.new_zeros(()),
            "cls": cls.sum() * (self.hyp.cls / total),
        }

    def distribution(self, logits: Tensor, distances: Tensor) -> Tensor:
        """Distribution focal loss (Li et al., NeurIPS 2020): (P, 4 R) and (P, 4) distances in cells -> (P,), the mean over the sides."""
        bins = self.head.reg_max
        wanted = distances.clamp(0, bins - 1 - 0.01)
        low = wanted.long()
        share = low + 1 - wanted
        logits = logits.view(-1, 4, bins).transpose(1, 2)
        below, above = (F.cross_entropy(logits, index, reduction="none") for index in (low, low + 1))
        return (below * share + above * (1 - share)).mean(1)
