"""Exported files of others: what is read, and what damaged, foreign and hostile ones get."""

from __future__ import annotations

import json
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from models import load_model
from utils.errors import UserError
from utils.inference.runtimes.metadata import parse_metadata

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

INPUT = "float[1,3,64,64] images"
BODY = """
  zero = Constant<value = float {0}>()
  shape = Constant<value = int64[3] {1, 252, 85}>()
  nothing = Expand(zero, shape)
  mean = ReduceMean<axes = [1, 2, 3], keepdims = 0>(images)
  output = Add(nothing, mean)
"""


def write(
    path: Path, *, given: str = INPUT, output: str = "float[1,252,85] output", body: str = BODY, opsets: str = "", **said: object
) -> Path:
    """An ONNX file from its text, with metadata."""
    graph = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17{opsets}]> g ({given}) => ({output}) {{ {body} }}')
    for key, value in said.items():
        graph.metadata_props.add(key=key, value=str(value))
    path.write_bytes(graph.SerializeToString())
    return path


def shaped(*shape: int) -> dict[str, str]:
    text = ", ".join(map(str, shape))
    return {"body": BODY.replace("[3] {1, 252, 85}", f"[{len(shape)}] {{{text}}}"), "output": f"float[{text}] output"}


def test_a_file_of_yolov5_without_names(tmp_path: Path) -> None:
    model = load_model(write(tmp_path / "yolov5s.onnx"))
    assert (model.nc, model.names[79], model.max_stride, model.fixed_shape) == (80, "class79", 32, (64, 64))
    x = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(model(x), x.mean((1, 2, 3))[:, None, None].expand(3, 252, 85))


def test_a_file_of_yolov5_with_its_raw_maps(tmp_path: Path) -> None:
    body = BODY + "maps = Identity(nothing)"
    path = write(tmp_path / "a.onnx", output="float[1,252,85] output, float[1,252,85] maps", body=body, stride=64, names=["x"] * 80)
    assert load_model(path).max_stride == 64


def test_unknown_output_sizes_are_found_by_running(tmp_path: Path) -> None:
    assert load_model(write(tmp_path / "a.onnx", given="float[b,3,h,w] images", output="float[b,n,k] output")).nc == 80


def test_another_size_than_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes images of 64 x 64 pixels, not 64 x 96"):
        load_model(write(tmp_path / "a.onnx"))(torch.rand(1, 3, 64, 96))


TWO = "float[1,3,64,64] images, float[1] size"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"given": TWO}, "2 inputs"),
        ({"given": "float[1,64,64] images", "body": BODY.replace("[1, 2, 3]", "[1, 2]")}, "is no YOLOv5 detector"),
        ({"given": "float[1,1,64,64] images"}, "1 x 1 x 64 x 64"),
        ({"given": "float[1,3,64,w] images"}, "64 x any"),
        ({"given": "float[1,3,999999,999999] images"}, "999999"),
        (
            {
                "given": "int64[1,3,64,64] images",
                "body": BODY.replace("(images)", "(x)").replace("zero =", "x = Cast<to = 1>(images)\nzero ="),
            },
            "no YOLOv5",
        ),
        (shaped(1, 84, 8400) | {"names": dict(enumerate("x" * 80))}, "YOLOv8"),
        (shaped(1, 252, 5), "images x boxes"),
        (shaped(1, 3, 8, 85), "images x boxes"),
        ({"names": ["a", "b"]}, "2 class names for outputs of 80 classes"),
        ({"names": {0: "a", 2: "b"}}, "class names"),
        ({"names": "[" * 5000}, "class names"),
        ({"stride": "x"}, "stride"),
        ({"stride": "-32"}, "stride"),
        ({"nms": True, "names": ["a"]}, "NMS"),
        ({"body": BODY.replace("Add(", "own.Mine("), "opsets": ', "own" : 1'}, "ONNX Runtime cannot load it"),
        ({"body": BODY.replace("{1, 252, 85}", "{1, 9999999999, 85}"), "output": "float[1,n,85] output"}, "ONNX Runtime cannot"),
    ],
)
def test_foreign_files_get_one_message(change: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_model(write(tmp_path / "a.onnx", **change))
    assert "a.onnx" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_weights_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(85 * 4))
    folder = tmp_path / "model"
    folder.mkdir()
    graph = onnx.load(str(write(folder / "a.onnx", body=BODY.replace("nothing = Expand(zero, shape)", "nothing = Expand(w, shape)"))))
    weight = graph.graph.initializer.add(name="w", data_type=1, dims=[85], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "340")):
        weight.external_data.add(key=key, value=value)
    (folder / "a.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(UserError, match="escapes"):
        load_model(folder / "a.onnx")


@pytest.mark.parametrize("name", ["a.onnx", "a.torchscript", "a.pt2", "a.xml"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"text\n" * 99])
def test_damaged_files_get_one_message(name: str, content: bytes, tmp_path: Path) -> None:
    if name == "a.xml":
        pytest.importorskip("openvino")
        (tmp_path / "a.bin").write_bytes(b"")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        load_model(tmp_path / name)


@pytest.mark.parametrize("name", ["a.onnx", "a.torchscript", "a.pt2", "x" * 300 + ".onnx"])
def test_missing_files_get_one_message(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_model(tmp_path / name)


def test_a_missing_package_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        load_model(write(tmp_path / "a.onnx"))
    monkeypatch.setitem(sys.modules, "openvino", None)
    (tmp_path / "a_openvino_model").mkdir()
    with pytest.raises(UserError, match="pip install openvino"):
        load_model(tmp_path / "a_openvino_model")


class _Reader(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file("/etc/hostname", False, 4) + x.mean()


def test_torchscript_that_reads_files_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(_Reader()).save(str(tmp_path / "a.torchscript"))
    with pytest.raises(UserError, match="from_file, which no detector needs"):
        load_model(tmp_path / "a.torchscript")


class _Scale(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.mean((2, 3))[:, :1, None].expand(-1, 7, 6)
        return y * self.scale * y


def test_torchscript_runs_without_gradients_first_and_in_inference_mode_then(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(_Scale(), torch.ones(2, 3, 32, 32)).save(str(tmp_path / "a.torchscript"))
    model = load_model(tmp_path / "a.torchscript")
    with torch.inference_mode():
        assert [float(model(torch.full((1, 3, 64, 64), 3.0)).sum()) for _ in range(3)] == [9.0 * 42] * 3


PT2 = {"graph_module": {"graph": {"nodes": [{"target": "torch.ops.aten.add.Tensor"}]}}, "guards_code": ["L['x'].size()[3] // 2 != 1"]}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("models/model.json", PT2 | {"guards_code": ["__import__('os').system('touch x')"]}, "no formula"),
        ("models/model.json", PT2 | {"guards_code": ["exit()"]}, "no formula"),
        ("models/model.json", PT2 | {"a": {"expr_str": "Symbol('s0').__class__"}}, "no formula"),
        ("models/model.json", PT2 | {"a": [{"expr_str": "(lambda: 1)()"}]}, "no formula"),
        ("models/model.json", PT2 | {"a": [{"target": "torch.ops.aten.from_file.default"}]}, "from_file"),
        ("models/model.json", PT2 | {"a": [{"target": "os.system"}]}, "os.system"),
        ("data/weights/model_weights_config.json", {"config": {"w": {"use_pickle": True}}}, "pickles"),
        ("data/sample_inputs/model.pt", "x", "pickled"),
        ("data/aotinductor/model/a.so", "x", "aotinductor"),
        ("data/constants/custom_obj_0", "x", "custom_obj"),
    ],
)
def test_a_program_that_holds_more_than_a_graph_is_refused(file: str, content: object, message: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt2", "w") as archive:
        for name, value in {"models/model.json": PT2, file: content}.items():
            archive.writestr(f"a/{name}", json.dumps(value))
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "a.pt2")


@pytest.mark.parametrize(
    "names",
    [
        "{" + ", ".join(f"{1 + number * ((1 << 61) - 1)}: 'x'" for number in range(99)) + "}",  # all keys have one hash
        "{(0.5, 1.0): 'x'}",
        "{1, 2}",
        "-" * 100_000 + "1",
        "__import__('os').system('x')",
    ],
)
def test_names_that_are_no_plain_list(names: str) -> None:
    with pytest.raises(UserError, match=r"a\.onnx: its metadata lists no class names"):
        parse_metadata({"names": names}, "a.onnx")


def test_sides_are_whole_numbers(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(torch.nn.Identity(), torch.zeros(1, 3, 64, 64))
        torch.jit.save(traced, str(tmp_path / "a.torchscript"), _extra_files={"config.txt": json.dumps({"shape": [True, 3, 64, 64]})})
    with pytest.raises(UserError, match="gives the shape"):
        load_model(tmp_path / "a.torchscript")
