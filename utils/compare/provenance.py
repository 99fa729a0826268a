"""What must be the same in all runs that are compared: data, code, libraries and device."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from utils.config import ROOT
from utils.data.fingerprint import data_fingerprint
from utils.errors import UserError
from utils.versions import library_versions, source_digest, source_files

if TYPE_CHECKING:
    import torch

    from utils.data.index import Index

_EDGE = 4096  # bytes read from both ends of an image file: enough to tell one encoding from another, and fast for a large dataset
_LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python", "faster-coco-eval", "pycocotools")
_COMPARE = ROOT / "utils" / "compare"
_IN_A_RUN = ("match_store", "resampled_ap", "run_worker", "evaluate_run")
"""The files of utils/compare that decide a run's figures. Statistics and report may change while a study is under way."""


def versions() -> dict[str, str]:
    """Versions of code and libraries that a run is made with."""
    return {"code": code_digest(), "python": platform.python_version(), **library_versions(*_LIBRARIES)}


def code_digest() -> str:
    """Digest of the source files that decide a run's figures.

    Raises:
        FileNotFoundError: one of them is missing: it was moved, and `_IN_A_RUN` not updated.
    """
    files = [path for path in source_files("models", "utils") if _COMPARE not in path.parents]
    return source_digest([*files, *(_COMPARE / f"{name}.py" for name in _IN_A_RUN)])


def data_digest(index: Index) -> str:
    """Digest of a split: names and order of its images, their size and both ends, annotations and classes.

    Raises:
        UserError: an image cannot be read.
    """
    total = hashlib.sha256(json.dumps(data_fingerprint(index), sort_keys=True).encode())
    for path in index.paths:
        total.update(image_digest(path))
    return total.hexdigest()[:16]


def image_digest(path: Path) -> bytes:
    """SHA-256 over an image file's size and both ends.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(_EDGE)
            file.seek(max(size - _EDGE, 0))
            return hashlib.sha256(f"{size}\0".encode() + head + file.read(_EDGE)).digest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def device_name(device: torch.device) -> str:
    """The GPU's name, or the type of another device."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
