"""What the page shows: the detections of each model in a picture or video, and the maps that explain one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from utils.errors import UserError
from utils.explain.attention_sheets import explain, sheet
from utils.explain.rendering import resize_to_side
from utils.images.reading import check_image, read_image
from utils.images.video import VideoWriter, frame_count
from utils.inference.predictor import Model, Predictor
from utils.inference.results import Results
from utils.inference.sources import Files

Image = NDArray[np.uint8]

MAX_PIXELS = 50_000_000
"""Largest picture; detect.py reads larger ones."""
MAX_FRAMES = 300
"""Frames of a video that are looked at."""
SIDE = 1280
"""Longest side of a picture on the page, in pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Viewer:
    """Models side by side.

    Attributes:
        models: by the name that the page shows.
        imgsz: (height, width) that an image is fitted into, in pixels.
        half: half precision.
    """

    models: Mapping[str, Model]
    imgsz: tuple[int, int] = (640, 640)
    half: bool = False

    def _predictors(self, conf: float, iou: float) -> list[Predictor]:
        return [Predictor(model=model, imgsz=self.imgsz, conf=conf, iou=iou, half=self.half) for model in self.models.values()]

    def detect(self, image: Image, conf: float, iou: float) -> list[Results]:
        """Detect in a (H, W, 3) uint8 BGR image with each model; `conf` and `iou` are as in `Predictor`.

        Raises:
            UserError: a threshold is outside 0 to 1.
        """
        return [predictor(image, Path("image")) for predictor in self._predictors(conf, iou)]

    def explain(self, found: Sequence[Results], point: Sequence[float] | None) -> list[Image | None]:
        """LayerCAM and the attention maps of one detection of each model: a (h, w, 3) uint8 BGR sheet, None for an exported file.

        Args:
            found: each model's detections in one image.
            point: x and y in pixels of the picture on the page. The most confident detection whose box holds it is explained, else
                the most confident of all.
        """
        sheets: list[Image | None] = []
        for model, results in zip(self.models.values(), found, strict=True):
            shape = Predictor(model=model, imgsz=self.imgsz).shape
            tiles = explain(model, results, shape, _detection_at(results, point)) if isinstance(model, Detector) else None
            sheets.append(sheet(tiles) if tiles else None)
        return sheets

    def video(self, path: Path, folder: Path, conf: float, iou: float, step: Callable[[int, int], object]) -> tuple[list[Path], str]:
        """Detect in the first `MAX_FRAMES` frames of a video, and write one with boxes for each model.

        Args:
            path: the video.
            folder: where to write ``0.webm``, ``1.webm`` and so on; those of an earlier call are replaced.
            conf, iou: as in `Predictor`.
            step: called after each frame with their number so far, and in all.

        Returns:
            The files, and what is missing in them, or ``""``.

        Raises:
            UserError: the video cannot be read, or a threshold is outside 0 to 1.
        """
        predictors, source, writers = self._predictors(conf, iou), Files([path]), list[VideoWriter]()
        stated = frame_count(path)
        try:
            for done, frame in enumerate(source, 1):
                drawn = [picture(predictor(frame.image, path)) for predictor in predictors]
                writers = writers or [VideoWriter(folder / f"{i}.webm", frame.fps, d.shape[:2]) for i, d in enumerate(drawn)]
                for writer, one in zip(writers, drawn, strict=True):
                    writer.write(one)
                step(done, min(stated or MAX_FRAMES, MAX_FRAMES))
                if done == MAX_FRAMES:
                    break
            if not writers:
                raise UserError(f"{path}: {source.failures[str(path)]}")
        except BaseException:
            for writer in writers:
                writer.discard()
            raise
        for writer in writers:
            writer.close()
        cut = [f"the first {MAX_FRAMES} frames of {stated or 'many'}; detect.py does all of them"] if stated > MAX_FRAMES else []
        return [writer.path for writer in writers], "; ".join(cut + source.notes)


def read_picture(path: Path) -> Image:
    """Read an uploaded picture as (H, W, 3) uint8 BGR.

    Raises:
        UserError: damaged, not a picture, or of more than `MAX_PIXELS`.
    """
    height, width = check_image(path)
    if height * width > MAX_PIXELS:
        raise UserError(f"{path}: {width} x {height} pixels; this page takes {MAX_PIXELS // 10**6} megapixels, detect.py more")
    return read_image(path)


def picture(results: Results) -> Image:
    """The image with boxes, at most `SIDE` pixels long: (h, w, 3) uint8 BGR."""
    small, scale = resize_to_side(results.image, SIDE, enlarge=False)
    return dataclasses.replace(results, image=small, xyxy=results.xyxy * scale).plot()


def _detection_at(results: Results, point: Sequence[float] | None) -> int:
    """Index of the most confident detection that holds a point of its `picture`, or 0."""
    if point is None:
        return 0
    x, y = np.asarray(point) * max(1.0, max(results.image.shape[:2]) / SIDE)
    left, top, right, bottom = results.xyxy.T
    inside = np.flatnonzero((left <= x) & (x <= right) & (top <= y) & (y <= bottom))
    return int(inside[0]) if len(inside) else 0
