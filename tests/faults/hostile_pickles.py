"""Untrusted checkpoints: pickles that call something or take memory, and invalid archives.

The tests of `utils.files.torch_file` try further ones, and tensors that exceed their storage.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = tuple[str, Any, str | None]
LEGACY = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
FLOATS = struct.pack("<4f", 1, 2, 3, 4)


def text(value: str) -> bytes:
    """A push of text."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def called(module: str, name: str, *args: str) -> bytes:
    """A call of a function with texts."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(map(text, args)) + b"tR."


def archive(path: Path, pickled: bytes, raw: bytes = FLOATS, method: int = zipfile.ZIP_STORED) -> Path:
    """The zip that torch.save would write around a pickle."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", raw)
        file.writestr("archive/version", b"3\n")
    return path


class Touch:
    """Pickles as a call that touches the canary."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def programs(canary: Path) -> dict[str, bytes]:
    """Pickles that would run something, or that no checkpoint holds."""
    touch, code = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    deep = b"\x80\x02" + text("x") + b"\x85" * 900_000 + b"."
    return {
        "REDUCE os.system": pickle.dumps(Touch(os.system, touch), 2),
        "REDUCE by STACK_GLOBAL": pickle.dumps(Touch(os.system, touch), 4),
        "REDUCE in protocol 0": pickle.dumps(Touch(os.system, touch), 0),
        "nested in a model": pickle.dumps({"model": [{"a": Touch(os.system, touch)}], "epoch": 1}, 2),
        "builtins.__import__": called("builtins", "__import__", "os"),
        "pydoc.pipepager": called("pydoc", "pipepager", "x", touch),
        "operator.attrgetter": called("operator", "attrgetter", "system"),
        "operator.methodcaller": called("operator", "methodcaller", "system", touch),
        "functools.partial": called("functools", "partial", "x"),
        "NEWOBJ_EX": b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93)}\x92.",
        "BUILD with __setstate__": b"\x80\x02cos\nenviron\n}" + text("ATTUNE") + text("x") + b"sb.",
        "torch.jit": called("torch.jit", "load", "x.pt"),
        "marshal and types": called("types", "FunctionType", "x"),
        "code.interact": called("code", "interact"),
        "timeit": called("timeit", "timeit", code),
        "a persistent id of another kind": b"\x80\x02(" + text("module") + b"cos\nsystem\ntQ.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "a codec that unpacks": called("_codecs", "decode", "x", "zip"),
        "two million steps": b"\x80\x02" + b"N0" * 1_000_000 + b"N.",
        "a huge memo": b"\x80\x02" + b"".join(b"Nr" + struct.pack("<I", i) for i in range(600_000)) + b".",
        "deep nesting as a key": b"\x80\x02}" + deep[2:-1] + b"Ns.",
        "a number of 2**31 bytes": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x.",
        "a number of negative length": b"\x80\x02\x8b" + struct.pack("<i", -5) + b"x.",
        "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    }


def pickles(folder: Path, canary: Path) -> Iterator[Entry]:
    """Every attack by way of a checkpoint."""
    from models.weights.load import read_weights

    for at, (name, pickled) in enumerate(programs(canary).items()):
        path = archive(folder / f"{at}.pt", pickled)
        yield f"zip: {name}", lambda path=path: read_weights(path), "refused, and nothing of it was run"
    for name in ("REDUCE os.system", "nested in a model", "REDUCE by STACK_GLOBAL", "two million steps"):
        path = folder / f"legacy-{name}.pt"
        path.write_bytes(LEGACY + programs(canary)[name])
        yield f"stream: {name}", lambda path=path: read_weights(path), "refused, and nothing of it was run"
    for name, path, reason in odd_archives(folder, canary):
        yield f"archive: {name}", lambda path=path: read_weights(path), reason


def odd_archives(folder: Path, canary: Path) -> Iterator[tuple[str, Path, str]]:
    """Containers that are not as torch writes them."""
    good, evil = pickle.dumps({}, 2), pickle.dumps(Touch(os.system, f"touch {canary}"), 2)
    yield "a zip bomb", archive(folder / "bomb.pt", good, bytes(1 << 26), zipfile.ZIP_DEFLATED), "compressed or encrypted"
    path = archive(folder / "encrypted.pt", good)
    raw = path.read_bytes()
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.index(head) + flags
        raw = raw[:at] + b"\x01" + raw[at + 1 :]
    path.write_bytes(raw)
    yield "an encrypted member", path, "compressed or encrypted"
    (folder / "bare.pt").write_bytes(evil)
    yield "a bare pickle", folder / "bare.pt", "refused"
    raw = archive(folder / "sizes.pt", good).read_bytes()
    at = raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 4)
    (folder / "sizes.pt").write_bytes(raw[: at + 20] + struct.pack("<II", 1 << 31, 1 << 31) + raw[at + 28 :])
    yield "a member that claims 2 GB", folder / "sizes.pt", "claims more bytes|damaged"
