"""CoreML packages, which macOS runs."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.inference.runtimes.metadata import parse_metadata
from utils.inference.runtimes.session import free_unless_fixed, one_error, require

INSTALL = "pip install coremltools"


class CoreMlSession:
    """A CoreML package of Attune: input ``images``, output ``output0``."""

    def __init__(self, path: Path, device: torch.device) -> None:  # noqa: ARG002 - CoreML chooses among CPU, GPU and neural engine
        if platform.system() != "Darwin":
            raise UserError(f"{path}: CoreML runs on macOS only")
        ct = require("coremltools", f"{path}: reading CoreML", INSTALL)
        with one_error(f"{path}: CoreML cannot load it"):
            self._model = ct.models.MLModel(str(path))
            entries = json.loads(self._model.user_defined_metadata.get("attune", "{}"))
        self.metadata = parse_metadata(entries, str(path))
        self.shape = free_unless_fixed(entries.get("shape"), None, str(path))
        self._path = path

    def __call__(self, images: Tensor) -> Tensor:
        with one_error(f"{self._path}: CoreML cannot run it"):
            found = self._model.predict({"images": images.cpu().contiguous().numpy()})["output0"]
            return torch.from_numpy(np.asarray(found, np.float32))
