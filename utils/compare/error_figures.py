"""Figures that explain an AP: what each type of error costs in AP50, and how well confidence fits precision; for any resample of images."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.compare.match_store import StoredMatches
from utils.compare.resampled_ap import RankedDetections, mean_ignoring_nan, precision_recall_f1
from utils.evaluation.error_types import ERROR_TYPES, NO_ERROR

ERRORS = (*(f"{name}_error" for name in ERROR_TYPES), "calibration_error")
"""What errors of each type cost, and the calibration error."""
DETAILS = ("precision", "recall", "f1", *ERRORS)
"""Of all images; precision, recall and F1 are not resampled."""
CALIBRATED_CONF = 0.25
"""Detections below this confidence, the default of detect.py, do not count for calibration: a user does not see them."""
_BINS = 10
_IOU_50, _ALL_AREAS = 0, 0


def run_details(matches: StoredMatches) -> dict[str, float]:
    """`DETAILS` of a run."""
    once = np.ones((1, len(matches.images)), np.int64)
    return dict(zip(DETAILS, (*precision_recall_f1(matches), *errors(matches, once)[0].tolist()), strict=True))


def file_details(path: Path) -> dict[str, float]:
    """`DETAILS` of the matches in a file, which results.csv and the report both need; they are computed once for a file as it is.

    Raises:
        UserError: the file is missing or damaged.
    """
    return _file_details(path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(4096)
def _file_details(path: Path, _written: int) -> dict[str, float]:
    return run_details(StoredMatches.load(path))


def errors(matches: StoredMatches, weights: NDArray[np.integer]) -> NDArray[np.float64]:
    """(r, 7) `ERRORS` for each row of `weights`."""
    return np.column_stack((error_costs(matches, weights), calibration_error(matches, weights)))


def error_costs(matches: StoredMatches, weights: NDArray[np.integer]) -> NDArray[np.float64]:
    """By how much AP50 would rise if all errors of a type were corrected and no other: TIDE's dAP, section 2.3 of the paper.

    Args:
        weights: (r, n) multiplicities of the images.

    Returns:
        (r, 6) in the order of `ERROR_TYPES`, 0 to 1; NaN without objects, or where the types are not stored.
    """
    if len(matches.error) != len(matches.score):
        return np.full((len(weights), len(ERROR_TYPES)), np.nan)
    base, *tables = (
        RankedDetections(corrected(matches, kind)).average_precision(weights)[..., _IOU_50] for kind in (NO_ERROR, *range(len(ERROR_TYPES)))
    )  # (r, nc) each
    ap50 = mean_ignoring_nan(base)
    # A class none of whose objects would be left still has AP 0.
    raised = [mean_ignoring_nan(np.where(np.isnan(table) & ~np.isnan(base), 0, table)) for table in tables]
    return np.maximum(np.stack(raised, 1) - ap50[:, None], 0)


def corrected(matches: StoredMatches, kind: int) -> StoredMatches:
    """The matches with all errors of a type corrected, at IoU 0.5 and for all areas only.

    A wrong class or box becomes right, if the object is not found yet, for the most confident of the detections that miss it like
    that; the others go, as do duplicates, background and what has neither class nor box right. Missed objects no longer count.
    """
    right = matches.matched[:, _IOU_50, _ALL_AREAS] & ~matches.ignored[:, _IOU_50, _ALL_AREAS]
    found = np.zeros(len(matches.object_cls) + 1, bool)  # the last for no object, -1
    found[matches.target[right]] = True
    nearly = np.flatnonzero(np.isin(matches.error, [ERROR_TYPES.index("classification"), ERROR_TYPES.index("localisation")]))
    nearly = nearly[~found[matches.target[nearly]]]
    found[matches.target[nearly]] = True
    nearly = nearly[np.lexsort((-matches.score[nearly], matches.target[nearly]))]
    best = np.zeros(len(right), bool)
    best[nearly[np.unique(matches.target[nearly], return_index=True)[1]]] = True
    mine = matches.error == kind if kind != NO_ERROR else np.zeros(len(right), bool)
    fixed, kept = mine & best, found[:-1] | (kind != ERROR_TYPES.index("missed"))
    cls = matches.cls.copy()
    cls[fixed] = matches.object_cls[matches.target[fixed]]
    matched = np.zeros_like(matches.matched)
    matched[:, _IOU_50, _ALL_AREAS] = right | fixed
    order = np.lexsort((matches.image, -matches.score, cls))
    order = order[(~mine | best)[order]]
    detections = {"image": matches.image, "cls": cls, "score": matches.score, "matched": matched, "ignored": matches.ignored}
    columns: dict[str, Any] = {name: values[order] for name, values in detections.items()}
    columns |= {name: getattr(matches, name)[kept] for name in ("object_image", "object_cls", "object_area")}
    return dataclasses.replace(matches, **columns)


def calibration_error(matches: StoredMatches, weights: NDArray[np.integer]) -> NDArray[np.float64]:
    """The expected calibration error of detections: mean distance of confidence from precision at IoU 0.5, over ten bins of confidence.

    Naeini et al. (2015), https://doi.org/10.1609/aaai.v29i1.9602, for detections as Küppers et al. (2020), https://arxiv.org/abs/2004.13546.

    Returns:
        (r,) 0 to 1; NaN without a detection of confidence 0.25 or more.
    """
    counted = (matches.score >= CALIBRATED_CONF) & ~matches.ignored[:, _IOU_50, _ALL_AREAS]
    score, image = matches.score[counted].astype(np.float64), matches.image[counted]
    excess = score - matches.matched[counted, _IOU_50, _ALL_AREAS]
    gaps, number = np.zeros((len(matches.images), _BINS)), np.bincount(image, minlength=len(matches.images))
    np.add.at(gaps, (image, np.minimum((score * _BINS).astype(int), _BINS - 1)), excess)
    total = weights @ number
    return np.where(total > 0, np.abs(weights @ gaps).sum(1) / np.maximum(total, 1), np.nan)
