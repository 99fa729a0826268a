"""Read untrusted ``.pt`` files: tensors and inert objects, nothing imported, nothing called.

Reads both formats of torch.save, the zip archive and the older stream. Sizes that the file claims are checked against its bytes.
"""

from __future__ import annotations

import io
import math
import mmap
import re
import struct
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.files.safe_open import open_regular
from utils.files.safe_pickle import MAX_OPCODES, Array, InertObject, Name, PickleReader, RefusedError, is_small
from utils.files.zip_directory import directory_bytes, looks_like

_DTYPES = {
    Name("torch", f"{kind}Storage"): dtype
    for kind, dtype in {
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Float": torch.float32,
        "Double": torch.float64,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MAX_PICKLE_BYTES = 1 << 26  # bytes; yolov5n.pt has 83 kB
_MAX_DIRECTORY_BYTES = 1 << 22  # about 40 000 entries; last.pt of YOLOv5x6 has 3 000
_MAX_DIMENSIONS = 8


def read_torch_file(path: str | Path) -> Any:
    """Read a file written by torch.save: plain data, CPU tensors, and an `InertObject` for every other object.

    Parameters come as tensors, ``OrderedDict`` as dict, ``torch.Size`` as tuple, paths as strings, NumPy numbers and arrays as numbers
    and lists.

    Raises:
        UserError: unreadable, damaged, not a torch file, or one that names or calls what a checkpoint does not need.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            head = file.read(512)
            if head.startswith(b"PK\x03\x04"):
                return _read_zip(file, path.stat().st_size)
            return _read_legacy(file, head)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except RefusedError as error:
        raise UserError(f"{path}: refused, and nothing of it was run: {error}") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError, struct.error) as error:
        raise UserError(f"{path}: the file is damaged or truncated ({error}); download or copy it again") from error


class _Rebuilder:
    """Replacements for the few functions that a checkpoint calls; `limit` is the size of the file in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.claimed = 0  # bytes of all storages
        self.viewed = 0  # bytes of all tensors: many views of one storage must not multiply it
        self.storages: dict[str, Tensor] = {}
        self.machine: PickleReader

    def read(self, machine: PickleReader) -> Any:
        self.machine = machine
        return machine.load()

    def calls(self) -> dict[Name, Any]:
        """Return the replacement of each function, by its name in the file."""
        ours: dict[str, Any] = {
            "torch._utils _rebuild_tensor": self.tensor,
            "torch._utils _rebuild_tensor_v2": self.tensor,
            "torch._utils _rebuild_parameter": self.parameter,
            "torch Size": lambda size=(): tuple(size),
            "torch device": lambda *args: InertObject(Name("torch", "device"), args),
            "collections OrderedDict": self.mapping,
            "_codecs encode": self.encode,
            "datetime datetime": lambda *args: InertObject(Name("datetime", "datetime"), args),
            "numpy dtype": lambda *args: InertObject(Name("numpy", "dtype"), args),
        }
        for python in ("builtins", "__builtin__"):
            ours |= {f"{python} set": self.collection(set), f"{python} frozenset": self.collection(frozenset)}
            ours |= {f"{python} list": self.collection(list), f"{python} dict": self.mapping}
        for numpy in ("numpy.core.multiarray", "numpy._core.multiarray"):
            ours |= {f"{numpy} scalar": self.scalar, f"{numpy} _reconstruct": lambda *_: Array()}
        for kind in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"):
            ours |= {f"pathlib {kind}": self.path, f"pathlib._local {kind}": self.path}
        return {Name(*key.split()): function for key, function in ours.items()}

    def storage(self, key: object, kind: object, count: object) -> Tensor:
        """Return a new zeroed storage of `count` elements."""
        if type(kind) is not Name or kind not in _DTYPES or type(count) is not int or count < 0 or type(key) is not str:
            raise RefusedError(f"it has a storage of an unknown kind ({kind})")
        dtype = _DTYPES[kind]
        known = self.storages.get(key)
        if known is not None:
            if known.dtype != dtype or known.numel() != count:
                raise RefusedError(f"it describes storage {key} in two ways")
            return known
        self.claimed += count * dtype.itemsize
        if self.claimed > self.limit:
            raise RefusedError(f"its storages claim more bytes than the file has ({self.limit})")
        self.storages[key] = torch.zeros(count, dtype=dtype)
        return self.storages[key]

    def tensor(self, storage: object, offset: object, size: object, stride: object, *_: object) -> Tensor | InertObject:
        """Return a view within the bounds of `storage`; an expanded one (YOLOv5's grids) stays an inert object."""
        if not isinstance(storage, Tensor) or type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride):
            raise RefusedError("it has a tensor without storage or shape")
        numbers = (offset, *size, *stride)
        if len(size) > _MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in numbers):
            raise RefusedError(f"it has a tensor of offset {offset}, size {size}, stride {stride}")
        count = math.prod(size)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if count else offset - 1  # type: ignore[operator]
        if last >= storage.numel():
            raise RefusedError(f"it has a tensor of offset {offset}, size {size}, stride {stride} in a storage of {storage.numel()}")
        if count > storage.numel():
            return InertObject(Name("torch", "Tensor"), (offset, size, stride))
        self.viewed += count * storage.element_size()
        if self.viewed > 4 * self.limit:
            raise RefusedError("its tensors repeat the same storage too often")
        return storage.as_strided(size, stride, offset)  # type: ignore[arg-type]

    @staticmethod
    def parameter(data: object, *_: object) -> Tensor:
        """Return the parameter's tensor."""
        if not isinstance(data, Tensor):
            raise RefusedError("it has a parameter without a tensor")
        return data

    def mapping(self, items: Any = ()) -> dict[Any, Any]:
        """``OrderedDict(items)``"""
        self.machine.charge(len(items))
        result: dict[Any, Any] = {}
        for key, value in items.items() if type(items) is dict else items:
            if type(key) is not str and not is_small(key):
                raise RefusedError("its pickle has a key that is neither a string nor a small number")
            result[key] = value
        return result

    def collection(self, kind: type[Any]) -> Any:
        """Return a function for ``set(items)`` and the like, of strings and numbers."""

        def build(items: Any = ()) -> Any:
            if type(items) not in (list, tuple):
                raise RefusedError("its pickle builds a collection of something other than a list")
            self.machine.charge(len(items))
            if kind is not list and any(
                type(item) not in (str, int, float) or (type(item) is int and abs(item) >= 1 << 60) for item in items
            ):
                raise RefusedError("its pickle has a set of something that is neither a string nor a number")
            return kind(items)

        return build

    def encode(self, text: object, codec: object = "latin1") -> bytes:
        """Return bytes, as pickles below protocol 3 encode them."""
        if type(text) is not str or codec not in ("latin1", "latin-1"):
            raise RefusedError(f"its pickle encodes text as {codec}")
        self.machine.charge(len(text))
        return text.encode("latin1")

    def path(self, *parts: object) -> str:
        """Return a path as a string."""
        self.machine.charge(sum(len(part) if type(part) is str else MAX_OPCODES for part in parts))
        return str(PurePosixPath(*map(str, parts)))

    def scalar(self, dtype: object, raw: object) -> Any:
        """Return a NumPy number as a Python number."""
        self.machine.charge(len(raw) if type(raw) is bytes else MAX_OPCODES)
        (value,) = _numbers(dtype, raw)
        return value

    def fill(self, array: Array, state: Any) -> None:
        """Read the state of ``ndarray``: version, shape, dtype, Fortran order, bytes. The shape is dropped: these are not weights."""
        _, _, dtype, _, raw = state
        self.machine.charge(len(raw))
        array[:] = _numbers(dtype, raw)


def _numbers(dtype: object, raw: object) -> list[Any]:
    code = dtype.args[0] if isinstance(dtype, InertObject) and dtype.args else None
    order = dtype.state[1] if isinstance(dtype, InertObject) and type(dtype.state) is tuple and len(dtype.state) > 1 else "|"
    if type(code) is not str or not re.fullmatch(r"[fiub][1248]", code) or order not in ("<", ">", "|", "=") or type(raw) is not bytes:
        raise RefusedError(f"it has a NumPy value of type {code}")
    return np.frombuffer(raw, np.dtype(order + code)).tolist()


def _read_zip(file: Any, length: int) -> Any:
    if directory_bytes(file, length) > _MAX_DIRECTORY_BYTES:
        raise RefusedError(f"its archive lists more entries than a model has tensors ({_MAX_DIRECTORY_BYTES} bytes of names)")
    with zipfile.ZipFile(file) as archive:
        entries, root = _entries(archive, length)
        rebuilder = _Rebuilder(length)

        def persistent(pid: object) -> Tensor:
            kind, key, _, count = _storage_id(pid)[:4]
            new = key not in rebuilder.storages
            entry = entries.get(f"{root}/data/{key}")
            storage = rebuilder.storage(key, kind, count)
            if new:
                if entry is None or entry.file_size != storage.nbytes:
                    raise RefusedError(f"storage {key} is missing or has another size than declared")
                _copy(archive.read(entry), storage)
            return storage

        pickle = io.BytesIO(archive.read(entries[f"{root}/data.pkl"]))
        return rebuilder.read(PickleReader(pickle, rebuilder.calls(), persistent, rebuilder.fill))


def _entries(archive: zipfile.ZipFile, length: int) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """Return the archive's entries by name, checked against its `length` in bytes, and their folder."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise RefusedError("its archive has two entries of one name")
    if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1 or e.file_size != e.compress_size for e in entries.values()):
        raise RefusedError("its archive is compressed or encrypted, which torch never does")
    if sum(e.file_size for e in entries.values()) > length:
        raise RefusedError("its archive claims more bytes than the file has")
    roots = [name.removesuffix("/data.pkl") for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise RefusedError("it is a zip archive not written by torch.save")
    (root,) = roots
    if f"{root}/constants.pkl" in entries:
        raise RefusedError("it is a TorchScript export; give the .pt checkpoint it was exported from")
    order = entries.get(f"{root}/byteorder")
    if order and archive.read(order) != sys.byteorder.encode():
        raise RefusedError("it was written on a machine with another byte order")
    if entries[f"{root}/data.pkl"].file_size > _MAX_PICKLE_BYTES:
        raise RefusedError(f"its pickle is larger than {_MAX_PICKLE_BYTES} bytes")
    return entries, root


def _storage_id(pid: object) -> tuple[Any, ...]:
    if type(pid) is not tuple or len(pid) < 5 or pid[0] != "storage":
        raise RefusedError("it has a persistent id that is not a storage")
    return pid[1:]


def _copy(raw: bytes, storage: Tensor) -> None:
    if raw:
        storage.view(torch.uint8).numpy()[:] = np.frombuffer(raw, np.uint8)


def _read_legacy(file: Any, head: bytes) -> Any:
    """Read the format before torch 1.6: magic, protocol and system as pickles, the data, the storages' keys, the storages."""
    if not head.startswith(b"\x80"):
        raise RefusedError(f"it is not a checkpoint: {looks_like(head)}")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        rebuilder = _Rebuilder(len(stream))

        def persistent(pid: object) -> Any:
            if type(pid) is tuple and len(pid) > 1 and pid[0] == "module":  # a class with its source text
                return pid[1]
            kind, key, _, count, view = (*_storage_id(pid), None)[:5]
            if view is not None:
                raise RefusedError("its storages are views of others, as before torch 0.4; save it again with a newer torch")
            return rebuilder.storage(key, kind, count)

        machine = PickleReader(stream, rebuilder.calls(), persistent, rebuilder.fill)  # type: ignore[arg-type]
        if rebuilder.read(machine) != _LEGACY_MAGIC:
            raise RefusedError("it is a pickle not written by torch.save")
        _, _, value, keys = (machine.load() for _ in range(4))
        if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(rebuilder.storages):
            raise RefusedError("its list of storages does not match its tensors")
        for key in keys:
            storage = rebuilder.storages[key]
            (count,) = struct.unpack("<q", stream.read(8))
            raw = stream.read(storage.nbytes)
            if count != storage.numel() or len(raw) != storage.nbytes:
                raise RefusedError(f"storage {key} is truncated or has another size than declared")
            _copy(raw, storage)
        return value
