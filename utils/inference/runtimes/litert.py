"""LiteRT (TensorFlow Lite) files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.inference.runtimes.metadata import parse_metadata
from utils.inference.runtimes.session import check_size, free_unless_fixed, one_error, require

INSTALL = "pip install ai-edge-litert"
_ENTRY = "metadata.json"
_MAX_METADATA = 16 << 20


class LiteRtSession:
    """A LiteRT file of Attune on the CPU."""

    def __init__(self, path: Path, device: torch.device) -> None:  # noqa: ARG002 - on the CPU
        interpreter = require("ai_edge_litert.interpreter", f"{path}: reading LiteRT", INSTALL)
        check_size(path)
        entries = _read_metadata(path)
        self.metadata = parse_metadata(entries, str(path))
        self.shape = free_unless_fixed(entries.get("shape"), None, str(path))
        self._path = path
        with one_error(f"{path}: LiteRT cannot load it"):
            self._interpreter = interpreter.Interpreter(str(path), num_threads=torch.get_num_threads())
            self._interpreter.allocate_tensors()
            self._input, self._output = (
                d()[0]["index"] for d in (self._interpreter.get_input_details, self._interpreter.get_output_details)
            )

    def __call__(self, images: Tensor) -> Tensor:
        with one_error(f"{self._path}: LiteRT cannot run it"):
            self._interpreter.set_tensor(self._input, images.cpu().contiguous().numpy())
            self._interpreter.invoke()
            return torch.from_numpy(np.array(self._interpreter.get_tensor(self._output), np.float32))


def append_metadata(path: Path, text: str) -> None:
    """Append a zip with the metadata, which LiteRT's readers skip: the way of TensorFlow Lite's own metadata."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_ENTRY, text)


def _read_metadata(path: Path) -> dict[str, object]:
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(_ENTRY)
            entries = json.loads(archive.read(info)) if info.file_size <= _MAX_METADATA else None
    except (OSError, zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        raise UserError(f"{path}: is no LiteRT file of Attune, whose metadata gives names and sizes ({error})") from error
    if not isinstance(entries, dict):
        raise UserError(f"{path}: its metadata is no JSON object")
    return entries
