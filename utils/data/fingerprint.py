"""Digests of what a result depends on besides the settings: the data and the code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from utils.data.index import Index
from utils.versions import file_digest, source_digest, source_files

Fingerprint = dict[str, Any]


def data_fingerprint(index: Index) -> Fingerprint:
    """Return the counts "images" and "boxes", and the digests "files" and "labels".

    Images are represented by name and size; their folder does not matter.
    """
    files = hashlib.sha256("\0".join(path.name for path in index.paths).encode(errors="surrogatepass"))
    files.update(index.sizes.tobytes())
    labels = hashlib.sha256("\0".join(index.names[c] for c in sorted(index.names)).encode(errors="surrogatepass"))
    for array in (index.annotations, index.starts, index.areas, index.crowds, index.points, index.point_starts):
        labels.update(array.tobytes())
    return {"images": len(index), "boxes": len(index.annotations), "files": files.hexdigest(), "labels": labels.hexdigest()}


def run_fingerprint(index: Index) -> Fingerprint:
    """Return `data_fingerprint`, and as "contents" a digest of the image files: checked when a run is resumed."""
    return data_fingerprint(index) | {"contents": hashlib.sha256(index.digests.tobytes()).hexdigest()}


def file_digests(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file's whole content, in hex: a BMP may differ in a few bytes of its middle.

    Raises:
        UserError: one cannot be read.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(file_digest, paths))


def data_changes(split: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe how a split has changed; an empty list if it has not."""
    counts = [f"{before[k]} {k} before, {now[k]} now" for k in ("images", "boxes") if before[k] != now[k]]
    if counts:
        return [f"the {split} split has changed: {', '.join(counts)}"]
    parts = {"files": "image names or sizes differ", "labels": "annotations differ", "contents": "image files differ"}
    changed = [text for k, text in parts.items() if k in before and before[k] != now[k]]
    return [f"the {split} split has changed: same number of images and boxes, but {text}" for text in changed[:1]]


def versions() -> dict[str, str]:
    """Return the versions of the libraries that compute, and a digest of Attune's own source as "attune"."""
    own = source_digest(source_files("models", "utils"))
    return {"attune": own, "torch": str(torch.__version__), "numpy": np.__version__, "opencv": cv2.__version__}
