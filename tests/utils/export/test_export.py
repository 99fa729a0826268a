"""export.py: what each format's file computes and says of itself, and what is left after a failure."""

from __future__ import annotations

import ast
import dataclasses
import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from export import main
from models import load_model
from models.detector import Detector
from tests.utils.export.conftest import NAMES
from utils.errors import UserError
from utils.export import registry
from utils.export.check import prediction_differences
from utils.export.runtime_cache import exported_weights
from utils.images import letterbox
from utils.inference.nms import non_max_suppression

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("pt2", "litert")]


def run(checkpoint: Path, *flags: str) -> None:
    main(["--weights", str(checkpoint), "--imgsz", "64", *flags])


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_onnx_has_the_names_of_yolov5_and_what_it_says_of_itself(checkpoint: Path) -> None:
    run(checkpoint, "--include", "onnx")
    session = ort.InferenceSession(str(checkpoint.with_suffix(".onnx")))
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, found.name, found.shape) == ("images", [1, 3, 64, 64], "output0", [1, 160, 8])
    said = session.get_modelmeta().custom_metadata_map
    assert ast.literal_eval(said["names"]) == NAMES
    assert (said["stride"], said["imgsz"], said["task"], said["batch"]) == ("16", "[64, 64]", "detect", "1")
    assert {"date", "version", "license", "description"} <= set(said)
    assert files(checkpoint.parent) == {"best.pt", "best.onnx"}


@pytest.mark.parametrize("name", ["onnx", "torchscript", "openvino", "ncnn", *SLOW])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_file_computes_what_torch_does(name: str, dynamic: bool, checkpoint: Path, detector: Detector) -> None:
    if dynamic and "dynamic" not in registry.FORMATS[name].options:
        pytest.skip("has one size")
    for package in registry.FORMATS[name].packages:
        pytest.importorskip(package)
    run(checkpoint, "--include", name, *(["--dynamic"] if dynamic else []))
    model = load_model(checkpoint.with_name("best" + registry.FORMATS[name].ending))
    assert (model.names, model.nc, model.ch, model.max_stride) == (NAMES, 3, 3, 16)
    assert model.fixed_shape == (None if dynamic else (64, 64))
    for shape in ((1, 64, 64), (5, 64, 64), *([(2, 48, 80)] if dynamic else [])):
        x = torch.rand(shape[0], 3, *shape[1:])
        with torch.no_grad():
            differences = prediction_differences(model(x), detector(x))
        assert differences.max() < 1e-3
        assert len(differences) >= 100


@pytest.mark.parametrize("agnostic", [False, True])
def test_nms_in_the_graph_keeps_what_detect_keeps(agnostic: bool, checkpoint: Path, detector: Detector) -> None:
    flags = [
        "--nms",
        "--dynamic",
        "--conf-thres",
        "0.4",
        "--iou-thres",
        "0.4",
        "--topk-all",
        "25",
        *(["--agnostic-nms"] if agnostic else []),
    ]
    run(checkpoint, "--include", "onnx", *flags)
    session = ort.InferenceSession(str(checkpoint.with_suffix(".onnx")))
    x = torch.rand(3, 3, 64, 96)
    (found,) = session.run(["output0"], {"images": x.numpy()})
    assert found.shape == (3, 25, 6)
    with torch.no_grad():
        expected = non_max_suppression(detector(x), 0.4, 0.4, agnostic=agnostic, max_det=25)
    assert sum(map(len, expected)) > 10
    for rows, kept in zip(torch.from_numpy(found), expected, strict=True):
        torch.testing.assert_close(rows[: len(kept)], kept, rtol=1e-4, atol=1e-3)
        assert not rows[len(kept) :].any()
    read = non_max_suppression(load_model(checkpoint.with_suffix(".onnx"))(x), 0.4, 0.4, agnostic=agnostic, max_det=25)
    for own, kept in zip(read, expected, strict=True):
        torch.testing.assert_close(own, kept, rtol=1e-4, atol=1e-3)


def test_an_image_without_detections_is_no_error(checkpoint: Path) -> None:
    run(checkpoint, "--include", "onnx", "--nms", "--conf-thres", "0.9999")
    (found,) = ort.InferenceSession(str(checkpoint.with_suffix(".onnx"))).run(None, {"images": torch.zeros(1, 3, 64, 64).numpy()})
    assert found.shape == (1, 100, 6)
    assert not found.any()


def test_half_precision_halves_the_file_and_keeps_float_inputs(checkpoint: Path) -> None:
    run(checkpoint, "--include", "onnx")
    size = checkpoint.with_suffix(".onnx").stat().st_size
    run(checkpoint, "--include", "onnx", "--half")
    weights = [w for w in onnx.load(str(checkpoint.with_suffix(".onnx"))).graph.initializer if len(w.dims) == 4]
    assert {w.data_type for w in weights} == {onnx.TensorProto.FLOAT16}
    assert checkpoint.with_suffix(".onnx").stat().st_size < size
    assert load_model(checkpoint.with_suffix(".onnx"))(torch.rand(1, 3, 64, 64)).dtype == torch.float32


def test_torchscript_says_what_yolov5s_says(checkpoint: Path) -> None:
    run(checkpoint, "--include", "torchscript", "--batch-size", "2")
    extra = {"config.txt": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(checkpoint.with_suffix(".torchscript")), _extra_files=extra)
    said = json.loads(extra["config.txt"])
    assert said["shape"] == [2, 3, 64, 64]
    assert said["stride"] == 16
    assert said["names"] == {str(k): v for k, v in NAMES.items()}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--include", "onxn"], "did you mean 'onnx'"),
        (["--include", "onnx", "--imgsz", "65"], "--imgsz 65.*stride 16; use 64 or 80"),
        (["--include", "onnx", "--opset", "3"], "--opset"),
        (["--include", "onnx", "--half", "--int8"], "exclude"),
        (["--include", "openvino", "--int8"], "--int8 needs --data"),
        (["--include", "onnx", "--int8"], "--int8 is not available for onnx"),
        (["--include", "torchscript", "--nms"], "--nms is not available for torchscript"),
        (["--weights", "best.onnx"], "exported already"),
        (["--weights", "absent.pt"], "absent.pt"),
        (["--data", "absent.yaml"], "absent.yaml"),
    ],
)
def test_bad_flags_write_nothing(flags: list[str], message: str, checkpoint: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(checkpoint, *flags)
    assert files(checkpoint.parent) == {"best.pt"}


def test_a_format_that_fails_leaves_nothing_and_stops_no_other(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = checkpoint.with_suffix(".onnx")
    older.write_bytes(b"older")

    def half_written(job: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise UserError("broken")

    monkeypatch.setitem(registry.FORMATS, "onnx", dataclasses.replace(registry.FORMATS["onnx"], write=half_written))
    with pytest.raises(UserError, match="1 of 2 formats failed: onnx: broken"):
        run(checkpoint, "--include", "onnx", "torchscript")
    assert older.read_bytes() == b"older"
    assert files(checkpoint.parent) == {"best.pt", "best.onnx", "best.torchscript"}


def test_a_file_that_computes_something_else_is_not_kept(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchscript = registry.FORMATS["torchscript"]

    def wrong(job: object, path: Path) -> None:
        with torch.no_grad():
            job.model.head.m[0].bias += 0.01
            torchscript.write(job, path)
            job.model.head.m[0].bias -= 0.01

    monkeypatch.setitem(registry.FORMATS, "torchscript", dataclasses.replace(torchscript, write=wrong))
    with pytest.raises(UserError, match="differs from torch"):
        run(checkpoint, "--include", "torchscript")
    assert files(checkpoint.parent) == {"best.pt"}


def test_detect_and_predict_find_the_same_in_a_file_of_one_size(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import detect

    run(checkpoint, "--include", "onnx")
    image = np.random.default_rng(0).integers(0, 255, (50, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    x = torch.from_numpy(letterbox.apply(image, letterbox.fit((50, 80), (64, 64)))).flip(2).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = non_max_suppression(load_model(checkpoint)(x), 0.4, 0.45)[0]
    model = load_model(checkpoint.with_suffix(".onnx"))
    (result,) = model.predict(str(tmp_path / "a.png"), imgsz=640, conf=0.4)
    assert len(result.conf) == len(expected) > 3
    np.testing.assert_allclose(result.conf, expected[:, 4], rtol=1e-4)
    flags = ["--weights", str(checkpoint.with_suffix(".onnx")), "--source", str(tmp_path / "a.png"), "--project", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", ["detect.py", *flags, "--save-txt", "--nosave", "--conf-thres", "0.4"])
    detect.main()
    assert len((tmp_path / "runs" / "exp" / "labels" / "a.txt").read_text().splitlines()) == len(expected)
    monkeypatch.setattr("sys.argv", ["detect.py", *flags, "--attention"])
    with pytest.raises(UserError, match="--attention"):
        detect.main()
    with pytest.raises(UserError, match="--augment"):
        model.predict(image, augment=True)


def test_a_runtime_computes_a_checkpoint_from_the_cache(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import detect

    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path / "cache"))
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (50, 80, 3), np.uint8))
    flags = ["--weights", str(checkpoint), "--source", str(tmp_path / "a.png"), "--imgsz", "64", "--conf-thres", "0.4"]
    flags += ["--project", str(tmp_path / "runs"), "--save-txt", "--nosave"]
    for runtime in ("torch", "onnx", "onnx"):
        monkeypatch.setattr("sys.argv", ["detect.py", *flags, "--runtime", runtime])
        detect.main()
    assert capsys.readouterr().out.count("exporting") == 1
    assert len(files(tmp_path / "cache" / "exports")) == 1
    assert files(checkpoint.parent) == {"best.pt"}
    torch_lines, *others = ((tmp_path / "runs" / name / "labels" / "a.txt").read_text().splitlines() for name in ("exp", "exp2", "exp3"))
    assert all(len(lines) == len(torch_lines) > 3 for lines in others)
    monkeypatch.setattr("sys.argv", ["detect.py", *flags, "--runtime", "onnx", "--augment"])
    with pytest.raises(UserError, match="--augment needs --runtime torch"):
        detect.main()


def test_a_changed_plug_in_is_exported_again(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path / "cache"))
    plugin = tmp_path / "block.py"
    plugin.write_text("SCALE = 1")
    first = exported_weights(str(checkpoint), "onnx", (str(plugin),))
    assert exported_weights(str(checkpoint), "onnx", (str(plugin),)) == first
    plugin.write_text("SCALE = 2")
    assert exported_weights(str(checkpoint), "onnx", (str(plugin),)) != first
    assert len(files(tmp_path / "cache" / "exports")) == 2
