"""What an image holds and what was detected in it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, slots=True)
class ImageResult:
    """Detections and ground truth of an image, in pixels of the original image.

    Attributes:
        detections: (k, 6) float32 xyxy, confidence, class id; most confident first.
        cls: (m,) int64 class ids of the ground truth.
        xyxy: (m, 4) float32 boxes of the ground truth.
        area: (m,) float64 in square pixels; decides between small, medium and large.
        crowd: (m,) bool; a crowd region stands for an unknown number of objects.
    """

    detections: NDArray[np.float32]
    cls: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
