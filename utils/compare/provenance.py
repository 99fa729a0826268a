"""What must be the same in all runs that are compared: data, code, libraries, device."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from utils.config import ROOT
from utils.data.fingerprint import data_fingerprint
from utils.errors import UserError

if TYPE_CHECKING:
    import torch

    from utils.data.index import Index

_EDGE = 4096  # bytes at both ends of an image file: enough to tell one encoding from another, and quick for a large set
_LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python", "faster-coco-eval", "pycocotools")
_MEASURING = ("match_store", "resampled_ap", "run_worker", "evaluate_run")
"""The files of utils/compare that take part in a run; statistics and report may change under a study."""


def versions() -> dict[str, str]:
    """The versions of code and libraries that a run is made with."""
    found = {"code": code_digest(), "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "unknown"
    return found


def code_digest() -> str:
    """Tell one state of Attune's code from another: SHA-256 of the sources that take part in a run, 16 digits.

    Raises:
        FileNotFoundError: one of them has moved, and this list does not know.
    """
    compare = ROOT / "utils" / "compare"
    sources = [*(ROOT / "models").rglob("*.py"), *(p for p in (ROOT / "utils").rglob("*.py") if compare not in p.parents)]
    sources += [compare / f"{name}.py" for name in _MEASURING]
    total = hashlib.sha256()
    for path in sorted(sources):
        total.update(f"{path.relative_to(ROOT)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


def data_digest(index: Index) -> str:
    """Tell one state of a split from another: names and order of its images, their size and both ends, labels and classes.

    Raises:
        UserError: an image cannot be read any more.
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
    """The GPU's name, or "cpu"."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
