"""Checkpoints of strangers: pickles of every trick, storages that lie, archives that are not what they say."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import tarfile
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


def number(value: int) -> bytes:
    """A push of a whole number."""
    raw = pickle.encode_long(value)
    return b"\x8b" + struct.pack("<i", len(raw)) + raw


def called(module: str, name: str, *args: str) -> bytes:
    """A call of a function with texts."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(map(text, args)) + b"tR."


def tensor(offset: int, size: tuple[int, ...], stride: tuple[int, ...], count: int = 4, kind: str = "FloatStorage") -> bytes:
    """A tensor of a storage that claims `count` elements."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cpu") + number(count) + b"tQ"
    shape = b"".join(b"(" + b"".join(map(number, part)) + b"t" for part in (size, stride))
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + shape + b"\x89}tR."


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
        "builtins.eval": called("builtins", "eval", code),
        "builtins.exec by its old name": called("__builtin__", "exec", code),
        "builtins.__import__": called("builtins", "__import__", "os"),
        "builtins.getattr": called("builtins", "getattr", "x", "y"),
        "pydoc.locate": called("pydoc", "locate", "os.system"),
        "pydoc.pipepager": called("pydoc", "pipepager", "x", touch),
        "ctypes.CDLL": called("ctypes", "CDLL", "libc.so.6"),
        "importlib.import_module": called("importlib", "import_module", "os"),
        "operator.attrgetter": called("operator", "attrgetter", "system"),
        "operator.methodcaller": called("operator", "methodcaller", "system", touch),
        "functools.partial": called("functools", "partial", "x"),
        "subprocess.Popen by NEWOBJ": b"\x80\x02csubprocess\nPopen\n(" + text(touch) + b"t\x81.",
        "NEWOBJ_EX": b"\x80\x04" + text("subprocess") + text("Popen") + b"\x93)}\x92.",
        "INST": f"(S'{touch}'\nios\nsystem\n.".encode(),
        "OBJ": f"(cos\nsystem\nS'{touch}'\no.".encode(),
        "BUILD with __setstate__": b"\x80\x02cos\nenviron\n}" + text("ATTUNE") + text("x") + b"sb.",
        "BUILD of a list": b"\x80\x02]}" + text("__class__") + text("x") + b"sb.",
        "a name with dots": b"\x80\x04" + text("torch") + text("hub.os.system") + b"\x93(" + text(touch) + b"tR.",
        "torch.load": called("torch.serialization", "load", "x.pt"),
        "torch.hub.load": called("torch.hub", "load", "a/b", "c"),
        "torch.jit": called("torch.jit", "load", "x.pt"),
        "numpy's runstring": called("numpy.testing._private.utils", "runstring", code),
        "numpy's object array": b"\x80\x02cnumpy\ndtype\n" + text("O8") + b"\x85R\x8c\x01x\x86cnumpy.core.multiarray\nscalar\n" + b"R.",
        "pickle.loads": called("pickle", "loads", "x"),
        "marshal and types": called("types", "FunctionType", "x"),
        "code.interact": called("code", "interact"),
        "webbrowser.open": called("webbrowser", "open", "file:///etc/passwd"),
        "timeit": called("timeit", "timeit", code),
        "a persistent id that is a path": b"\x80\x02" + text("/etc/passwd") + b"Q.",
        "a persistent id in text": b"P/etc/passwd\n.",
        "a persistent id of another kind": b"\x80\x02(" + text("module") + b"cos\nsystem\ntQ.",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "an out-of-band buffer": b"\x80\x05\x97.",
        "a codec that unpacks": called("_codecs", "decode", "x", "zip"),
        "two million steps": b"\x80\x02" + b"N0" * 1_000_000 + b"N.",
        "a huge memo": b"\x80\x02" + b"".join(b"Nr" + struct.pack("<I", i) for i in range(600_000)) + b".",
        "a memo from nowhere": b"\x80\x02j\xff\xff\xff\x7f.",
        "deep nesting as a key": b"\x80\x02}" + deep[2:-1] + b"Ns.",
        "a text of 2**62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
        "a number of 2**31 bytes": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x.",
        "a number of negative length": b"\x80\x02\x8b" + struct.pack("<i", -5) + b"x.",
        "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
        "a path repeated without end": b"\x80\x02" + text("a" * 500_000) + b"q\x000cpathlib\nPosixPath\n(" + b"h\x00" * 10_000 + b"tR.",
        "no STOP": b"\x80\x02" + text("x"),
        "an unknown opcode": b"\x80\x02\xff.",
    }


def pickles(folder: Path, canary: Path) -> Iterator[Entry]:
    """Every attack by way of a checkpoint, through the two functions that read one."""
    from models.weights.load import read_weights
    from utils.files.torch_file import read_torch_file

    for at, (name, pickled) in enumerate(programs(canary).items()):
        path = archive(folder / f"{at}.pt", pickled)
        yield f"zip: {name}", lambda path=path: read_weights(path), "refused, and nothing of it was run"
    for name in ("REDUCE os.system", "nested in a model", "REDUCE by STACK_GLOBAL", "two million steps"):
        path = folder / f"legacy-{name}.pt"
        path.write_bytes(LEGACY + programs(canary)[name])
        yield f"stream: {name}", lambda path=path: read_weights(path), "refused, and nothing of it was run"
    lies = {
        "a negative stride": tensor(3, (4,), (-1,)),
        "a negative size": tensor(0, (-4,), (1,)),
        "a negative offset": tensor(-4, (4,), (1,)),
        "a huge stride": tensor(0, (2,), (1 << 62,)),
        "an offset beyond the storage": tensor(1 << 40, (4,), (1,)),
        "a size beyond the storage": tensor(0, (1 << 40,), (1,)),
        "more dimensions than there are": tensor(0, (1,) * 64, (1,) * 64),
        "a storage that claims a terabyte": tensor(0, (4,), (1,), count=1 << 38),
        "a storage of negative size": tensor(0, (4,), (1,), count=-4),
        "a storage of a strange kind": tensor(0, (4,), (1,), kind="QUInt8Storage"),
        "a storage larger than its bytes": tensor(0, (8,), (1,), count=8),
    }
    for at, (name, pickled) in enumerate(lies.items()):
        path = archive(folder / f"lie{at}.pt", pickled)
        yield f"tensor: {name}", lambda path=path: read_torch_file(path), "refused, and nothing of it was run"
    for name, path, reason in odd_archives(folder, canary):
        yield f"archive: {name}", lambda path=path: read_weights(path), reason


def odd_archives(folder: Path, canary: Path) -> Iterator[tuple[str, Path, str]]:
    """Containers that are not as torch writes them."""
    good, evil = tensor(0, (4,), (1,)), pickle.dumps(Touch(os.system, f"touch {canary}"), 2)
    assert pickletools.optimize(good)
    yield "a zip bomb", archive(folder / "bomb.pt", good, bytes(1 << 26), zipfile.ZIP_DEFLATED), "compressed or encrypted"
    with zipfile.ZipFile(folder / "twice.pt", "w") as file:
        for content in (good, evil):
            info = zipfile.ZipInfo("archive/data.pkl" if content is good else "archive/data.pkm")
            file.writestr(info, content)
    raw = (folder / "twice.pt").read_bytes().replace(b"data.pkm", b"data.pkl")
    (folder / "twice.pt").write_bytes(raw)
    yield "two members of one name", folder / "twice.pt", "two entries of one name"
    path = archive(folder / "encrypted.pt", good)
    raw = path.read_bytes()
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.index(head) + flags
        raw = raw[:at] + b"\x01" + raw[at + 1 :]
    path.write_bytes(raw)
    yield "an encrypted member", path, "compressed or encrypted"
    with zipfile.ZipFile(folder / "script.pt", "w") as file:
        for member in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            file.writestr(f"archive/{member}", evil)
    yield "a TorchScript archive", folder / "script.pt", "TorchScript"
    with tarfile.open(folder / "tar.pt", "w") as file:
        for member in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(member)
            info.size = len(evil)
            file.addfile(info, io.BytesIO(evil))
    yield "the tar of old torch", folder / "tar.pt", "tar archive"
    (folder / "bare.pt").write_bytes(evil)
    yield "a bare pickle", folder / "bare.pt", "refused"
    cut = archive(folder / "cut.pt", good)
    cut.write_bytes(cut.read_bytes()[:-30])
    yield "a cut archive", cut, "damaged or truncated"
    raw = archive(folder / "sizes.pt", good).read_bytes()
    at = raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 4)
    (folder / "sizes.pt").write_bytes(raw[: at + 20] + struct.pack("<II", 1 << 31, 1 << 31) + raw[at + 28 :])
    yield "a member that claims 2 GB", folder / "sizes.pt", "claims more bytes|damaged"
    doubled = b"\x80\x02](]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 60)) + b"e."
    (folder / "doubled.pt").write_bytes(LEGACY + pickle.dumps({}, 2) + doubled)
    yield "keys of lists of lists", folder / "doubled.pt", "list of storages"
