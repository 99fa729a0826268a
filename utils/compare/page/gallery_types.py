"""The pictures of a report: for each image one per variant, and the share of LayerCAM energy on objects."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from utils.compare.intervals import Interval

VIEWS = {"boxes": "Detections", "cam": "LayerCAM", "attention": "Attention maps"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of what a variant makes of an image.

    Attributes:
        view: key of `VIEWS`.
        jpeg: file content; empty if there is nothing to show, for the reason in `caption`.
        caption: short text below the picture.
    """

    view: str
    jpeg: bytes
    caption: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GalleryScene:
    """An image of the dataset with its ground truth, and the pictures of each variant.

    Attributes:
        name: the image's file name.
        why: why it was chosen.
        size: (height, width) of the pictures.
        truth: JPEG with the ground-truth boxes.
        pictures: by variant.
    """

    name: str
    why: str
    size: tuple[int, int]
    truth: bytes
    truth_caption: str
    pictures: dict[str, list[Picture]]


class CamEnergy(NamedTuple):
    """The share (0..1) of a variant's LayerCAM energy inside ground-truth boxes, a mean over images and seeds.

    Attributes:
        share: NaN if no map has any energy.
        images: number of images, those where all variants have energy.
        seeds: their number.
        difference: from the baseline, with its 95 % CI over seeds and images, simultaneous over the variants; None of the baseline, or
            if it cannot be computed.
    """

    share: float
    images: int
    seeds: int
    difference: Interval | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """All pictures of a report.

    Attributes:
        energy: by variant.
        uniform_share: the share of a uniform map: the boxes' share of the image area, mean over the same images.
        seed: seed of the runs shown.
        notes: what could not be shown, and why.
    """

    scenes: tuple[GalleryScene, ...] = ()
    energy: dict[str, CamEnergy] = dataclasses.field(default_factory=dict)
    uniform_share: float = float("nan")
    seed: int = 0
    notes: tuple[str, ...] = ()
