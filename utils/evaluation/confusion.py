"""The confusion matrix: true classes against predicted classes, with the background as one more class of both."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.image_result import ImageResult
from utils.evaluation.matching import in_crowd, pair
from utils.files.atomic import open_new
from utils.files.csv_cells import cell
from utils.log import LOG

CONFIDENCE = 0.25
MAX_CLASSES = 5000
"""Up to so many the counts are made: these take 200 MB, those of 60 000 classes 29 GB."""
MIN_IOU = 0.45


def confusion_matrix(images: Iterable[ImageResult], nc: int) -> NDArray[np.int64]:
    """Count into (nc + 1, nc + 1): row predicted, column true; the last row counts missed objects, the last column background.

    Every object and every detection above the confidence of 0.25 is counted once, in images without objects too. A detection in
    a crowd region of its class is left out. The matrix is empty, (0, 0), for more than `MAX_CLASSES`.
    """
    if nc > MAX_CLASSES:
        return np.zeros((0, 0), np.int64)
    matrix = np.zeros((nc + 1, nc + 1), np.int64)
    for image in images:
        classes = image.cls[~image.crowd]
        considered, found, objects = pair(image, confidence=CONFIDENCE, min_iou=MIN_IOU)
        predicted = image.detections[:, 5].astype(np.int64)
        np.add.at(matrix, (predicted[found], classes[objects]), 1)
        alone = np.setdiff1d(considered[~in_crowd(image)[considered]], found)
        matrix[:, nc] += np.bincount(predicted[alone], minlength=nc + 1)
        matrix[nc] += np.bincount(np.delete(classes, objects), minlength=nc + 1)
    return matrix


def write_confusion(path: Path, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """Write the counts as CSV, with the classes and 'background' as header and first column; nothing of an empty matrix."""
    if not matrix.size:
        LOG.info("%d classes are too many for a confusion matrix (at most %d)", len(names), MAX_CLASSES)
        return
    titles = [*map(cell, names), "background"]
    with open_new(path) as file:
        writer = csv.writer(file)
        writer.writerow(["predicted \\ true", *titles])
        writer.writerows([title, *row.tolist()] for title, row in zip(titles, matrix, strict=True))
