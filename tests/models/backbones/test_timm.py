"""Networks of timm as rows: against timm's own features, with weights from files, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export import main as export
from models import build_model, load_model
from models.backbones.timm import TimmBackbone
from models.check import __main__ as check
from models.check.popular import POPULAR
from models.detector import Detector
from models.show import main as show
from utils.config import Hyp
from utils.errors import UserError
from utils.training.checkpoint import save_checkpoint
from utils.training.optim import Schedule, apply_setting, build_optimizer

timm = pytest.importorskip("timm")


def variant(*args: Any, more: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """YOLOv5n on a network of timm."""
    gone = [{"remove": row} for row in (1, 2, 3, 5, 7)]
    maps = [{"replace": row, "with": [0, 1, "Feature", [i]]} for i, row in enumerate((4, 6, 8))]
    return {"base": "yolov5n.yaml", "edits": [{"replace": 0, "with": [1, "timm", list(args)]}, *gone, *maps, *more]}


GATED = {"after": 9, "insert": [1, "SE", []], "gate": "zero"}


def save(model: Detector, path: Path) -> None:
    """A checkpoint as training leaves it."""
    payload = {"attune": 1, "spec": model.spec.to_dict(), "names": dict(model.names), "model": model.state_dict(), "ema": None}
    save_checkpoint(path, {**payload, "config": {}, "hyp": {}, "resume": None, "epoch": 0, "metrics": {}})


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("lcnet_050", (8, 16, 32)),
        ("convnext_atto", (4, 8, 16, 32)),
        pytest.param("swin_tiny_patch4_window7_224", (8, 16, 32), marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", (8, 16), marks=pytest.mark.slow),
        pytest.param("pvt_v2_b0", (8, 16, 32), marks=pytest.mark.slow),
        pytest.param("csatv2", (8, 16, 32, 64), marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_features_are_timms_own_at_native_size(name: str, strides: tuple[int, ...]) -> None:
    block = TimmBackbone(3, name, strides=strides).eval()
    oracle = timm.create_model(name, features_only=True).eval()
    keys = oracle.state_dict()
    oracle.load_state_dict({key: value for key, value in block.net.state_dict().items() if key in keys}, strict=False)
    config = timm.get_pretrained_cfg(name)
    x = torch.rand(1, 3, *config.input_size[1:])
    normalised = (x - torch.tensor(config.mean).view(3, 1, 1)) / torch.tensor(config.std).view(3, 1, 1)
    maps = dict(zip(oracle.feature_info.reduction(), oracle(normalised), strict=True))
    for found, stride in zip(block(x), strides, strict=True):
        expected = maps[stride]
        if expected.shape[1] != found.shape[1]:
            expected = expected.permute(0, 3, 1, 2)
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_any_size_any_number_of_channels() -> None:
    block = TimmBackbone(4, "lcnet_050").eval()
    for height, width in ((13, 20), (1, 1), (64, 33)):
        maps = block(torch.rand(2, 4, height, width))
        assert [tuple(y.shape[2:]) for y in maps] == [(-(-height // s), -(-width // s)) for s in (8, 16, 32)]
        assert [y.shape[1] for y in maps] == [64, 128, 256]


@pytest.mark.parametrize("suffix", ["pth", pytest.param("safetensors", marks=pytest.mark.slow)])
def test_weights_of_a_file_survive_building_gating_saving_and_loading(suffix: str, tmp_path: Path) -> None:
    own = timm.create_model("lcnet_050", num_classes=5)
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(own.state_dict(), path)
    else:
        pytest.importorskip("safetensors.torch").save_file(own.state_dict(), path)
    model = build_model(variant("lcnet_050", {"pretrained": str(path)}, more=(GATED,)), nc=2).eval()
    network = model.get_submodule("model.0.net")
    assert torch.equal(network.get_parameter("conv_stem.weight"), own.conv_stem.weight)
    plain = build_model(variant("lcnet_050", {"pretrained": str(path)}), nc=2).eval()
    x = torch.rand(1, 3, 64, 96)
    expected = plain(x)
    torch.testing.assert_close(model(x), expected)
    save(model, tmp_path / "a.pt")
    path.unlink()
    torch.testing.assert_close(load_model(tmp_path / "a.pt")(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224"])
@torch.no_grad()
def test_weights_of_a_file_survive_gating_saving_and_the_export(name: str, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    torch.save(timm.create_model(name).state_dict(), tmp_path / "a.pth")
    network = (name, {"pretrained": str(tmp_path / "a.pth")})
    gated = build_model(variant(*network, more=(GATED,)), nc=2)
    save(gated, tmp_path / "a.pt")
    export(["--weights", str(tmp_path / "a.pt"), "--include", "onnx", "--imgsz", "64"])
    x = torch.rand(1, 3, 64, 64)
    (found,) = ort.InferenceSession(str(tmp_path / "a.onnx")).run(None, {"images": x.numpy()})
    # The model without the closed gate, straight from the file of weights, its head as in the exported one.
    plain = build_model(variant(*network), nc=2)
    plain.head.load_state_dict(gated.head.state_dict())
    torch.testing.assert_close(torch.from_numpy(found), plain.eval()(x), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@torch.no_grad()
def test_branches_merge() -> None:
    block = TimmBackbone(3, "repvgg_a0", strides=(8,)).eval()
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.8, 1.2)
    x = torch.rand(1, 3, 32, 40)
    expected = block(x)
    count = len(list(block.modules()))
    block.fuse()
    assert len(list(block.modules())) < count / 2
    torch.testing.assert_close(block(x)[0], expected[0], rtol=1e-4, atol=1e-4)


def test_the_backbone_has_a_learning_rate_of_its_own() -> None:
    model = build_model(variant("lcnet_050"), nc=2)
    backbone = set(model.get_submodule("model.0").parameters())
    optimizer = build_optimizer(model, "SGD", Hyp(backbone_lr=0.1), 64)
    groups = optimizer.param_groups
    assert {p for group in groups[3:] for p in group["params"]} == backbone
    assert {p for group in groups for p in group["params"]} == set(model.parameters())
    assert [group["weight_decay"] for group in groups] == [0, 0.0005, 0] * 2
    norms = {p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in (m.weight, m.bias)}
    assert not norms & {p for group in groups[1::3] for p in group["params"]}
    schedule = Schedule(Hyp(backbone_lr=0.1), 10, 100, 64)
    for step in (0, 1000):
        apply_setting(optimizer, schedule.at(step, 0))
        rates = [group["lr"] for group in groups]
        assert rates[3:] == pytest.approx([rate / 10 for rate in rates[:3]])
    with pytest.raises(UserError, match="backbone_lr: the model has no row that is a whole backbone"):
        build_optimizer(build_model("yolov5n.yaml"), "SGD", Hyp(backbone_lr=0.1), 64)


REFUSED = {
    ("lcnet_0500",): "has no network 'lcnet_0500'; did you mean 'lcnet_050'?",
    ("hf-hub:timm/lcnet_050",): "has no network 'hf-hub:timm/lcnet_050'",
    ("vit_tiny_patch16_224",): "has maps of strides 16; strides is a rising list of these, not [8, 16, 32]",
    ("mixer_s16_224",): "mixer_s16_224 does not take images of any size (AssertionError: Input height",
    ("lcnet_050.nothing",): "lcnet_050.nothing cannot give maps (Invalid pretrained tag (nothing) for lcnet_050",
    ("lcnet_050", (("strides", (8, 16, 24)),)): "has maps of strides 2, 4, 8, 16, 32; strides is a rising list of these, not [8, 16, 24]",
    ("lcnet_050", (("pretrained", "no.pth"),)): "pretrained=no.pth: no such file",
    ("lcnet_050", (("pretraind", True),)): "got an unexpected keyword argument 'pretraind'",
    ("lcnet_035", (("pretrained", True),)): "timm has no weights of lcnet_035",
    (3,): "name must be a string, not 3; it is timm(channels, name, pretrained=None, strides=(8, 16, 32))",
}


@pytest.mark.parametrize("args", REFUSED)
def test_one_message_for_what_does_not_fit(args: tuple[Any, ...]) -> None:
    name, *keywords = args
    with pytest.raises(UserError) as caught:
        build_model(variant(name, *(dict(pairs) for pairs in keywords)), nc=2)
    assert "row 0 (timm)" in str(caught.value)
    assert REFUSED[args] in str(caught.value)


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.getproxies", dict)

    def unknown(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    with pytest.raises(UserError, match=r"cannot be had: .*download model.safetensors from https://huggingface.co/timm/lcnet_050.ra2_in1k"):
        TimmBackbone(3, "lcnet_050", pretrained=True)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("lcnet_050").state_dict(), tmp_path / "a.pth")
    with pytest.raises(UserError, match="not weights of this"):
        TimmBackbone(3, "mobilenetv3_small_050", pretrained=str(tmp_path / "a.pth"))
    (tmp_path / "a.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="damaged, or no safetensors file"):
        TimmBackbone(3, "lcnet_050", pretrained=str(tmp_path / "a.safetensors"))


def test_models_show_lists_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    show(["--timm", "lcnet_05*"])
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "strides", "widths", "parameters", "weights"]
    assert line.split("  ")[:2] == ["lcnet_050", "2, 4, 8, 16, 32"]
    assert "lcnet_050.ra2_in1k" in line
    show(["--timm"])
    names = set(capsys.readouterr().out.split())
    assert set(POPULAR.split()) <= names
    assert len(POPULAR.split()) == 50
    assert "vit_tiny_patch16_224" not in names
    with pytest.raises(UserError, match="none of timm's networks that fit matches 'yolo\\*'"):
        show(["--timm", "yolo*"])


@pytest.mark.slow
def test_the_popular_fifty_conform(capsys: pytest.CaptureFixture[str]) -> None:
    check.main(["--timm"])
    assert "50 modules: all checks hold" in capsys.readouterr().out
