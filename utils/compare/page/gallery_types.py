"""What the report shows of images, as plain pictures: scenes, a tile for each variant, and how much of its maps lies on objects."""

from __future__ import annotations

import base64
import dataclasses

VIEWS = {"boxes": "Detections", "cam": "LayerCAM", "attention": "Attention maps"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of an image through a variant's eyes.

    Attributes:
        view: key of `VIEWS`.
        jpeg: the file's bytes; empty where there is nothing to show, `caption` then says why.
        caption: a short text below it.
    """

    view: str
    jpeg: bytes
    caption: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GalleryScene:
    """An image of the data set with its true boxes, and what each variant makes of it.

    Attributes:
        name: the image's file name.
        why: how it was chosen.
        size: (height, width) of the pictures.
        truth: JPEG with the true boxes.
        pictures: by the variant's name.
    """

    name: str
    why: str
    size: tuple[int, int]
    truth: bytes
    truth_caption: str
    pictures: dict[str, list[Picture]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CamEnergy:
    """The share of a variant's LayerCAM energy inside true boxes, mean over images.

    Attributes:
        share: 0..1; NaN where no map has any energy.
        images: that the mean is over.
    """

    share: float
    images: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """All scenes of a report.

    Attributes:
        focus: by the variant's name.
        chance: the share that a map without any focus would have: the boxes' share of the image area, mean over the same images.
        seed: whose runs are shown.
        notes: what could not be shown, and why.
    """

    scenes: tuple[GalleryScene, ...] = ()
    focus: dict[str, CamEnergy] = dataclasses.field(default_factory=dict)
    chance: float = float("nan")
    seed: int = 0
    notes: tuple[str, ...] = ()


def data_uri(jpeg: bytes) -> str:
    """A JPEG as the address of an image that lies in the page itself."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
