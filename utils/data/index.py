"""The index of a split: every usable image with its size and annotations, in flat arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.data.labels.label_report import LabelReport

F32 = NDArray[np.float32]


class GroundTruth(NamedTuple):
    """The ground truth of one image, crowds included, for the metrics.

    Attributes:
        cls: (k,) int64 class ids.
        xyxy: (k, 4) float32 boxes in pixels of the original image.
        area: (k,) float32 areas in pixels of the original image: of the mask where COCO gives it, else of the box.
        crowd: (k,) bool.
    """

    cls: NDArray[np.int64]
    xyxy: F32
    area: F32
    crowd: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """A split's images and annotations; n images, N annotations, flat so that loader workers share them without copies.

    Attributes:
        paths: the images, sorted.
        sizes: (n, 2) int32 height and width in pixels, upright.
        digests: (n, 16) uint8, the first half of the SHA-256 of each image file.
        image_ids: COCO's id where a JSON gives one, else the file's stem, as a number where it is one.
        names: class names by id.
        annotations: (N, 5) float32 class, centre x, centre y, width, height; coordinates in 0..1.
        starts: (n + 1,) int64: annotations[starts[i]:starts[i + 1]] belong to image i.
        areas, crowds: (N,) float32 pixels of the original image, and bool.
        points: (M, 2) float32 polygon points in 0..1.
        point_starts: (N + 1,) int64: points[point_starts[j]:point_starts[j + 1]] belong to annotation j.
        report: counts and findings.
    """

    paths: tuple[Path, ...]
    sizes: NDArray[np.int32]
    digests: NDArray[np.uint8]
    image_ids: tuple[int | str, ...]
    names: dict[int, str]
    annotations: F32
    starts: NDArray[np.int64]
    areas: F32
    crowds: NDArray[np.bool_]
    points: F32
    point_starts: NDArray[np.int64]
    report: LabelReport

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.names)

    def annotations_of(self, i: int) -> F32:
        """Return image i's (k, 5) class, cx, cy, w, h in 0..1, without crowds: what is trained on. A copy."""
        own = self._slice(i)
        return self.annotations[own][~self.crowds[own]]

    def polygons_of(self, i: int) -> list[F32]:
        """Return a polygon (m, 2) in 0..1 for each of `annotations_of`, m = 0 where it has none; an empty list when none has one."""
        own = self._slice(i)
        if self.point_starts[own.start] == self.point_starts[own.stop]:
            return []
        return [self.points[self.point_starts[j] : self.point_starts[j + 1]] for j in range(own.start, own.stop) if not self.crowds[j]]

    def ground_truth(self, i: int) -> GroundTruth:
        """Return image i's ground truth for the metrics."""
        own = self._slice(i)
        found, (height, width) = self.annotations[own], self.sizes[i].tolist()
        centre, half = found[:, 1:3], found[:, 3:5] / 2
        xyxy = np.concatenate((centre - half, centre + half), 1) * np.array([width, height] * 2, np.float32)
        return GroundTruth(found[:, 0].astype(np.int64), xyxy.astype(np.float32), self.areas[own], self.crowds[own])

    def select(self, classes: Collection[int] | None = None, *, single_cls: bool = False) -> Index:
        """Return the index with the annotations of some `classes` only and, with `single_cls`, all of them in class 0.

        Images that lose all their annotations stay, as background. A single class is named "item" unless the dataset has one class only.
        """
        keep = np.ones(len(self.annotations), np.bool_)
        if classes is not None:
            keep = np.isin(self.annotations[:, 0], np.array(sorted(classes), np.float32))
        annotations, names, crowds = self.annotations[keep], self.names, self.crowds[keep]
        if single_cls:
            annotations[:, 0] = 0
            names = {0: names[0] if len(names) == 1 else "item"}
        starts = np.concatenate(([0], keep.cumsum()))[self.starts]
        lengths = np.diff(self.point_starts)
        labelled = int((np.diff(starts) > 0).sum())
        return dataclasses.replace(
            self,
            names=names,
            annotations=annotations,
            starts=starts,
            areas=self.areas[keep],
            crowds=crowds,
            points=self.points[np.repeat(keep, lengths)],
            point_starts=np.concatenate(([0], lengths[keep].cumsum())),
            report=dataclasses.replace(
                self.report, boxes=int((~crowds).sum()), crowd=int(crowds.sum()), labelled=labelled, deselected=int((~keep).sum())
            ),
        )

    def _slice(self, i: int) -> slice:
        return slice(int(self.starts[i]), int(self.starts[i + 1]))
