"""What TorchScript archives and programs of torch.export have in common once they are loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.inference.runtimes.metadata import parse_metadata
from utils.inference.runtimes.session import free_unless_fixed, one_error


class ProgramSession:
    """A loaded program: one image tensor in, the detections out, the first of several outputs."""

    def __init__(self, path: Path, device: torch.device, module: Any, extra: Mapping[str, str], name: str) -> None:
        """Take `module`, loaded from `path` onto `device`; of its `extra` files, `name` holds the metadata as JSON."""
        with one_error(f"{path}: PyTorch cannot load it"):
            config = json.loads(extra[name] or "{}")
        if not isinstance(config, dict):
            raise UserError(f"{path}: its {name} is no JSON object")
        self.metadata = parse_metadata(config, str(path))
        self.shape = free_unless_fixed(config.get("shape"), self.metadata.dynamic, str(path))
        self._path, self._device, self._module = path, device, module

    def __call__(self, images: Tensor) -> Tensor:
        with one_error(f"{self._path}: PyTorch cannot run it"), torch.autocast(self._device.type, enabled=False), torch.no_grad():
            found: Any = self._module(images.to(self._device))  # compiled with gradients, TorchScript would refuse inference tensors later
            return (found[0] if isinstance(found, tuple | list) else found).float()
