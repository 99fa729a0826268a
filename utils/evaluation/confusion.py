"""The confusion matrix: what each kind of object was taken for, and what was taken for an object."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.evaluation.coco_ap import Record
from utils.evaluation.matching import in_crowd, pair
from utils.files.csv_cells import cell

CONFIDENCE = 0.25
IOU = 0.45


def confusion_matrix(records: Iterable[Record], nc: int) -> NDArray[np.int64]:
    """Count into (nc + 1, nc + 1): row predicted, column true; the last row is objects missed, the last column found in the background.

    Every object and every prediction above the confidence of 0.25 is counted once, in images without objects too. A prediction in
    a crowd region of its class is left out.
    """
    matrix = np.zeros((nc + 1, nc + 1), np.int64)
    for record in records:
        labels = record.labels[~record.crowd]
        considered, found, objects = pair(record, confidence=CONFIDENCE, iou=IOU)
        predicted = record.predictions[:, 5].astype(np.int64)
        np.add.at(matrix, (predicted[found], labels[objects]), 1)
        alone = np.setdiff1d(considered[~in_crowd(record)[considered]], found)
        matrix[:, nc] += np.bincount(predicted[alone], minlength=nc + 1)
        matrix[nc] += np.bincount(np.delete(labels, objects), minlength=nc + 1)
    return matrix


def write_confusion(path: Path, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """Write the counts as CSV, with the classes and 'background' as header and first column."""
    titles = [*map(cell, names), "background"]
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["predicted \\ true", *titles])
        writer.writerows([title, *row.tolist()] for title, row in zip(titles, matrix, strict=True))
