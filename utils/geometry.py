"""Areas and overlaps of xyxy boxes and sizes of images, for arrays and tensors alike and without importing torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

A = TypeVar("A", "NDArray[Any]", "Tensor")


def area(boxes: A) -> A:
    """(..., 4) xyxy -> (...)."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


def intersection(a: A, b: A) -> A:
    """Area that is in both of two xyxy boxes; (..., 4) and (..., 4) broadcast."""
    return (a[..., 2:].clip(None, b[..., 2:]) - a[..., :2].clip(b[..., :2], None)).clip(0, None).prod(-1)


def iou(a: A, b: A) -> A:
    """IoU of xyxy boxes; (..., 4) and (..., 4) broadcast. Two boxes without area have IoU 0."""
    inter = intersection(a, b)
    return inter / (area(a) + area(b) - inter).clip(1e-12, None)


def ceil_to_stride(pixels: float, stride: int, pad: float = 0.0) -> int:
    """Return a side plus `pad` strides, rounded up to a multiple of the stride."""
    return math.ceil(pixels / stride + pad) * stride


def training_side(imgsz: int, stride: int) -> int:
    """Return the side of the images that training uses for ``--imgsz``: a multiple of the stride, at least twice it."""
    return max(ceil_to_stride(imgsz, stride), 2 * stride)
