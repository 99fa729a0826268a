"""The detections in one image, and the formats they can be written in."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.log import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Image = NDArray[np.uint8]
CROP_GAIN, CROP_PAD = 1.02, 10  # YOLOv5's: a crop is the box times 1.02 plus 10 pixels


class Crop(NamedTuple):
    """One box cut out: (h, w, 3) uint8 BGR, its class and confidence."""

    image: Image
    cls: int
    name: str
    conf: float


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Results:
    """The detections in one image, most confident first.

    Attributes:
        image: (H, W, 3) uint8 BGR, as it was read; never drawn on.
        path: the file it came from, or a placeholder for an array.
        names: class names by class id.
        xyxy: (n, 4) float32 boxes in pixels of `image`: left, top, right, bottom.
        conf: (n,) float32 confidences.
        cls: (n,) int64 class ids.
        ids: (n,) int64 numbers of the tracks, from 1, and -1 where there is none; None where nothing is tracked.
        shape: (height, width) of the network's input, in pixels.
        speed: milliseconds of "pre-process", "inference" and "NMS".
    """

    image: Image
    path: Path
    names: Mapping[int, str]
    xyxy: NDArray[np.float32]
    conf: NDArray[np.float32]
    cls: NDArray[np.int64]
    shape: tuple[int, int] = (0, 0)
    speed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    ids: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """The number of boxes."""
        return len(self.xyxy)

    def __str__(self) -> str:
        """One line, such as ``bus.jpg: 4 persons, 1 bus``."""
        return f"{self.path}: {self.summary()}"

    def __repr__(self) -> str:
        """The same line, without the arrays."""
        return f"<Results {self}>"

    def name(self, cls: int) -> str:
        """The name of a class, or its id where the model has no name for it."""
        return self.names.get(int(cls), str(int(cls)))

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(n, 6) left, top, right, bottom, confidence, class id."""
        return np.concatenate((self.xyxy, self.conf[:, None], self.cls[:, None].astype(np.float32)), 1)

    @property
    def xyxyn(self) -> NDArray[np.float32]:
        """(n, 4) xyxy boxes, normalized by the image's width and height."""
        height, width = self.image.shape[:2]
        return (self.xyxy / np.array([width, height, width, height])).astype(np.float32)

    @property
    def xywhn(self) -> NDArray[np.float32]:
        """(n, 4) centre x, centre y, width, height, normalized by the image's width and height."""
        low, high = self.xyxyn[:, :2], self.xyxyn[:, 2:]
        return np.concatenate(((low + high) / 2, high - low), 1)

    def summary(self) -> str:
        """Counts by class, such as ``4 persons, 1 bus``, or ``(no detections)``."""
        return count_by_class(self.cls.tolist(), self.names) or "(no detections)"

    def to_txt(self, *, conf: bool = False, corners: bool = False) -> str:
        """YOLO labels ``class cx cy w h [conf] [track]``, normalized to 0..1; `corners` in place of centre and size."""
        lines = []
        for cls, box, score, track in zip(self.cls, self.xyxyn if corners else self.xywhn, self.conf, self._tracks(), strict=True):
            values = (*box, score) if conf else box
            lines.append(" ".join([str(int(cls)), *(f"{v:g}" for v in values), *([] if track is None else [str(track)])]) + "\n")
        return "".join(lines)

    def _tracks(self) -> list[int] | list[None]:
        """For each box its `ids`, or None."""
        return [None] * len(self) if self.ids is None else self.ids.tolist()

    def to_coco(self, image_id: int | str | None = None) -> list[dict[str, Any]]:
        """Entries of a COCO results file; `bbox` is left, top, width, height in pixels, `track_id` is there where there is a track.

        Args:
            image_id: the image's id; by default the path's stem, as an integer where it is one.
        """
        if image_id is None:
            image_id = int(self.path.stem) if re.fullmatch(r"[0-9]{1,18}", self.path.stem) else self.path.stem
        entries = []
        for cls, box, score, track in zip(self.cls.tolist(), self.xyxy.astype(float), self.conf.tolist(), self._tracks(), strict=True):
            bbox = [round(float(v), 3) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
            tracked = {"track_id": track} if track is not None and track > 0 else {}
            entries.append({"image_id": image_id, "category_id": cls, "bbox": bbox, "score": round(score, 5)} | tracked)
        return entries

    def to_dict(self) -> dict[str, Any]:
        """Plain data: path, height, width and `detections` (box xyxy in pixels, confidence, class, name)."""
        height, width = self.image.shape[:2]
        found = [
            {"box": [round(float(v), 3) for v in box], "confidence": round(score, 5), "class": cls, "name": self.name(cls)}
            for cls, box, score in zip(self.cls.tolist(), self.xyxy, self.conf.tolist(), strict=True)
        ]
        return {"path": str(self.path), "height": height, "width": width, "detections": found}

    def to_supervision(self) -> Any:
        """As ``supervision.Detections``, with the class names as ``data["class_name"]``.

        Raises:
            UserError: supervision is not installed.
        """
        names = np.array([self.name(c) for c in self.cls.tolist()], dtype=object).astype(str)
        build = _package("supervision").Detections
        arrays = {"xyxy": self.xyxy.copy(), "confidence": self.conf.copy(), "class_id": self.cls.copy(), "tracker_id": self.ids}
        return build(**arrays, data={"class_name": names})

    def to_fiftyone(self) -> Any:
        """As ``fiftyone.Detections``, whose boxes are left, top, width, height in 0..1; a track's number is the `index`.

        Raises:
            UserError: fiftyone is not installed.
        """
        fiftyone = _package("fiftyone")
        corners = self.xyxyn.astype(float)
        boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1).tolist()
        found = [
            fiftyone.Detection(label=self.name(cls), bounding_box=box, confidence=score, index=track if track and track > 0 else None)
            for cls, box, score, track in zip(self.cls.tolist(), boxes, self.conf.tolist(), self._tracks(), strict=True)
        ]
        return fiftyone.Detections(detections=found)

    def crops(self) -> list[Crop]:
        """Cut out each box, slightly enlarged, from the image without drawings."""
        height, width = self.image.shape[:2]
        out = []
        for cls, box, score in zip(self.cls.tolist(), self.xyxy, self.conf.tolist(), strict=True):
            centre, half = (box[:2] + box[2:]) / 2, ((box[2:] - box[:2]) * CROP_GAIN + CROP_PAD) / 2
            left, top = np.floor(np.maximum(centre - half, 0)).astype(int)
            right, bottom = np.ceil(np.minimum(centre + half, (width, height))).astype(int)
            out.append(Crop(self.image[top:bottom, left:right].copy(), cls, self.name(cls), score))
        return out

    def plot(self, *, line_width: int | None = None, labels: bool = True, conf: bool = True) -> Image:
        """Draw the boxes on a copy of the image.

        Args:
            line_width: of the boxes in pixels; None derives it from the image size.
            labels: write the class names.
            conf: write the confidences behind the names.

        Where objects are tracked, the number of the track comes before the name, and the colour is the track's and not the class's.

        Returns:
            (H, W, 3) uint8 BGR.
        """
        from utils.images.drawing import draw_boxes

        # the least confident first, so that the best boxes and labels lie on top
        order = np.argsort(self.conf, kind="stable")
        colours = self.cls if self.ids is None else np.where(self.ids > 0, self.ids, self.cls)
        numbers = [f"#{track} " if track is not None and track > 0 else "" for track in self._tracks()]
        names = [numbers[i] + printable(self.name(int(self.cls[i]))) if labels else "" for i in order]
        texts = [f"{name} {score:.2f}" for name, score in zip(names, self.conf[order], strict=True)] if labels and conf else names
        return draw_boxes(self.image, self.xyxy[order], texts, colours[order], line_width=line_width)

    def save(self, path: str | Path, **drawing: Any) -> Path:
        """Write the drawn image to `path`; `drawing` goes to `plot`. The suffix selects the format.

        Raises:
            UserError: unknown format, or the file cannot be written.
        """
        from utils.images.writing import write_image

        path = Path(path)
        write_image(path, self.plot(**drawing))
        return path


def count_by_class(classes: Iterable[int], names: Mapping[int, str]) -> str:
    """How many there are of each class, such as ``4 persons, 1 bus``; empty where there are none."""
    counts = ((n, printable(names.get(cls, str(cls)))) for cls, n in sorted(Counter(classes).items()))
    return ", ".join(f"{n} {_plural(name) if n > 1 else name}" for n, name in counts)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"results.to_{name}() needs {name}: pip install {name}") from error


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith(("s", "x", "sh", "ch")) else "s")
