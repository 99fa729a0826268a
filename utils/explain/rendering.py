"""Pictures of LayerCAM and attention maps, for the sheets of detect.py and the report of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.explain.cam import Chosen, Map, attention_maps, layer_cam
from utils.images import letterbox
from utils.images.drawing import draw_boxes
from utils.inference.predictor import to_tensor

if TYPE_CHECKING:
    from models.detector import Detector

Image = NDArray[np.uint8]


def resize_to_side(image: Image, side: int, *, enlarge: bool) -> tuple[Image, np.float32]:
    """Resize an image so that its longest side is `side` pixels (without `enlarge`, at most that), and give the factor."""
    height, width = image.shape[:2]
    scale = side / max(height, width) if enlarge else min(side / max(height, width), 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return resized.astype(np.uint8), np.float32(scale)


class ExplainedImage:
    """A model and an image: maps of what the model computes, and pictures of them. Boxes are xyxy in pixels of the image.

    Args:
        image: (H, W, 3) uint8, BGR.
        shape: (height, width) of the rectangle the image is fitted into; multiples of the stride.
        side: longest side of the pictures in pixels.
        enlarge: whether the pictures of a smaller image are enlarged to that side.
    """

    def __init__(self, model: Detector, image: Image, shape: tuple[int, int], side: int, *, enlarge: bool = True) -> None:
        self._model = model
        self._box = letterbox.fit((image.shape[0], image.shape[1]), shape, stride=model.max_stride)
        self._pixels = to_tensor(letterbox.apply(image, self._box), next(model.parameters()).device)
        self.picture, self.scale = resize_to_side(image, side, enlarge=enlarge)

    def to_network(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4) boxes in pixels of the network's input, which are those of `layer_cam`'s map."""
        return self._box.from_source(xyxy)

    def layer_cam(self, xyxy: NDArray[np.float32], cls: int) -> Map:
        """LayerCAM of one (4,) box, as large as the network's input."""
        return layer_cam(self._model, self._pixels, Chosen(self.to_network(xyxy[None])[0].tolist(), cls))

    def attention_maps(self, xyxy: NDArray[np.float32] | None) -> list[tuple[str, Map]]:
        """The label and map of each attention block, for the centre of a (4,) box, or the mean over all positions."""
        if xyxy is None:
            return attention_maps(self._model, self._pixels)
        left, top, right, bottom = self.to_network(xyxy[None])[0].tolist()
        return attention_maps(self._model, self._pixels, ((left + right) / 2, (top + bottom) / 2))

    def draw_cam(self, cam: Map) -> Image:
        """Colours where LayerCAM is high, the grey image where it is low."""
        colours, level = self._coloured(cam)
        share = 0.75 * np.sqrt(level)
        return (self._grey() * (1 - share) + colours * share).astype(np.uint8)

    def draw_attention(self, values: Map) -> Image:
        """Colours of an attention map, from its minimum to its maximum, over the grey image."""
        low, high = float(values.min()), float(values.max())
        colours, _ = self._coloured((values - low) / (high - low) if high > low else np.full_like(values, 0.5))
        return cv2.addWeighted(self._grey(), 0.45, colours, 0.55, 0).astype(np.uint8)

    def framed(self, picture: Image, xyxy: NDArray[np.float32], cls: int) -> Image:
        """Draw a (4,) box on a picture."""
        return draw_boxes(picture, xyxy[None] * self.scale, [""], [cls], line_width=2)

    def _coloured(self, level: Map) -> tuple[Image, Map]:
        """Resize a map in 0..1 to the picture: its colours, (h, w, 3), and its values, (h, w, 1)."""
        box = self._box
        large = cv2.resize(level, box.shape[::-1], interpolation=cv2.INTER_LINEAR).clip(0, 1)
        inner = large[box.top : box.top + box.size[0], box.left : box.left + box.size[1]]
        shrinks = self.picture.shape[0] < inner.shape[0]
        resized = cv2.resize(inner, self.picture.shape[1::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        colours = cv2.applyColorMap((resized * 255).astype(np.uint8), cv2.COLORMAP_TURBO).astype(np.uint8)
        return colours, resized[..., None].astype(np.float32)

    def _grey(self) -> Image:
        return cv2.cvtColor(cv2.cvtColor(self.picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR).astype(np.uint8)
