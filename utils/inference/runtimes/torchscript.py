"""TorchScript archives, after a look at the code in them."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path

import torch

from utils.errors import UserError
from utils.inference.runtimes.program import ProgramSession
from utils.inference.runtimes.session import check_size, one_error

CONFIG = "config.txt"
"""The extra file with the metadata, as YOLOv5 names it."""

_MAX_CODE = 64 << 20
# What reads or writes files, or leaves TorchScript; a traced network has none of it.
_FORBIDDEN = re.compile(
    r"\b(?:torch\.(?:from_file|save|load|_C|ops|classes|jit)\b|from_file|__setstate__|__getstate__|ops\.(?!prim\b|torchvision\b)\w+|fork|rpc_\w+)"
)


class TorchScriptSession(ProgramSession):
    """A TorchScript archive: one image tensor in, the detections out, the first of several outputs."""

    def __init__(self, path: Path, device: torch.device) -> None:
        check_size(path)
        _check_code(path)
        extra = {CONFIG: ""}
        with one_error(f"{path}: PyTorch cannot load it"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated as a whole
            module = torch.jit.load(str(path), map_location=device, _extra_files=extra).eval()
        super().__init__(path, device, module, extra, CONFIG)


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
