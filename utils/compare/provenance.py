"""What must be the same in all runs that are compared: data, code, libraries and device."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import TYPE_CHECKING

from utils.config import ROOT
from utils.data.fingerprint import data_fingerprint, file_digests
from utils.versions import library_versions, source_digest, source_files

if TYPE_CHECKING:
    import torch

    from utils.data.index import Index

_LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python", "faster-coco-eval", "pycocotools")
_COMPARE = ROOT / "utils" / "compare"
_IN_A_RUN = ("match_store", "resampled_ap", "run_worker", "evaluate_run", "start", "widen", "folds")
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
    """Digest of a split: names and order of its images, their content, annotations and classes.

    Raises:
        UserError: an image cannot be read.
    """
    total = hashlib.sha256(json.dumps(data_fingerprint(index), sort_keys=True).encode())
    for digest in file_digests(index.paths):
        total.update(bytes.fromhex(digest))
    return total.hexdigest()[:16]


def device_name(device: torch.device) -> str:
    """The GPU's name, or the type of another device."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
