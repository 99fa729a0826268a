"""Faster runtimes for a checkpoint: it is exported once into the cache, by the hash of its bytes, its plug-ins and Attune's code."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from utils.errors import UserError
from utils.export.config import ExportConfig
from utils.export.exporter import export
from utils.export.registry import FORMATS
from utils.files.cache_folder import cache_folder
from utils.inference.runtimes.exported import runtime_of
from utils.log import LOG
from utils.versions import file_digest, library_versions, source_digest, source_files

AUTO = ("openvino", "onnx")
"""What ``auto`` takes on a CPU, the fastest first."""


def choose_runtime(wanted: str, device: torch.device) -> str:
    """Turn ``--runtime auto`` into "openvino" or "onnx" where its packages are installed and there is no GPU, else "torch"."""
    if wanted != "auto":
        return wanted
    installed = (name for name in AUTO if all(importlib.util.find_spec(package) for package in FORMATS[name].packages))
    return "torch" if device.type != "cpu" else next(installed, "torch")


def exported_weights(weights: str, runtime: str, plugins: tuple[str, ...] = ()) -> Path:
    """A file for `runtime` that computes what the checkpoint does, with free sizes: from the cache, or exported into it.

    Raises:
        UserError: the checkpoint cannot be read or exported, or is exported already.
    """
    source = Path(weights)
    if runtime_of(source):
        raise UserError(f"--runtime {runtime}: {weights} is exported already and runs in its own runtime; omit the flag")
    versions = source_digest(source_files("models", "utils/export")), library_versions("torch", "onnx", "openvino")
    key = hashlib.sha256(repr((runtime, versions, [file_digest(path) for path in [source, *map(Path, plugins)]])).encode())
    target = cache_folder() / "exports" / f"{key.hexdigest()[:32]}{FORMATS[runtime].ending}"
    if not target.exists():
        LOG.info("exporting %s for %s, once", weights, runtime)
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent) as folder:
            copy = Path(folder) / source.name
            shutil.copyfile(source, copy)
            (done,) = export(ExportConfig(weights=str(copy), include=(runtime,), dynamic=True, plugins=plugins))
            with contextlib.suppress(OSError):  # another process was faster
                done.path.rename(target)
    return target
