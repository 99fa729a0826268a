"""The index of a split: every usable image with its size and its labels, in flat arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.data.config import DataConfig
from utils.data.labels.label_report import LabelReport
from utils.data.scan import scan
from utils.data.scan_cache import Table
from utils.errors import UserError

F32 = NDArray[np.float32]


class Truth(NamedTuple):
    """The ground truth of one image, crowds included, for the metrics.

    Attributes:
        cls: (k,) int64 class numbers.
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
    """A split's images and labels; n images, N rows, flat so that loader workers share them without copies.

    Attributes:
        paths: the images, sorted.
        sizes: (n, 2) int32 height and width in pixels, upright.
        image_ids: COCO's id where a JSON gives one, else the file's stem, as a number where it is one.
        names: class names by number.
        rows: (N, 5) float32 class, centre x, centre y, width, height; shares of the image.
        starts: (n + 1,) int64: rows[starts[i]:starts[i + 1]] belong to image i.
        areas, crowds: (N,) float32 pixels of the original image, and bool.
        points: (M, 2) float32 polygon points, shares of the image.
        point_starts: (N + 1,) int64: points[point_starts[j]:point_starts[j + 1]] are row j's.
        report: counts and findings.
    """

    paths: tuple[Path, ...]
    sizes: NDArray[np.int32]
    image_ids: tuple[int | str, ...]
    names: dict[int, str]
    rows: F32
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

    @property
    def boxes(self) -> list[F32]:
        """`labels` of every image."""
        return [self.labels(i) for i in range(len(self))]

    def labels(self, i: int) -> F32:
        """Return image i's (k, 5) class, cx, cy, w, h in 0..1, without crowds: what is trained on. A copy."""
        mine = self._rows(i)
        return self.rows[mine][~self.crowds[mine]]

    def segments(self, i: int) -> list[F32]:
        """Return a polygon (m, 2) in 0..1 for each row of `labels`, m = 0 where it has none; an empty list when no row has one."""
        mine = self._rows(i)
        if self.point_starts[mine.start] == self.point_starts[mine.stop]:
            return []
        return [self.points[self.point_starts[j] : self.point_starts[j + 1]] for j in range(mine.start, mine.stop) if not self.crowds[j]]

    def crowd(self, i: int) -> NDArray[np.bool_]:
        """Return which rows of `truth` are crowds, (k,)."""
        return self.crowds[self._rows(i)]

    def area(self, i: int) -> F32:
        """Return the areas of the rows of `truth` in pixels of the original image, (k,)."""
        return self.areas[self._rows(i)]

    def truth(self, i: int) -> Truth:
        """Return image i's ground truth for the metrics."""
        mine = self._rows(i)
        rows, (height, width) = self.rows[mine], self.sizes[i].tolist()
        centre, half = rows[:, 1:3], rows[:, 3:5] / 2
        xyxy = np.concatenate((centre - half, centre + half), 1) * np.array([width, height] * 2, np.float32)
        return Truth(rows[:, 0].astype(np.int64), xyxy.astype(np.float32), self.areas[mine], self.crowds[mine])

    def _rows(self, i: int) -> slice:
        return slice(int(self.starts[i]), int(self.starts[i + 1]))


def load_index(
    data: DataConfig,
    split: str,
    *,
    single_cls: bool = False,
    classes: Collection[int] | None = None,
    cache_dir: str | Path | None = None,
) -> Index:
    """Read and verify the labels and image headers of a split, or take them from the cache.

    Args:
        single_cls: make every class 0, named "item" unless the data set has one class only.
        classes: keep the rows of these classes only. Numbers and names stay those of the data set, and images
            that lose all their rows stay, as background.
        cache_dir: folder of the cache; None takes ``ATTUNE_CACHE``, else ``attune`` in the user's cache folder.

    Raises:
        UserError: no such split, its files are not there, they cannot be read as a data set, they hold no usable
            image, or `classes` names a class there is not.
    """
    if unknown := sorted(set(classes or ()) - set(data.names)):
        raise UserError(f"class {unknown[0]} is outside 0 to {data.nc - 1}, the classes of {data.yaml}")
    table = scan(data, split, cache_dir)
    if not table.report.images:
        first = next(table.report.lines(1), "no image file was found")
        raise UserError(f"{data.yaml}: split '{split}' has no usable image: {first} ({', '.join(map(str, data.splits[split]))})")
    return _index(table, data.names, single_cls, classes)


def _index(table: Table, names: dict[int, str], single_cls: bool, classes: Collection[int] | None) -> Index:
    rows, keep = table.rows, np.ones(len(table.rows), np.bool_)
    if classes is not None:
        keep = np.isin(rows[:, 0], np.array(sorted(classes), np.float32))
    starts = np.concatenate(([0], keep.cumsum()))[table.starts]  # rows kept before each image
    lengths = np.diff(table.point_starts)
    rows = rows[keep]
    if single_cls:
        rows[:, 0] = 0
        names = {0: names[0] if len(names) == 1 else "item"}
    crowds = table.crowds[keep]
    labelled = int((np.diff(starts) > 0).sum())
    report = dataclasses.replace(table.report, boxes=int((~crowds).sum()), crowd=int(crowds.sum()), labelled=labelled)
    return Index(
        paths=tuple(map(Path, table.paths)),
        sizes=table.sizes,
        image_ids=tuple(table.ids),
        names=dict(names),
        rows=rows,
        starts=starts,
        areas=table.areas[keep],
        crowds=crowds,
        points=table.points[np.repeat(keep, lengths)],
        point_starts=np.concatenate(([0], lengths[keep].cumsum())),
        report=report,
    )
