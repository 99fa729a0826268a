"""Whole networks: the authors' names and shapes, published parameter counts, pyramids, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models import build_model
from models.backbones.botnet import BoTNet, botnet50, botnet101, botnet152
from models.backbones.catnet import CAT, PatchProjection, cat_base, cat_small, cat_tiny
from models.backbones.cotnet import CoTNet, classification_names, cotnet50, cotnet101, cotnext50, cotnext101
from models.backbones.cotnetd import BlurPool, SECoTNetD, se_cotnetd_50, se_cotnetd_101, se_cotnetd_152
from models.backbones.hornet import (
    HorNet,
    hornet_base,
    hornet_base_gf,
    hornet_large,
    hornet_large_gf,
    hornet_small,
    hornet_small_gf,
    hornet_tiny,
    hornet_tiny_gf,
)
from models.backbones.mobilenet import MobileNetV2, mobilenetv2_ca
from models.folding import fold_norms
from models.registry import Row, Scale, lookup
from utils.errors import UserError

# The authors' list, the network, its published parameters with a classification head of 1000 classes, and that head's.
NETWORKS: list[tuple[str, Callable[..., nn.Module], int, int]] = [
    ("hornet_tiny_7x7", hornet_tiny, 22_409_512, 514_024),
    ("hornet_tiny_gf", hornet_tiny_gf, 22_991_848, 514_024),
    ("hornet_small_7x7", hornet_small, 49_528_264, 770_536),
    ("hornet_small_gf", hornet_small_gf, 50_401_768, 770_536),
    ("hornet_base_7x7", hornet_base, 87_256_680, 1_027_048),
    ("hornet_base_gf", hornet_base_gf, 88_421_352, 1_027_048),
    ("hornet_large_7x7", hornet_large, 194_542_504, 1_540_072),
    ("hornet_large_gf", hornet_large_gf, 196_289_512, 1_540_072),
    ("cotnet50", cotnet50, 22_222_416, 2_049_000),
    ("cotnet101", cotnet101, 38_272_048, 2_049_000),
    ("cotnext50_2x48d", cotnext50, 30_046_276, 2_049_000),
    ("cotnext101_2x48d", cotnext101, 53_346_068, 2_049_000),
    ("se_cotnetd_50", se_cotnetd_50, 23_107_784, 2_049_000),
    ("se_cotnetd_101", se_cotnetd_101, 40_912_392, 2_049_000),
    ("se_cotnetd_152", se_cotnetd_152, 55_783_688, 2_049_000),
    ("cat_tiny", cat_tiny, 16_870_996, 514_024),
    ("cat_small", cat_small, 37_294_258, 770_536),
    ("cat_base", cat_base, 51_531_922, 770_536),
]
SMALL: dict[str, Callable[[], nn.Module]] = {
    "HorNet": lambda: HorNet(3, 8, depths=(1, 1, 1, 1)),
    "HorNet GF": lambda: HorNet(3, 8, depths=(1, 1, 2, 1), gf=True),
    "CoTNet": lambda: CoTNet(3, 8, (1, 1, 1, 1)),
    "CoTNeXt": lambda: CoTNet(3, 16, (1, 1, 1, 1), grouped=True),
    "SECoTNetD": lambda: SECoTNetD(3, 8, (1, 1, 2, 1)),
    "SECoTNetD blur": lambda: SECoTNetD(3, 8, (1, 1, 2, 1), wide=True, blur=True),
    "BoTNet": lambda: BoTNet(3, 8, (1, 1, 1, 2), (3, 4)),
    "MobileNetV2": lambda: MobileNetV2(3, 8),
    "CAT": lambda: CAT(3, 8, depths=(1, 1, 1, 1)),
}


@cache
def on_meta(make: Callable[..., nn.Module], *args: Any) -> nn.Module:
    with torch.device("meta"):
        return make(*args)


def is_own(name: str) -> bool:
    """Norms of the outputs, which the classification networks of the lists lack."""
    return name.startswith(("norm0", "norm1", "norm2", "norm3"))


@pytest.mark.parametrize(("name", "make", "published", "head"), NETWORKS, ids=[n[0] for n in NETWORKS])
def test_parameters_are_the_published_ones_less_the_head(name: str, make: Callable[..., nn.Module], published: int, head: int) -> None:
    network = on_meta(make)
    assert sum(p.numel() for n, p in network.named_parameters() if not is_own(n)) == published - head


@pytest.mark.parametrize(("name", "make", "published", "head"), NETWORKS, ids=[n[0] for n in NETWORKS])
def test_names_and_shapes_are_the_authors(authors: Any, name: str, make: Callable[..., nn.Module], published: int, head: int) -> None:
    expected = {key: shape for key, shape in authors(name).items() if not key.startswith(("fc.", "head.", "norm."))}
    found = {key: tuple(tensor.shape) for key, tensor in on_meta(make).state_dict().items() if not is_own(key)}
    if "ape" in expected:
        expected["ape"] = (1, expected["ape"][-1], 56, 56)  # (1, L, C) in the classification network
    assert found == expected


@pytest.mark.parametrize(("make", "published"), [(botnet50, 20_852_008), (botnet101, 39_844_136), (botnet152, 55_487_784)])
def test_bot_networks_have_the_parameters_of_resnets_with_attention(make: Callable[..., nn.Module], published: int) -> None:
    assert sum(p.numel() for p in on_meta(make, 3, (14, 14)).parameters()) == published - 2_049_000


@pytest.mark.parametrize("name", SMALL)
def test_a_pyramid_of_any_image(name: str) -> None:
    network = SMALL[name]().eval()
    for height, width in ((64, 96), (1, 1), (37, 50)):
        maps = network(torch.rand(1, 3, height, width))
        assert [tuple(m.shape[2:]) for m in maps] == [(-(-height // s), -(-width // s)) for s in (4, 8, 16, 32)]


@pytest.mark.parametrize("name", ["CoTNet", "CoTNeXt", "BoTNet", "MobileNetV2", "SECoTNetD", "SECoTNetD blur"])
@torch.no_grad()
def test_every_batch_norm_folds(name: str) -> None:
    network = SMALL[name]().eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1)
            nn.init.normal_(norm.running_mean, std=0.1)
            norm.running_var.uniform_(0.5, 2)
    image = torch.rand(1, 3, 64, 64)
    expected = network(image)
    fold_norms(nn.ModuleList([network]))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    for found, wanted in zip(network(image), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["hornet_tiny", "hornet_small_gf", "cotnet50", "cotnext101", "botnet50", "cat_base", "HorNet", "CAT", "BoTNet"]
)
def test_the_registered_widths_are_the_real_ones(name: str) -> None:
    entry = lookup(name)
    args = (128,) if isinstance(entry.build, type) else ()
    plan = entry.rule(Row(0, (-1,), 1, name, args, "x"), (3,), Scale(width=0.25))
    network = on_meta(entry.build, *plan.args)
    assert tuple(m.shape[1] for m in network(torch.empty(1, 3, 64, 64, device="meta"))) == plan.out
    if args:
        assert plan.args == (3, 32)  # the nominal 128 at a width multiple of a quarter


@pytest.mark.parametrize(("attention", "published"), [("ca", 3_950_648), ("se", 3_890_136), (None, 3_504_872)])
def test_mobilenet_has_the_published_parameters_less_the_head(attention: Any, published: int) -> None:
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(p.numel() for p in on_meta(mobilenetv2_ca, 3, attention).parameters()) == published - head
    with pytest.raises(ValueError, match="attention must be"):
        mobilenetv2_ca(attention="eca")  # type: ignore[arg-type]


def test_mobilenet_understands_the_authors_names(tmp_path: Path) -> None:
    source = MobileNetV2(3, 8)
    state = {k.replace(".conv_h.", ".conv2.").replace(".conv_w.", ".conv3."): v for k, v in source.state_dict().items()}
    torch.save(state | {"conv.0.weight": torch.zeros(1), "classifier.weight": torch.zeros(1)}, tmp_path / "mbv2_ca.pth")
    loaded = MobileNetV2(3, 8, pretrained=str(tmp_path / "mbv2_ca.pth")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in source.state_dict().items())


# Multiply-adds in 1e9 without the head, as counted for the authors' code at this side of the image.
@pytest.mark.parametrize(
    ("make", "side", "macs"),
    [
        (hornet_tiny, 224, 3.97),
        (cotnet50, 224, 3.24),
        (cotnext50, 224, 4.26),
        (se_cotnetd_50, 224, 4.05),
        (se_cotnetd_152, 256, 16.85),
        (botnet50, 224, 4.03),
        (cat_tiny, 224, 2.77),
        (mobilenetv2_ca, 224, 0.307 - 0.0214),  # its head is a convolution too
    ],
)
def test_operations_are_the_published_ones(make: Callable[..., nn.Module], side: int, macs: float) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        on_meta(make).eval()(torch.empty(1, 3, side, side, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(macs, rel=0.02)


def test_blur_mirrors_and_rounds_up() -> None:
    ramp = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).expand(1, 1, 1, 5)
    assert BlurPool()(ramp).flatten().tolist() == [0.5, 2.0, 3.5]  # mirrored: 1 0 1, 1 2 3, 3 4 3


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stem.conv1.weight", "conv1.weight"),
        ("stem.conv1.norm.bias", "bn1.bias"),
        ("res2.0.conv1.norm.weight", "layer1.0.bn1.weight"),
        ("res2.0.conv2.key_embed.0.weight", "layer1.0.conv2.key_embed.0.weight"),
        ("res5.1.conv2.key_embed.0.norm.running_mean", "layer4.1.conv2.key_embed.1.running_mean"),
        ("res3.2.conv2.embed.0.norm.weight", "layer2.2.conv2.embed.1.weight"),
        ("res3.2.conv2.embed.2.bias", "layer2.2.conv2.embed.3.bias"),
        ("res3.2.conv2.embed.3.weight", "layer2.2.conv2.embed.4.weight"),
        ("res3.2.conv2.conv1x1.0.norm.weight", "layer2.2.conv2.conv1x1.1.weight"),
        ("res3.2.conv2.se.0.norm.weight", "layer2.2.conv2.se.1.weight"),
        ("res3.2.conv2.se.2.weight", "layer2.2.conv2.se.3.weight"),
        ("res3.2.conv2.bn.weight", "layer2.2.conv2.bn.weight"),
        ("res4.0.shortcut.weight", "layer3.0.downsample.0.weight"),
        ("res4.0.shortcut.norm.weight", "layer3.0.downsample.1.weight"),
    ],
)
def test_names_of_the_authors_detectors_are_understood(theirs: str, ours: str) -> None:
    state = {"res2.0.conv3.weight": torch.zeros(1), theirs: torch.ones(1)}
    assert classification_names(state).keys() == {"layer1.0.conv3.weight", ours}
    assert classification_names({ours: torch.ones(1)}).keys() == {ours}


def test_projection_takes_pixels_in_the_authors_order() -> None:
    block = PatchProjection(1)
    seen: list[Tensor] = []
    block.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(torch.arange(6.0).view(1, 1, 2, 3))
    # Columns first: (0, 0), (1, 0), (0, 1), (1, 1); beyond the border is zero.
    assert seen[0][0, 0].tolist() == [[0, 3, 1, 4], [2, 5, 0, 0]]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_classification_checkpoint_loads_by_name(tmp_path: Path, wrapped: bool) -> None:
    source = HorNet(3, 8, depths=(1, 1, 1, 1))
    state = {name: tensor for name, tensor in source.state_dict().items() if not is_own(name)} | {"head.weight": torch.zeros(5, 64)}
    torch.save({"model": state} if wrapped else state, tmp_path / "hornet.pth")
    loaded = HorNet(3, 8, depths=(1, 1, 1, 1), pretrained=str(tmp_path / "hornet.pth"))
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in state.items() if name != "head.weight")


def test_a_detectors_checkpoint_and_a_flat_position_embedding_load(tmp_path: Path) -> None:
    source = CAT(3, 8, depths=(1, 1, 1, 1))
    state = {f"backbone.{name}": tensor for name, tensor in source.state_dict().items()} | {"neck.weight": torch.zeros(1)}
    torch.save({"state_dict": state}, tmp_path / "detector.pth")
    assert torch.equal(CAT(3, 8, depths=(1, 1, 1, 1), pretrained=str(tmp_path / "detector.pth")).ape, source.ape)
    flat = source.state_dict() | {"ape": source.ape.detach().flatten(2).transpose(1, 2)}
    torch.save(flat, tmp_path / "flat.pth")
    assert torch.equal(CAT(3, 8, depths=(1, 1, 1, 1), pretrained=str(tmp_path / "flat.pth")).ape, source.ape)


def test_tables_of_larger_images_are_resized(tmp_path: Path) -> None:
    """HorNet of 384 pixels has filters of 24 x 13 and 12 x 7, CAT of 448 pixels an embedding of 112 x 112."""
    state = HorNet(3, 8, depths=(1, 1, 1, 1), gf=True).state_dict()
    for stage, (h, w) in ((2, (24, 13)), (3, (12, 7))):
        name = f"stages.{stage}.0.gnconv.dwconv.complex_weight"
        ramp = torch.linspace(0, 1, h).view(1, h, 1, 1) + torch.linspace(0, 1, w).view(1, 1, w, 1)
        state[name] = ramp.expand(len(state[name]), h, w, 2).clone()
    torch.save(state, tmp_path / "384.pth")
    loaded = HorNet(3, 8, depths=(1, 1, 1, 1), gf=True, pretrained=str(tmp_path / "384.pth"))
    for stage, (h, w) in ((2, (14, 8)), (3, (7, 4))):
        table = loaded.stages[stage][0].gnconv.dwconv.complex_weight
        ramp = torch.linspace(0, 1, h).view(1, h, 1, 1) + torch.linspace(0, 1, w).view(1, 1, w, 1)
        torch.testing.assert_close(table, ramp.expand_as(table))
    flat = CAT(3, 8, depths=(1, 1, 1, 1)).state_dict() | {"ape": torch.full((1, 112 * 112, 8), 0.5)}
    torch.save(flat, tmp_path / "448.pth")
    ape = CAT(3, 8, depths=(1, 1, 1, 1), pretrained=str(tmp_path / "448.pth")).ape
    torch.testing.assert_close(ape, torch.full((1, 8, 56, 56), 0.5))


def test_another_architectures_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save(HorNet(3, 16, depths=(1, 1, 1, 1)).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(UserError, match=r"wide.pth: not weights of this HorNet: downsample.*0.weight is \(16, 3, 4, 4\) in the file, \(8,"):
        HorNet(3, 8, depths=(1, 1, 1, 1), pretrained=str(tmp_path / "wide.pth"))
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "head.pth")
    with pytest.raises(UserError, match=r"not weights of this CoTNet: .* tensors are missing, the first is conv1.weight"):
        CoTNet(3, 8, (1, 1, 1, 1), pretrained=str(tmp_path / "head.pth"))
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UserError, match="contains no state_dict"):
        CoTNet(3, 8, (1, 1, 1, 1), pretrained=str(tmp_path / "list.pth"))
    with pytest.raises(UserError, match="no such file"):
        CoTNet(3, 8, (1, 1, 1, 1), pretrained=str(tmp_path / "none.pth"))


def test_norms_keep_their_own_settings() -> None:
    norms = [m for name in ("CoTNet", "BoTNet") for m in SMALL[name]().modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    assert {m.eps for m in SMALL["HorNet"]().modules() if isinstance(m, nn.LayerNorm)} == {1e-6}


def test_an_output_that_nobody_reads_has_no_norm(tmp_path: Path) -> None:
    whole = HorNet(3, 8, depths=(1, 1, 1, 1))
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    part = HorNet(3, 8, (1, 2, 3), (1, 1, 1, 1), pretrained=str(tmp_path / "whole.pth"))
    assert whole.state_dict().keys() - part.state_dict().keys() == {"norm0.weight", "norm0.bias"}
    image = torch.rand(1, 3, 32, 32)
    assert [torch.equal(a, b) for a, b in zip(part(image), whole(image), strict=True)] == [False, True, True, True]


def test_a_model_with_a_pretrained_backbone_is_rebuilt_without_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mobilenet.pth"
    torch.save(mobilenetv2_ca().state_dict(), file)
    backbone = [[-1, 1, "mobilenetv2_ca", {"pretrained": str(file)}], [-1, 1, "Feature", [1]]]
    content = {"nc": 1, "anchors": [[10, 13]], "backbone": backbone, "head": [[-1, 1, "Detect", ["nc", "anchors"]]]}
    model = build_model(content)
    assert torch.equal(model.model[0].features[0][0].weight, torch.load(file, weights_only=True)["features.0.0.weight"])
    file.unlink()
    assert build_model(model.spec.to_dict()).state_dict().keys() == model.state_dict().keys()
    with pytest.raises(UserError, match=r"row 0 \(mobilenetv2_ca\): pretrained=.* no such file"):
        build_model(content)
