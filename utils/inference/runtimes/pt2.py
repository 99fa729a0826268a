"""Programs of torch.export, after a look at what is in them."""

from __future__ import annotations

import ast
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.inference.runtimes.program import ProgramSession
from utils.inference.runtimes.session import check_size, one_error

METADATA = "metadata.json"
"""The extra file with the metadata."""

_MAX_JSON = 256 << 20
_ALLOWED_FILES = re.compile(
    r"(data/weights/(weight_\d+|\w+_weights_config\.json)|data/constants/(tensor_\d+|\w+_constants_config\.json)|models/\w+\.json"
    r"|data/sample_inputs/\w+\.pt|extra/[\w.]+|archive_format|archive_version|byteorder|\.data/\w+|version|\.format/\w+)"
)
_ALLOWED_TARGETS = re.compile(r"(torch\.ops\.(aten|prim|torchvision)\.[\w.]+|_?operator\.\w+|math\.\w+|torch\.sym_\w+)")
_FILES = re.compile(r"\b(from_file|save|load)\b")
_FORMULA_PARTS = (
    *(ast.Expression, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.cmpop, ast.boolop),
    *(ast.Call, ast.keyword, ast.Attribute, ast.Subscript, ast.Name, ast.Load, ast.Constant),
)
_FUNCTION = re.compile(r"torch\.sym_\w+|L\[.*\]\.(size|stride|storage_offset)|[A-Z]\w*|floor|ceiling")  # SymPy's classes are capitalised


class Pt2Session(ProgramSession):
    """A program of torch.export: one image tensor in, the detections out."""

    def __init__(self, path: Path, device: torch.device) -> None:
        check_size(path)
        _check_content(path)
        extra = {METADATA: ""}
        with one_error(f"{path}: PyTorch cannot load it"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.export").setLevel(logging.ERROR)  # it logs the traceback of what it raises
            module = torch.export.load(str(path), extra_files=extra).module().to(device)
        super().__init__(path, device, module, extra, METADATA)


def _check_content(path: Path) -> None:
    """Refuse what is more than tensors and a graph of operators: torch.export.load runs pickles, native code and formulas.

    Raises:
        UserError: it is no such archive, or holds more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            listed = [info.filename.partition("/")[2] for info in archive.infolist()]
            if foreign := next((name for name in listed if not _ALLOWED_FILES.fullmatch(name)), None):
                raise UserError(f"{path}: refused, and nothing of it was run: it holds {foreign[:100]!r}, which no exported program needs")
            if len(set(listed)) < len(listed) or not any(name.startswith("models/") for name in listed):
                raise UserError(f"{path}: is no exported program: files of it are missing or there twice")
            for info in archive.infolist():
                if info.filename.endswith(".json"):
                    if info.file_size > _MAX_JSON:
                        raise UserError(f"{path}: refused: {info.filename} has {info.file_size >> 20} MiB")
                    _check_json(json.loads(archive.read(info)), path)
                elif info.filename.endswith(".pt") and info.file_size:
                    raise UserError(f"{path}: refused, and nothing of it was run: it holds pickled example inputs")
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is damaged, or no exported program ({error})") from error


def _check_json(content: Any, path: Path) -> None:
    for key, value in _entries(content):
        if key == "use_pickle" and value:
            raise UserError(f"{path}: refused, and nothing of it was run: it holds pickles")
        if key == "target" and isinstance(value, str) and (not _ALLOWED_TARGETS.fullmatch(value) or _FILES.search(value)):
            raise UserError(f"{path}: refused, and nothing of it was run: its graph calls {value[:100]}")
        texts = value if key == "guards_code" and isinstance(value, list) else [value] if key in ("expr_str", "guards_code") else []
        if odd := next((text for text in texts if not _is_formula(text)), None):
            raise UserError(f"{path}: refused, and nothing of it was run: {str(odd)[:100]!r} is no formula of sizes")


def _is_formula(text: Any) -> bool:
    """Whether a text, which PyTorch evaluates, does nothing but calculate with sizes."""
    try:
        parts = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        return False
    calls = [ast.unparse(part.func) for part in parts if isinstance(part, ast.Call)]
    private = any(isinstance(part, ast.Attribute) and part.attr.startswith("_") for part in parts)
    return not private and all(isinstance(part, _FORMULA_PARTS) for part in parts) and all(map(_FUNCTION.fullmatch, calls))


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value below."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
