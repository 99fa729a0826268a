"""Images for tracing, calibration and the check: of a dataset, or drawn ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.data.shapes import draw
from utils.images import letterbox
from utils.images.reading import read_image

_DRAWN_SIZE = 320


def image_batches(data: str) -> Callable[[int, int, int], Iterator[Tensor]]:
    """What gives endless batches (B, 3, H, W) of float32 RGB images in 0..1, for B, H and W.

    Args:
        data: as --data, whose training images are used; '' draws images.

    Raises:
        UserError: the dataset cannot be read.
    """
    if not data:
        return partial(_batches, _drawn)
    from utils.data.config import load_data
    from utils.data.scan import load_index

    index = load_index(load_data(data), "train")
    order = np.random.default_rng(0).permutation(len(index))
    paths = [index.paths[i] for i in order]
    return partial(_batches, lambda: map(read_image, itertools.cycle(paths)))


def _batches(images: Callable[[], Iterator[NDArray[np.uint8]]], batch: int, height: int, width: int) -> Iterator[Tensor]:
    source = images()
    while True:
        group = list(itertools.islice(source, batch))
        boxes = [letterbox.fit((image.shape[0], image.shape[1]), (height, width)) for image in group]
        pixels = np.stack([letterbox.apply(image, box) for image, box in zip(group, boxes, strict=True)])
        yield torch.from_numpy(pixels).flip(3).permute(0, 3, 1, 2).contiguous().float() / 255


def _drawn() -> Iterator[NDArray[np.uint8]]:
    return (draw(0, "val", i, _DRAWN_SIZE)[0] for i in itertools.count())
