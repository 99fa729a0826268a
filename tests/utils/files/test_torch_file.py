"""The restricted reader: everything torch.save writes of a checkpoint comes out right, everything else is refused and never runs."""

from __future__ import annotations

import io
import pathlib
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from utils.errors import UserError
from utils.files.safe_pickle import InertObject, Name
from utils.files.torch_file import read_torch_file


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


class Stateful:
    def __setstate__(self, state: Any) -> None:
        raise AssertionError("ran")

    def __getstate__(self) -> Any:
        return {"a": 1}


def archive(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, **options: Any) -> Path:
    """A zip as torch.save lays it out, around any pickle."""
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr("archive/data.pkl", pickled)
        for key, raw in (storages or {}).items():
            file.writestr(f"archive/data/{key}", raw)
        file.writestr("archive/version", b"3\n")
    return path


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.id if isinstance(obj, Storage) else None


class Storage:
    def __init__(self, key: Any, kind: Any, count: Any) -> None:
        self.id = ("storage", kind, key, "cpu", count)


def tensor_file(path: Path, raw: bytes, *args: Any, count: int = 4, kind: Any = torch.FloatStorage) -> Path:
    """A file of one tensor, rebuilt with `args` (offset, size, stride) from a storage that claims `count` elements."""
    buffer = io.BytesIO()
    _Pickler(buffer, 2).dump(Calls(torch._utils._rebuild_tensor_v2, Storage("0", kind, count), *args, False, OrderedDict()))
    return archive(path, buffer.getvalue(), {"0": raw})


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_reads_what_torch_saves(tmp_path: Path, zipped: bool, protocol: int) -> None:
    base = torch.arange(6, dtype=torch.int64).view(2, 3)
    layer = torch.nn.Linear(2, 2)
    given = {
        "turned": base.t(),
        "part": base[1, 1:],
        "parameter": torch.nn.Parameter(torch.tensor([1.5, -2.0], dtype=torch.bfloat16)),
        "half": torch.tensor([0.1], dtype=torch.float16),
        "empty": torch.zeros(0, 3),
        "scalar": np.float64(0.25),
        "flag": np.bool_(True),
        "array": np.arange(3, dtype=">i4"),
        "path": pathlib.PurePosixPath("/data/x"),
        "ordered": OrderedDict(a=1),
        "set": {1, 2},
        "bytes": b"\x00\xff",
        "size": torch.Size([1, 2]),
        "layer": layer,
        "expanded": torch.zeros(1).expand(1000, 1000),
        "dtype": torch.float32,
    }
    torch.save(given, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    read = read_torch_file(tmp_path / "x.pt")

    for key in ("turned", "part", "parameter", "half", "empty"):
        assert torch.equal(read[key], given[key].detach())
        assert read[key].dtype == given[key].dtype
    plain = {"scalar": 0.25, "flag": True, "array": [0, 1, 2], "path": "/data/x", "ordered": {"a": 1}, "set": {1, 2}, "bytes": b"\x00\xff"}
    assert {key: read[key] for key in plain} == plain
    assert read["size"] == (1, 2)
    assert read["dtype"] == Name("torch", "float32")
    assert isinstance(read["expanded"], InertObject)
    assert read["layer"].type == Name("torch.nn.modules.linear", "Linear")
    assert torch.equal(read["layer"].state["_parameters"]["weight"], layer.weight.detach())


def test_views_share_their_storage(tmp_path: Path) -> None:
    base = torch.arange(4.0)
    torch.save([base, base[2:]], tmp_path / "x.pt")
    whole, part = read_torch_file(tmp_path / "x.pt")
    assert whole.data_ptr() + 8 == part.data_ptr()


def test_reads_the_official_file(shared: Path) -> None:
    read = read_torch_file(shared / "yolov5n.pt")
    assert read["epoch"] == -1
    assert read["model"].type == Name("models.yolo", "Model")
    first = read["model"].state["_modules"]["model"].state["_modules"]["0"].state["_modules"]["conv"]
    assert first.state["_parameters"]["weight"].shape == (16, 3, 6, 6)


HOSTILE = {
    "system": b"cos\nsystem\n(S'touch canary'\ntR.",
    "posix": b"cposix\nsystem\n(S'touch canary'\ntR.",
    "eval": b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x001+10\x85R.",
    "exec under its old name": b"\x80\x02c__builtin__\nexecfile\nX\x01\x00\x00\x00x\x85R.",
    "getattr": b"\x80\x02cbuiltins\ngetattr\n)R.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
    "dotted name": b"\x80\x04\x8c\x05torch\x8c\x0bhub.os.open\x93\x8c\x01x\x85R.",
    "name of a number": b"\x80\x04K\x01K\x02\x93.",
    "inst": b"(S'x'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'x'\no.",
    "subprocess": b"\x80\x02csubprocess\nPopen\n)\x81.",
    "runpy": b"\x80\x02crunpy\nrun_path\nX\x01\x00\x00\x00x\x85R.",
    "pydoc": b"\x80\x02cpydoc\nlocate\nX\x01\x00\x00\x00x\x85R.",
    "ctypes": b"\x80\x02cctypes\nCDLL\nX\x01\x00\x00\x00x\x85R.",
    "webbrowser": b"\x80\x02cwebbrowser\nopen\nX\x01\x00\x00\x00x\x85R.",
    "import": b"\x80\x02cimportlib\nimport_module\nX\x02\x00\x00\x00os\x85R.",
    "nested pickle": b"\x80\x02cpickle\nloads\nC\x03\x80\x02.\x85R.",
    "torch.load": b"\x80\x02ctorch.serialization\nload\nX\x01\x00\x00\x00x\x85R.",
    "torch.hub": b"\x80\x02ctorch.hub\nload\nX\x01\x00\x00\x00x\x85R.",
    "numpy's exec": b"\x80\x02cnumpy.testing._private.utils\nrunstring\nX\x01\x00\x00\x00x}\x86R.",
    "torch.utils": b"\x80\x02ctorch.utils.collect_env\nrun\nX\x01\x00\x00\x00x\x85R.",
    "a class of its own": b"\x80\x02cmodels.evil\nRun\nX\x01\x00\x00\x00x\x85R.",
    "codec with code": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00xX\x05\x00\x00\x00rot13\x86R.",
    "build on a list": b"\x80\x02]}X\x01\x00\x00\x00aK\x01sb.",
    "append to a record": b"\x80\x02cmodels.x\nX\n)\x81K\x01a.",
    "call of a call": b"\x80\x02]]\x85R.",
    "extension": b"\x80\x02\x82\x01.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "reference outside": b"\x80\x02X\x04\x00\x00\x00fileQ.",
    "text reference": b"Pos\n.",
    "tuple as key": b"\x80\x02}))K\x01\x86s.",
    "object dtype": b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x85RC\x08AAAAAAAA\x86R.",
    "no memo": b"\x80\x02h\x07.",
    "empty stack": b"\x80\x02R.",
    "no stop": b"\x80\x02K\x01",
    "two values": b"\x80\x02K\x01K\x02.",
    "huge text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.",
    "unknown opcode": b"\x80\x02\xff.",
    "no mark": b"\x80\x02K\x01t.",
    "unhashable": b"\x80\x02}]K\x01s.",
}


@pytest.mark.parametrize("pickled", HOSTILE.values(), ids=HOSTILE.keys())
def test_refuses_hostile_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pickled: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="refused, and nothing of it was run"):
        read_torch_file(archive(tmp_path / "x.pt", pickled))
    legacy = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}))
    (tmp_path / "y.pt").write_bytes(legacy + pickled if pickled.startswith(b"\x80") else pickled)
    with pytest.raises(UserError):
        read_torch_file(tmp_path / "y.pt")
    assert not (tmp_path / "canary").exists()


def test_names_what_it_refuses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names os\.system"):
        read_torch_file(archive(tmp_path / "x.pt", HOSTILE["system"]))
    with pytest.raises(UserError, match=r"calls torch\.hub\.load"):
        read_torch_file(archive(tmp_path / "x.pt", HOSTILE["torch.hub"]))


def test_state_is_recorded_and_not_set(tmp_path: Path) -> None:
    pickled = pickle.dumps(Stateful(), 2).replace(Stateful.__module__.encode(), b"models.custom")
    record = read_torch_file(archive(tmp_path / "x.pt", pickled))
    assert isinstance(record, InertObject)
    assert record.state == {"a": 1}


def test_deep_cyclic_and_endless_pickles(tmp_path: Path) -> None:
    cyclic = read_torch_file(archive(tmp_path / "x.pt", b"\x80\x02]q\x00h\x00a."))
    assert cyclic[0] is cyclic
    deep = b"\x80\x02" + b")" + b"\x85" * 200_000 + b"."
    assert len(read_torch_file(archive(tmp_path / "x.pt", deep))) == 1
    with pytest.raises(UserError, match="refused"):
        read_torch_file(archive(tmp_path / "x.pt", b"\x80\x02c__builtin__\nset\n" + deep[2:-1] + b"\x85R."))


def test_work_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.files.safe_pickle.MAX_OPCODES", 5_000)
    monkeypatch.setattr("utils.files.torch_file._MAX_PICKLE_BYTES", 50_000)
    with pytest.raises(UserError, match="more than 5000 steps"):
        read_torch_file(archive(tmp_path / "x.pt", b"\x80\x02" + b"N0" * 3_000 + b"N."))
    copies = b"\x80\x02](" + b"K\x01" * 1000 + b"eq\x00" + b"c__builtin__\nlist\nh\x00\x85R0" * 100 + b"."  # 100 copies of a list of 1000
    with pytest.raises(UserError, match="more than 5000 steps"):
        read_torch_file(archive(tmp_path / "x.pt", copies))
    with pytest.raises(UserError, match="larger than 50000 bytes"):
        read_torch_file(archive(tmp_path / "x.pt", b"\x80\x02" + b"N0" * 30_000 + b"N."))


def test_text_and_numbers_are_not_multiplied(tmp_path: Path) -> None:
    """A file that names the same megabyte ten thousand times must not be believed."""
    text = b"X" + struct.pack("<I", 500_000) + b"a" * 500_000 + b"q\x000"
    path = archive(tmp_path / "x.pt", b"\x80\x02" + text + b"cpathlib\nPosixPath\n(" + b"h\x00" * 10_000 + b"tR.")
    with pytest.raises(UserError, match="more than 1000000 steps"):
        read_torch_file(path)
    raw = b"B" + struct.pack("<I", 2_000_000) + bytes(2_000_000)
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R"
    with pytest.raises(UserError, match="more than 1000000 steps"):
        read_torch_file(archive(tmp_path / "x.pt", b"\x80\x03cnumpy.core.multiarray\nscalar\n" + dtype + raw + b"\x86R."))


def test_doubled_keys_of_the_old_format(tmp_path: Path) -> None:
    """Sixty lists, each of two times the one before: writing them out would take 2**60 characters."""
    doubled = b"\x80\x02](]" + b"q\x00" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 60)) + b"e."
    legacy = b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {}, {}))
    (tmp_path / "x.pt").write_bytes(legacy + doubled)
    with pytest.raises(UserError, match="list of storages does not match"):
        read_torch_file(tmp_path / "x.pt")


FLOATS = struct.pack("<4f", 1, 2, 3, 4)


def test_tensor_within_bounds(tmp_path: Path) -> None:
    read = read_torch_file(tensor_file(tmp_path / "x.pt", FLOATS, 1, (3,), (1,)))
    assert read.tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("offset", "size", "stride", "count"),
    [
        (0, (5,), (1,), 4),  # longer than its storage
        (1, (4,), (1,), 4),  # starts too late
        (0, (2,), (4,), 4),  # strides past the end
        (3, (2,), (-1,), 4),  # negative stride
        (-1, (2,), (1,), 4),
        (0, (-2,), (1,), 4),
        (0, (2, 2), (1,), 4),  # ranks differ
        (0, (2**62, 2**62), (1, 1), 4),
        (5, (0,), (1,), 4),  # empty, but outside
        (0, (True,), (1,), 4),
        (0.0, (1,), (1,), 4),
        (0, (1,) * 9, (1,) * 9, 4),
        (0, (4,), (1,), 3),  # storage of another size than its entry
        (0, (4,), (1,), 10**15),  # more than the file has
        (0, (4,), (1,), -4),
        (0, (4,), (1,), "4"),
    ],
)
def test_refuses_lying_tensors(tmp_path: Path, offset: Any, size: Any, stride: Any, count: Any) -> None:
    with pytest.raises(UserError, match="refused"):
        read_torch_file(tensor_file(tmp_path / "x.pt", FLOATS, offset, size, stride, count=count))


def test_refuses_unknown_storages_and_repeated_views(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown kind"):
        read_torch_file(tensor_file(tmp_path / "x.pt", FLOATS, 0, (4,), (1,), kind=torch.Tensor))
    buffer = io.BytesIO()
    storage = Storage("0", torch.FloatStorage, 2000)
    views = [Calls(torch._utils._rebuild_tensor_v2, storage, 0, (2000,), (1,), False, OrderedDict()) for _ in range(100)]
    _Pickler(buffer, 2).dump(views)
    with pytest.raises(UserError, match="too often"):
        read_torch_file(archive(tmp_path / "x.pt", buffer.getvalue(), {"0": bytes(8000)}))
    buffer = io.BytesIO()
    kinds = (torch.FloatStorage, torch.IntStorage)
    _Pickler(buffer, 2).dump(
        [Calls(torch._utils._rebuild_tensor_v2, Storage("0", k, 4), 0, (4,), (1,), False, OrderedDict()) for k in kinds]
    )
    with pytest.raises(UserError, match="in two ways"):
        read_torch_file(archive(tmp_path / "x.pt", buffer.getvalue(), {"0": FLOATS}))


def test_refuses_odd_archives(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(UserError, match="compressed"):
        read_torch_file(archive(path, b"\x80\x02N." + bytes(1000), compression=zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02N.")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("archive/data.pkl", b"\x80\x02K\x01.")
    with pytest.raises(UserError, match="two entries"):
        read_torch_file(path)
    for name, message in (("other.txt", "not written by torch.save"), ("a/byteorder", "byte order"), ("a/constants.pkl", "TorchScript")):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(name, b"big")
            if name.startswith("a/"):
                file.writestr("a/data.pkl", b"\x80\x02N.")
        with pytest.raises(UserError, match=message):
            read_torch_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"hello", "neither"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, "tar archive"),
        (pickle.dumps({"a": 1}, 2), "not written by torch.save"),
        (b"PK\x03\x04 and then nothing", "damaged or truncated"),
    ],
)
def test_says_what_a_file_is_instead(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_torch_file(tmp_path / "x.pt")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_torch_file(tmp_path / "none.pt")
    with pytest.raises(UserError, match="cannot be read"):
        read_torch_file(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_is_a_user_error(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "x.pt"
    torch.save({"model": torch.nn.Linear(3, 3), "epoch": 1}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(150):
        cut = whole[: draw.randrange(len(whole))]
        with pytest.raises(UserError):
            read_torch_file(_written(path, cut))
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        try:
            read_torch_file(_written(path, flipped))
        except UserError:
            continue


def _written(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(content)
    return path


def test_keys_of_one_hash_are_refused(tmp_path):
    """Python's hash of an integer is its rest by 2**61 - 1: a dict of such keys takes quadratic time."""
    path = tmp_path / "a.pt"
    torch.save({i * (2**61 - 1): 0 for i in range(100)}, path)
    with pytest.raises(UserError, match="a key that is too large a number"):
        read_torch_file(path)
