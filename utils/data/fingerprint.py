"""What a result depends on beside the settings: the content of the data, and the versions of the code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from utils.config import ROOT
from utils.data.index import Index

Fingerprint = dict[str, Any]


def data_fingerprint(index: Index) -> Fingerprint:
    """Return "images" and "boxes", which count them, and "files" and "labels", digests of their content.

    Names and sizes stand for the images; where the files lie does not matter.
    """
    files = hashlib.sha256("\0".join(path.name for path in index.paths).encode(errors="surrogateescape"))
    files.update(index.sizes.tobytes())
    labels = hashlib.sha256("\0".join(index.names[c] for c in sorted(index.names)).encode(errors="surrogateescape"))
    for array in (index.rows, index.starts, index.areas, index.crowds, index.points, index.point_starts):
        labels.update(array.tobytes())
    return {"images": len(index), "boxes": len(index.rows), "files": files.hexdigest(), "labels": labels.hexdigest()}


def run_fingerprint(index: Index) -> Fingerprint:
    """Return `data_fingerprint`, and as "lengths" a digest of the image files' lengths: what a run that goes on is held to."""
    lengths = np.array([_length(path) for path in index.paths], np.int64)
    return data_fingerprint(index) | {"lengths": hashlib.sha256(lengths.tobytes()).hexdigest()}


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone since the scan
        return -1


def data_changes(split: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say how a split differs from what it was, in words; an empty list if it does not."""
    counts = [f"{before[k]} {k} before, {now[k]} now" for k in ("images", "boxes") if before[k] != now[k]]
    if counts:
        return [f"the {split} split has changed: {', '.join(counts)}"]
    parts = {"files": "images have other names or sizes", "labels": "labels are others", "lengths": "images are other files"}
    odd = [text for k, text in parts.items() if k in before and before[k] != now[k]]
    return [f"the {split} split has changed: as many images and boxes, but {text}" for text in odd[:1]]


def versions() -> dict[str, str]:
    """Return the versions of what computes, and a digest of Attune's own source as "attune"."""
    source = hashlib.sha256()
    for path in sorted([*(ROOT / "models").rglob("*.py"), *(ROOT / "utils").rglob("*.py")]):
        source.update(path.read_bytes())
    own = source.hexdigest()[:16]
    return {"attune": own, "torch": str(torch.__version__), "numpy": np.__version__, "opencv": cv2.__version__}
