"""Rows of a stage each, as in YOLOAir's files: torchvision's networks, their widths, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as zoo
from torchvision.models.mobilenetv3 import InvertedResidual

from models.backbones.light import ES_Bottleneck, MobileNetV3Block
from models.folding import fold_norms
from models.registry import Row, Scale, lookup
from models.yoloair import differences
from tests.models.written_out import convolved, hard_swish, linear, maps, plain, relu, settled
from utils.errors import UserError

_DENSE = ["densenet_input", "densenet_layer", "densenet_transition_layer"]
CHAINS: dict[str, list[tuple[str, list[Any]]]] = {
    "convnext_base": [("ConvNeXt", [128 << i, i, [3, 3, 27, 3], 128]) for i in range(4)],
    "convnext_large": [("ConvNeXt", [192 << i, i, [3, 3, 27, 3], 192]) for i in range(4)],
    "densenet121": [
        ("Densenet121", [64, 0, _DENSE[0]]),
        *(("Densenet121", [w, i // 2, _DENSE[1 + i % 2]]) for i, w in enumerate((256, 128, 512, 256, 1024, 512, 1024))),
    ],
    "densenet169": [
        ("Densenet169", [64, 0, _DENSE[0]]),
        *(("Densenet169", [w, i // 2, _DENSE[1 + i % 2]]) for i, w in enumerate((256, 128, 512, 256, 1280, 640, 1664))),
    ],
    "densenet201": [
        ("Densenet201", [64, 0, _DENSE[0]]),
        *(("Densenet201", [w, i // 2, _DENSE[1 + i % 2]]) for i, w in enumerate((256, 128, 512, 256, 1792, 896, 1920))),
    ],
    "regnet_y_400mf": [("RegNet1", [104]), ("RegNet2", [208]), ("RegNet3", [440])],
    "efficientnet_b0": [("Efficient1", [40]), ("Efficient2", [112]), ("Efficient3", [1280])],
    "mobilenet_v3_small": [("MobileNet1", [24]), ("MobileNet2", [48]), ("MobileNet3", [576])],
}
HEADS = ("fc.", "classifier.", "features.norm5.")


def chain(rows: Sequence[tuple[str, list[Any]]], width: float = 0.5, image: int = 3) -> nn.Sequential:
    """The layers of rows that read each other, at a size of the model that a published width does not follow."""
    layers, channels = nn.Sequential(), image
    for i, (name, args) in enumerate(rows):
        entry = lookup(name)
        plan = entry.rule(Row(i, (i - 1,), 1, name, tuple(args), str(i)), [channels], Scale(0.33, width))
        assert plan.out == args[0]
        layers.append((plan.build or entry.build)(*plan.args))
        channels = plan.out
    return layers


@pytest.mark.parametrize("name", CHAINS)
def test_the_rows_of_a_network_are_all_of_it_and_nothing_else(name: str) -> None:
    with torch.device("meta"):
        rows = chain(CHAINS[name])
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # torchvision computes RegNet's widths with tensors
        network = getattr(zoo, name)(num_classes=1)
    expected = [p.squeeze().shape for n, p in network.named_parameters() if not n.startswith(HEADS)]
    assert sorted(p.squeeze().shape for p in rows.parameters()) == sorted(expected)


@pytest.mark.parametrize("name", ["densenet121", "regnet_y_400mf", "efficientnet_b0", "mobilenet_v3_small"])
@torch.no_grad()
def test_values_are_torchvisions_folded_too(name: str) -> None:
    network, rows = getattr(zoo, name)(num_classes=1).double().eval(), chain(CHAINS[name]).double().eval()
    own, theirs = rows.state_dict(), [t for n, t in network.state_dict().items() if not n.startswith(HEADS)]
    rows.load_state_dict(dict(zip(own, theirs, strict=True)))
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    x = network.trunk_output(network.stem(image)) if name.startswith("regnet") else network.features[:11](image)
    if name.startswith(("eff", "mob")):
        x = network.features(image)
    torch.testing.assert_close(rows(image), x)
    fold_norms(rows)
    torch.testing.assert_close(rows(image), x, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_convnext_is_torchvisions_with_the_papers_rates() -> None:
    setting = [zoo.convnext.CNBlockConfig(8, 16, 1), zoo.convnext.CNBlockConfig(16, None, 2)]
    features = zoo.ConvNeXt(setting, num_classes=1, layer_scale=1.0).double().eval().features
    rows = chain([("ConvNeXt", [8 << i, i, [1, 2, 2, 1], 8, 0.25]) for i in range(2)]).double().eval()
    assert [b.drop_path.probability for s in rows for b in s.blocks] == pytest.approx([0, 0.05, 0.1])
    assert float(rows[1].blocks[0].gamma.mean()) == pytest.approx(1e-6)
    assert float(rows[1].downsample[1].weight.std()) == pytest.approx(0.02, rel=0.2)
    theirs = iter(features.state_dict().values())
    for own in rows.state_dict().values():
        given = next(theirs)
        own.copy_(given.reshape(own.shape))
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(rows(image), features(image))


def test_light_rows() -> None:
    scale = Scale(1.0, 1.0)
    for width in (116, 232, 464):  # the published widths, which are no multiples of 8
        assert lookup("ShuffleNetV2_Model").rule(Row(0, (-1,), 3, "s", (width, 2), "0"), [24], scale).out == width
    with torch.device("meta"):
        rows = chain([("mobilev3_bneck", args) for args in ([16, 16, 3, 2, 1, 0], [24, 72, 3, 2, 0, 0], [24, 88, 3, 1, 0, 0])], 1.0, 16)
        theirs = zoo.mobilenet_v3_small().features[1:4]
    assert [p.shape for p in rows.parameters()] == [p.shape for p in theirs.parameters()]
    assert [str(row.unit.block) for row in rows] == [str(block.block) for block in theirs if isinstance(block, InvertedResidual)]
    plan = lookup("MobileNetV3_InvertedResidual").rule(Row(0, (-1,), 1, "m", (40, 240, 5, 1, 1, 1), "0"), [24], Scale(1.0, 0.5))
    assert plan.args == (24, 24, 120, 5, 1, 1, 1)


@torch.no_grad()
def test_blocks_of_picodet() -> None:
    def gated(y: Tensor, part: Any) -> Tensor:
        squeeze, _, widen, _ = part[0].gate
        gate = ((linear(relu(linear(y.mean((2, 3), keepdim=True), squeeze)), widen) + 3) / 6).clamp(0, 1)
        return convolved(y * gate, part[1], act=hard_swish)

    x = maps(8, 5, 7)
    block = settled(ES_Bottleneck(8, 8))
    kept, y = x[:, :4], convolved(x[:, 4:], block.widen, act=hard_swish)
    y = gated(torch.cat((y, convolved(y, block.depthwise, 3, plain, g=4)), 1), block.narrow)
    expected = torch.stack((kept, y), 2).flatten(1, 2)  # the shuffle alternates both halves
    torch.testing.assert_close(block(x), expected)
    assert block.first is None
    halving = settled(ES_Bottleneck(8, 12, 2))
    first = convolved(convolved(x, halving.first[0], 3, plain, s=2, g=8), halving.first[1], act=hard_swish)
    y = convolved(convolved(x, halving.widen, act=hard_swish), halving.depthwise, 3, plain, s=2, g=6)
    y = convolved(torch.cat((first, gated(y, halving.narrow)), 1), halving.mix[0], 3, hard_swish, g=12)
    torch.testing.assert_close(halving(x), convolved(y, halving.mix[1], act=hard_swish))
    assert sum(p.numel() for p in ES_Bottleneck(8, 8, ratio=0.5).parameters()) < sum(p.numel() for p in block.parameters())


@pytest.mark.parametrize(
    ("name", "args", "repeats", "words"),
    [
        ("ConvNeXt", [64, 1, [3, 3, 27, 3], 128], 1, "gives 256 channels here, not 64"),
        ("ConvNeXt", [256, 1], 1, "a row is a stage: .width, stage from 0 to 3"),
        ("ConvNeXt", [256, 1, [3, 3, 27, 3], 128], 3, "its number must be 1, not 3"),
        ("Densenet121", [128, 0, "densenet_layer"], 1, "gives 195 channels here, not 128"),
        ("Densenet121", [128, 0, "layer"], 1, "a row is .64, 0, densenet_input."),
        ("RegNet1", [48], 1, "gives 104 channels here, not 48"),
        ("mobilev3_bneck", [40], 1, "inner width, kernel"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(name: str, args: list[Any], repeats: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        lookup(name).rule(Row(0, (-1,), repeats, name, tuple(args), "0"), [3], Scale())


def test_what_does_not_fit_is_refused_when_built() -> None:
    with pytest.raises(ValueError, match="part 2 reads 104 channels, not 3"):
        lookup("RegNet2").build(3, 2)
    with pytest.raises(ValueError, match="not 1, from 8 to 16"):
        ES_Bottleneck(8, 16)
    with pytest.raises(ValueError, match="must be odd"):
        MobileNetV3Block(8, 8, 16, 4)


def test_the_report_of_a_build_says_what_the_copies_do() -> None:
    rows = [Row(i, (i - 1,), 1, *CHAINS[name][0], str(i)) for i, name in enumerate(("densenet121", "mobilenet_v3_small"))]
    lines = list(differences(rows))
    assert "Densenet121 (row 0) is not YOLOAir's copy: a row builds what it names" in lines[0]
    assert "downloads weights" in lines[1]
