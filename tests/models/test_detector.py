"""The detector: strides, the forward loop, augmentation, folding, gates."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from models import build_model, registry
from models.detector import Detector, _scaled, _steps
from models.gate import Gate
from models.registry import LayerPlan, Row, register
from models.spec.model_spec import ModelSpec
from utils.errors import UserError


def rows(*sources: tuple[int, ...]) -> list[Row]:
    return [Row(i, s, 1, "X", (), str(i)) for i, s in enumerate(sources)]


def test_outputs_are_kept_until_their_last_reader() -> None:
    steps = list(_steps(rows((-1,), (0,), (1, 0), (2, -1), (3, 0))))
    assert [step.keep for step in steps] == [True, False, False, False, False]
    assert [step.drop for step in steps] == [(), (), (), (-1,), (0,)]


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("yolov5n", [8, 16, 32]),
        ("yolov5n6", [8, 16, 32, 64]),
        ("yolov5n-p2", [4, 8, 16, 32]),
        ("yolov5n-p34", [8, 16]),
        ("yolov5n-p7", [8, 16, 32, 64, 128]),
        ("yolov5n-fpn", [8, 16, 32]),
        ("yolov3-tiny", [16, 32]),
    ],
)
def test_strides(name: str, strides: list[int]) -> None:
    model = build_model(name, nc=1)
    assert model.stride.tolist() == strides
    assert model.max_stride == max(*strides, 32)  # p34 goes down to 32 and reads no map of it
    assert model.training


def test_shapes_in_both_modes() -> None:
    model = build_model("yolov5n", nc=2)
    x = torch.rand(2, 3, 64, 96)
    assert [tuple(m.shape) for m in model(x)] == [(2, 3, 8, 12, 7), (2, 3, 4, 6, 7), (2, 3, 2, 3, 7)]
    model.eval()
    with torch.no_grad():
        boxes, maps = model(x), model.maps(x)
    assert boxes.shape == (2, 3 * (96 + 24 + 6), 7)
    torch.testing.assert_close(boxes, model.head.decode(maps))


def test_the_forward_loop_computes_what_row_by_row_does() -> None:
    model = build_model("yolov5n-ca", nc=2).eval()
    x = torch.rand(1, 3, 64, 64)
    outputs: list[Any] = []
    with torch.no_grad():
        for row, layer in zip(model.spec.rows, model.model, strict=True):
            inputs = [outputs[s] if s >= 0 else x for s in row.sources]
            outputs.append(layer(inputs[0] if len(inputs) == 1 else inputs))
        for own, expected in zip(model.maps(x), outputs[-1], strict=True):
            assert torch.equal(own, expected)


def test_folding_changes_nothing_but_the_norms() -> None:
    model = build_model("yolov5n-ca", nc=2).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        fused = copy.deepcopy(model).fuse()
        torch.testing.assert_close(fused(x), expected, rtol=1e-3, atol=1e-3)
    assert fused.fuse() is fused
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert fused.model[0].conv.bias.requires_grad


def test_a_plain_sequence_of_a_plug_in_is_folded() -> None:
    class Block(nn.Sequential):
        pass

    from models.folding import fold_norms

    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    root = nn.ModuleDict({"plain": plain, "own": Block(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))})
    nn.init.uniform_(plain[1].running_mean)
    x = torch.rand(1, 3, 5, 5)
    expected = plain(x)
    fold_norms(root)
    assert [type(m) for m in plain] == [nn.Conv2d, nn.Identity, nn.ReLU, nn.BatchNorm2d]
    assert isinstance(root["own"][1], nn.BatchNorm2d)
    torch.testing.assert_close(plain(x), expected)


def test_a_closed_gate_is_the_identity_to_the_bit_and_opens() -> None:
    block = nn.Conv2d(4, 4, 3, padding=1)
    gate, x = Gate(block), torch.randn(2, 4, 5, 6)
    assert torch.equal(gate(x), x)
    assert set(gate.state_dict()) == {"g", "block.weight", "block.bias"}
    gate(x).square().sum().backward()
    assert gate.g.grad is not None
    assert gate.g.grad.item() != 0
    with torch.no_grad():
        gate.g.fill_(1)
        torch.testing.assert_close(gate(x), block(x))
        gate.g.fill_(0.25)
        torch.testing.assert_close(gate(x), 0.75 * x + 0.25 * block(x))


def gated(tmp_path: Path, insert: str) -> Detector:
    (tmp_path / "v.yaml").write_text(f"base: yolov5n.yaml\nedits: [{{after: 9, insert: {insert}, gate: zero}}]")
    return build_model(tmp_path / "v.yaml", nc=2)


def test_a_gated_variant_computes_what_its_base_does(tmp_path: Path) -> None:
    base, variant = build_model("yolov5n", nc=2).eval(), gated(tmp_path, "[1, CoordAtt, []]").eval()
    x = torch.rand(1, 3, 64, 64)
    assert isinstance(variant.model[10], Gate)
    with torch.no_grad():
        assert torch.equal(base(x), variant(x))


def test_a_gate_needs_a_block_that_keeps_the_shape(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 10 \(Conv\): a gate needs a block that keeps its input's width, 256; this one gives 128"):
        gated(tmp_path, "[1, Conv, [512]]")
    with pytest.raises(UserError, match=r"row 10 \(Conv\): a gate needs a block that keeps the shape; this one changes"):
        gated(tmp_path, "[1, Conv, [1024, 3, 2]]")


def test_augmentation_leaves_out_the_largest_and_the_smallest_level() -> None:
    model = build_model("yolov5n", nc=2).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        boxes = model.augmented(x)
    # 0.83 * 64 = 53 and 0.67 * 64 = 42 are both padded to 64
    full = [3 * side * side for side in (8, 4, 2)]
    assert boxes.shape == (1, full[0] + full[1] + sum(full) + full[1] + full[2], 7)
    torch.testing.assert_close(boxes[:, : full[0]], model(x)[:, : full[0]])


def test_augmentation_maps_boxes_back() -> None:
    """A model that answers with the mean column of the image's bright pixels must give that column in every pass."""
    model = build_model("yolov5n", nc=2).eval()
    seen: list[Tensor] = []

    def decode(maps: list[Tensor], keep: Any = None) -> Tensor:
        columns = torch.arange(seen[-1].shape[3]) + 0.5
        bright = (seen[-1] * (seen[-1] != 0.447)).sum((0, 1, 2))
        cx = (columns * bright).sum() / bright.sum()
        return torch.stack([cx, cx, cx, cx, cx, cx, cx]).view(1, 1, 7)

    model.maps = seen.append  # type: ignore[assignment, func-returns-value, return-value]
    model.head.decode = decode  # type: ignore[assignment, method-assign]
    x = torch.zeros(1, 3, 128, 128)
    x[..., 30:34] = 1
    found = model.augmented(x)
    torch.testing.assert_close(found[0, :, 0], torch.full((3,), 32.0), rtol=0, atol=0.6)
    assert [tuple(s.shape[2:]) for s in seen] == [(128, 128)] * 2 + [(96, 96)]


def test_a_scaled_image_is_padded_with_grey() -> None:
    y = _scaled(torch.zeros(1, 3, 64, 128), 0.67, 32)
    assert y.shape == (1, 3, 64, 96)
    assert y[..., 42:, :].unique().tolist() == pytest.approx([0.447])
    assert y[..., :42, :85].max() == 0


def test_a_pyramid_and_its_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    @register(registry.pyramid(lambda channels, base: (base, 2 * base)))
    class Two(nn.Module):
        def __init__(self, channels: int, base: int) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(channels, base, 4, 4), nn.Conv2d(base, 2 * base, 2, 2)

        def forward(self, x: Tensor) -> list[Tensor]:
            a = self.a(x)
            return [a, self.b(a)]

    table = {
        "nc": 2,
        "anchors": 2,
        "backbone": [[-1, 1, "Two", [8]], [0, 1, "Feature", [0]], [0, 1, "Feature", [1]]],
        "head": [[[1, 2], 1, "Detect", ["nc", "anchors"]]],
    }
    model = build_model(table)
    assert model.stride.tolist() == [4, 8]
    assert [tuple(m.shape) for m in model(torch.rand(1, 3, 32, 64))] == [(1, 2, 8, 16, 7), (1, 2, 4, 8, 7)]
    table["backbone"][1] = [0, 1, "Conv", [8]]  # type: ignore[index]
    with pytest.raises(UserError, match=r"row 1 \(Conv\): reads row 0, which has 2 outputs; pick one with \[0, 1, Feature, \[0\]\]"):
        build_model(table)


def test_a_wrong_rule_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    register(lambda row, inputs, scale: LayerPlan((3, 8, 3, 2), 16), name="Liar")(nn.Conv2d)
    table = {"nc": 2, "anchors": 2, "backbone": [[-1, 1, "Liar", []]], "head": [[[0], 1, "Detect", ["nc", "anchors"]]]}
    with pytest.raises(UserError, match=r"row 0 \(Liar\): gives 8 channels, but its rule says 16"):
        build_model(table)


class Calls(TorchFunctionMode):
    """Counts what Python asks of torch."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **kwargs or {})


def test_building_is_little_work() -> None:
    """Less than ten calls of torch for each of its 349 tensors, and one small image through the network."""
    with Calls() as calls, FlopCounterMode(display=False) as operations:
        build_model("yolov5n")
    assert calls.count < 10 * 349
    assert operations.get_total_flops() < 0.1e9


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_a_trace_takes_other_sizes() -> None:
    model = build_model("yolov5n-ca", nc=2).eval().fuse()
    traced = torch.jit.trace(model, torch.rand(1, 3, 64, 64), check_trace=False)
    x = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-3)


def test_half_precision_keeps_anchors_and_answers_in_single() -> None:
    model = build_model("yolov5n", nc=2).eval()
    anchors = model.head.anchors.clone()
    model.to(torch.bfloat16)
    assert torch.equal(model.head.anchors, anchors)
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_spec_builds_the_same_model_again() -> None:
    model = build_model("yolov5n-ca", nc=2)
    again = Detector(ModelSpec.from_dict(model.spec.to_dict(), "again"))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


@torch.no_grad()
def test_a_row_deeper_than_the_head_counts_for_the_size_of_an_image() -> None:
    model = build_model("yolov5-p34", nc=1).eval()
    assert (model.stride.tolist(), model.max_stride) == ([8, 16], 32)
    assert len(model.predict(np.zeros((100, 260, 3), np.uint8), imgsz=256)) == 1


def test_a_model_called_with_an_image_names_predict():
    with pytest.raises(UserError, match=r"takes a tensor \(B, 3, H, W\), not str; for images: model.predict"):
        build_model("yolov5n.yaml")("a.jpg")
