"""TorchScript archives, after a look at the code in them."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.inference.runtimes.metadata import parse_metadata
from utils.inference.runtimes.session import Shape, check_size, one_error

CONFIG = "config.txt"
"""The extra file with the metadata, as YOLOv5 names it."""

_MAX_CODE = 64 << 20
# What reads or writes files, or leaves TorchScript; a traced network has none of it.
_FORBIDDEN = re.compile(
    r"\b(?:torch\.(?:from_file|save|load|_C|ops|classes|jit)\b|from_file|__setstate__|__getstate__|ops\.(?!prim\b|torchvision\b)\w+|fork|rpc_\w+)"
)


class TorchScriptSession:
    """A TorchScript archive: one image tensor in, the detections out, the first of several outputs."""

    def __init__(self, path: Path, device: torch.device) -> None:
        check_size(path)
        _check_code(path)
        extra = {CONFIG: ""}
        with one_error(f"{path}: PyTorch cannot load it"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated as a whole
            self._module = torch.jit.load(str(path), map_location=device, _extra_files=extra).eval()
            config = json.loads(extra[CONFIG] or "{}")
        if not isinstance(config, dict):
            raise UserError(f"{path}: its {CONFIG} is no JSON object")
        self.metadata = parse_metadata(config, str(path))
        self.shape = free_unless_fixed(config.get("shape"), self.metadata.dynamic, str(path))
        self._path, self._device = path, device

    def __call__(self, images: Tensor) -> Tensor:
        with one_error(f"{self._path}: PyTorch cannot run it"), torch.autocast(self._device.type, enabled=False):
            found: Any = self._module(images.to(self._device))
            return (found[0] if isinstance(found, tuple | list) else found).float()


def free_unless_fixed(shape: Any, dynamic: bool | None, where: str) -> Shape:
    """The input's shape from metadata; None for what is free.

    Raises:
        UserError: the entry is no shape.
    """
    if dynamic or shape is None:
        return (None, 3, None, None)
    if not isinstance(shape, list | tuple) or len(shape) != 4 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise UserError(f"{where}: its metadata gives the shape {str(shape)[:80]}; expected batch, channels, height, width")
    b, c, h, w = shape
    return (b, c, h, w)


def _check_code(path: Path) -> None:
    """Refuse code that does more than compute: TorchScript is a language, and its archives are programs.

    Raises:
        UserError: no archive of TorchScript, or one with such code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if "/code/" in info.filename]
            if sum(info.file_size for info in files) > _MAX_CODE:
                raise UserError(f"{path}: refused: more than {_MAX_CODE >> 20} MiB of TorchScript code")
            code = [archive.read(info).decode("utf-8", "replace") for info in files if info.filename.endswith(".py")]
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise UserError(f"{path}: is damaged, or no TorchScript archive ({error})") from error
    if not code:
        raise UserError(f"{path}: is no TorchScript archive: there is no code in it")
    if found := next((m for text in code if (m := _FORBIDDEN.search(text))), None):
        raise UserError(f"{path}: refused, and nothing of it was run: its code uses {found.group()}, which no detector needs")
