"""LayerCAM against finite differences; the maps of attention blocks against what their forward passes do with them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import build_model
from models.attention.bot import MHSA
from models.attention.cat import CPSA, IPSA
from models.attention.cbam import CBAM
from models.attention.coord import CoordAtt
from models.attention.criss_cross import CrissCross
from models.attention.eca import ECA
from models.attention.gather_excite import GatherExcite
from models.attention.global_context import GCBlock
from models.attention.gnconv import GnConv
from models.attention.non_local import NonLocal
from models.attention.se import SE
from models.attention.simam import SimAM
from models.attention.triplet import TripletAttention
from models.detector import Detector
from models.layers.transformer import TransformerBlock
from utils.errors import UserError
from utils.explain.cam import Chosen, attention_maps, cam_rows, energy_inside, layer_cam

SMALL = {
    "nc": 2,
    "anchors": [[16, 16]],
    "backbone": [[-1, 1, "Conv", [4, 3, 4]], [-1, 1, "Conv", [4, 3, 2]], [-1, 1, "Conv", [4, 3, 1]]],
    "head": [[[2], 1, "Detect", ["nc", "anchors"]]],
}


@pytest.fixture(scope="module")
def small() -> Detector:
    return build_model(SMALL).eval()


@torch.no_grad()
def test_layer_cam_is_the_formula(small: Detector) -> None:
    image, row = torch.rand(1, 3, 32, 40), 1
    outputs = small(image)[0]
    chosen = int((outputs[:, 4] * outputs[:, 6]).argmax())
    cx, cy, w, h = outputs[chosen, :4].tolist()
    cam = layer_cam(small, image, Chosen((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), 1), rows=[row])

    exact = copy.deepcopy(small).double()
    feature = exact.model[1](exact.model[0](image.double()))

    def score(a: Tensor) -> float:
        raw = exact.head([exact.model[2](a)])[0].reshape(-1, 7)[chosen]
        return float(raw[4].sigmoid() * raw[6].sigmoid())

    expected = torch.zeros(4, 5, dtype=torch.double)
    for c in range(feature.shape[1]):
        for y in range(4):
            for x in range(5):
                step = torch.zeros_like(feature)
                step[0, c, y, x] = 1e-5
                slope = (score(feature + step) - score(feature - step)) / 2e-5
                expected[y, x] += max(slope, 0) * feature[0, c, y, x]
    expected = expected.clamp(min=0)
    large = nn.functional.interpolate(expected[None, None], (32, 40), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(cam, (large / large.max()).numpy(), atol=1e-4)


@pytest.mark.parametrize("fuse", ["max", "mean"])
def test_several_rows_are_fused(small: Detector, fuse: str) -> None:
    image, chosen = torch.rand(1, 3, 48, 32), Chosen((8, 8, 24, 24), 0)
    one, two = (layer_cam(small, image, chosen, rows=[row]) for row in (0, 1))
    both = layer_cam(small, image, chosen, rows=[1, 0], fuse=fuse)
    expected = np.maximum(one, two) if fuse == "max" else (one + two) / 2
    np.testing.assert_allclose(both, expected / expected.max(), atol=1e-6)
    assert both.shape == (48, 32)


def test_a_cell_of_the_head_rests_on_its_own_cell_alone(small: Detector) -> None:
    cam = layer_cam(small, torch.rand(1, 3, 64, 64), Chosen((24, 40, 32, 48), 0), rows=[2])
    y, x = np.unravel_index(cam.argmax(), cam.shape)
    assert (y // 8, x // 8) == (5, 3)
    assert cam[:32].max() == 0


def test_asking_leaves_the_model_as_it_was(small: Detector) -> None:
    model = copy.deepcopy(small).train()
    model.model[0].eval()
    before = copy.deepcopy(model.state_dict())
    with torch.inference_mode():
        layer_cam(model, torch.rand(1, 3, 32, 32), Chosen((0, 0, 16, 16), 1))
        attention_maps(model, torch.rand(1, 3, 32, 32))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert not model.model[0].training
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_ends_of_the_scales_are_looked_at() -> None:
    assert cam_rows(build_model("yolov5n", nc=1)) == [4, 6, 10, 14, 17, 20, 23]


def test_a_frozen_folded_model_is_explained_too() -> None:
    model = build_model("yolov5n-ca", nc=1).eval().fuse().requires_grad_(False)
    cam = layer_cam(model, torch.rand(1, 3, 64, 96), Chosen((0, 0, 32, 32), 0))
    assert cam.shape == (64, 96)
    assert cam.max() == 1
    assert cam.min() >= 0


GATES = [SE(8), ECA(8), SimAM(8), CoordAtt(8), TripletAttention(8), GatherExcite(8), GatherExcite(8, 0, "theta-minus")]


@pytest.mark.parametrize("block", GATES, ids=lambda b: type(b).__name__)
@torch.no_grad()
def test_a_gate_is_output_over_input(block: nn.Module) -> None:
    x = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(block.eval()(x), x * block.attention(x))


@torch.no_grad()
def test_the_gates_of_cbam_follow_each_other() -> None:
    block, x = CBAM(8, 4).eval(), torch.randn(2, 8, 5, 7)
    y = x * block.ChannelGate.attention(x)
    torch.testing.assert_close(block(x), y * block.SpatialGate.attention(y))


MATRICES = [
    *(MHSA(8, 2, fmap_size=(5, 7)), MHSA(8, 2, fmap_size=(5, 7), position="absolute"), MHSA(8, 2, position=None)),
    *(NonLocal(8), NonLocal(8, pool=True), NonLocal(8, mode="dot_product"), CrissCross(8), CrissCross(8, 2)),
    TransformerBlock(8, 8, 2, 2),
]


@pytest.mark.parametrize("block", MATRICES, ids=lambda b: type(b).__name__)
@torch.no_grad()
def test_the_average_over_all_positions_is_the_mean_of_each(block: nn.Module) -> None:
    x = torch.randn(2, 8, 5, 7)
    each = torch.stack([block.eval().attention(x, (row, column)) for row in range(5) for column in range(7)])
    torch.testing.assert_close(block.attention(x), each.mean(0))
    if getattr(block, "mode", "") != "dot_product":
        torch.testing.assert_close(each.sum((3, 4)), torch.ones(35, 2, each.shape[2]))


@torch.no_grad()
def test_self_attention_mixes_values_by_its_shares() -> None:
    block, x = MHSA(8, 2, None, (5, 7)), torch.randn(2, 8, 5, 7)
    values = nn.functional.conv2d(x, block.to_qkv.weight[16:]).unflatten(1, (2, 4))
    mixed = (block.attention(x, (3, 6))[:, :, None] * values).sum((3, 4)).flatten(1)
    torch.testing.assert_close(block(x)[:, :, 3, 6], mixed)


@torch.no_grad()
def test_shares_of_a_window_stay_in_it_and_those_of_patches_cover_them() -> None:
    x = torch.randn(1, 8, 8, 12)
    inner = IPSA(8, 2, 4).attention(x, (5, 9))
    torch.testing.assert_close(inner[..., 4:8, 8:12].sum((2, 3)), torch.ones(1, 2))
    assert inner.sum() == pytest.approx(2, abs=1e-5)
    across = CPSA(8, 4).attention(x, (5, 9))
    assert across.shape == (1, 8, 8, 12)
    torch.testing.assert_close(across.sum((2, 3)), torch.full((1, 8), 16.0))
    assert torch.equal(across[..., 4:8, 8:12], across[..., 4:5, 8:9].expand(1, 8, 4, 4))
    each = torch.stack([IPSA(8, 2, 4).attention(x[..., :3, :5], (row, column)) for row in range(3) for column in range(5)])
    assert each.shape == (15, 1, 2, 3, 5)


@pytest.mark.parametrize("row", range(4))
@torch.no_grad()
def test_window_attention_mixes_values_by_its_shares(row: int) -> None:
    attn, x = IPSA(8, 2, 4).attn, torch.randn(1, 8, 12, 8)
    nn.init.eye_(attn.proj.weight)
    nn.init.zeros_(attn.proj.bias)
    v = attn.qkv(x)[..., 16:].unflatten(3, (2, 4))  # (1, 8, 12, heads, 4)
    mixed = torch.einsum("bnyx,byxnd->bnd", attn.attention_weights(x, (row + 3, 7)), v).flatten(1)
    torch.testing.assert_close(attn(x)[:, row + 3, 7], mixed)


def test_blocks_are_labelled_by_row_and_place() -> None:
    edits = [
        {"after": 4, "insert": [1, "CBAM", []], "gate": "zero"},
        {"after": 6, "insert": [1, "SE", []]},
        {"replace": 8, "with": [3, "C3BoT", [1024]]},
    ]
    model = build_model({"base": "yolov5n.yaml", "edits": edits}, nc=1)
    with torch.no_grad():
        model.model[10].m[0].mhsa.to_qkv.weight.mul_(1e4)  # at its start the network's values fade, and all shares are equal
    image = torch.rand(1, 3, 64, 96)
    expected = model.eval()(image)
    maps = attention_maps(model, image, (95.9, 0))
    assert [(label, m.shape) for label, m in maps] == [
        ("5 CBAM ChannelGate (gate 0)", (8, 12)),
        ("5 CBAM SpatialGate (gate 0)", (8, 12)),
        ("8 SE", (4, 6)),
        ("10 C3BoT m.0.mhsa", (2, 3)),
    ]
    assert torch.equal(model(image), expected)
    again = dict(attention_maps(model, image))
    assert np.array_equal(again["8 SE"], dict(maps)["8 SE"])
    assert not np.array_equal(again["10 C3BoT m.0.mhsa"], dict(maps)["10 C3BoT m.0.mhsa"])


@torch.no_grad()
def test_a_gate_without_a_place_shows_what_it_lets_through() -> None:
    block, x = SE(2).eval(), torch.tensor([[3.0, 0.0], [1.0, -2.0]]).view(1, 2, 1, 2)
    model = build_model(
        {"nc": 1, "anchors": [[9, 9]], "backbone": [[-1, 1, "SE", []]], "head": [[[0], 1, "Detect", ["nc", "anchors"]]]}, ch=2
    )
    model.model[0].load_state_dict(block.state_dict())
    a, b = block.attention(x).flatten().tolist()
    ((label, shown),) = attention_maps(model, x)
    assert label == "0 SE"
    np.testing.assert_allclose(shown, [[(3 * a + b) / 4, b]], rtol=1e-6)


@torch.no_grad()
def test_a_gate_of_a_mechanism_is_the_one_it_uses() -> None:
    x = torch.randn(1, 8, 5, 7)
    context = GCBlock(8)
    assert context.attention(x).shape == (1, 1, 5, 7)
    assert context.attention(x).sum() == pytest.approx(1, abs=1e-6)
    conv = GnConv(8, order=1)
    first, rest = conv.proj_in(x).split((8, 8), 1)
    torch.testing.assert_close(conv.attention(x), (conv.dwconv(rest) / 3).abs())
    torch.testing.assert_close(conv(x), conv.proj_out(first * conv.dwconv(rest) / 3))


def test_a_method_that_returns_something_else_is_refused() -> None:
    model = build_model({"base": "yolov5n.yaml", "edits": [{"after": 8, "insert": [1, "SE", []]}]}, nc=1)
    model.model[9].attention = lambda x: x[:, 0]
    # forward asks for it as well: a plug-in's own forward need not
    model.model[9].forward = lambda x: x
    with pytest.raises(UserError, match=r"model\.9 \(SE\): attention\(x\) must return \(B, maps, h, w\), got \(1, 2, 2\)"):
        attention_maps(model, torch.rand(1, 3, 64, 64))


def test_energy_inside() -> None:
    cam = np.zeros((4, 6), np.float32)
    cam[1, 2], cam[3, 5] = 3, 1
    assert energy_inside(cam, (2, 1, 3, 2)) == 0.75
    assert energy_inside(cam, [(2, 1, 3, 2), (5, 3, 6, 4)]) == 1
    assert energy_inside(cam, [(2, 1, 3, 2), (0, 0, 4, 4)]) == 0.75
    assert energy_inside(cam, (2.6, 1, 3, 2)) == 0
    assert np.isnan(energy_inside(cam * 0, (0, 0, 6, 4)))


@pytest.mark.parametrize(("name", "rows"), [("hornet", [1, 2, 5, 9, 12, 15, 18]), ("horfpn", None)])
def test_of_several_outputs_the_picked_ones_are_looked_at(name: str, rows: list[int] | None) -> None:
    model = build_model(f"yolov5n-{name}", nc=1)
    assert rows is None or cam_rows(model) == rows
    assert cam_rows(model)
    assert layer_cam(model, torch.rand(1, 3, 64, 64), Chosen((0, 0, 32, 32), 0)).max() == 1
