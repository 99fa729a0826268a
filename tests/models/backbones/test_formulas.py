"""Networks of this package against torchvision's, and written out from their blocks, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import models as zoo
from torchvision.models.resnet import Bottleneck, ResNet

from models.backbones.hornet import HorNet
from models.backbones.lsknet import LSKBlock, LSKNet
from models.backbones.mobilenet import MobileNetV2
from models.backbones.replknet import RepLKNetStage, RepLKNetStem
from models.backbones.resnet import ResidualPyramid
from models.layers.residual import ResidualBottleneck
from tests.models.written_out import convolved, gelu, linear, maps, normed, plain, relu, settled

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients() -> object:
    with torch.no_grad():
        torch.manual_seed(0)
        yield


def test_mobilenet_without_attention_is_torchvisions() -> None:
    oracle, network = settled(zoo.mobilenet_v2(num_classes=1)), MobileNetV2(3, 32, None).double().eval()
    theirs = [t for name, t in oracle.state_dict().items() if not name.startswith(("classifier.", "features.18."))]
    network.load_state_dict(dict(zip(network.state_dict(), theirs, strict=True)))
    x, expected = maps(3, 32, 64, 1), []
    found = network(x)
    for i, layer in enumerate(oracle.features[:18]):
        x = layer(x)
        expected += [x] if i in (3, 6, 13, 17) else []
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_pyramid_of_residual_blocks_is_torchvisions_resnet() -> None:
    """CoTNet and BoTNet have other blocks in it. Its blocks have a middle with norm and activation of its own here."""

    def block(stage: int, i: int, width: int, out: int, stride: int) -> ResidualBottleneck:
        inner = out // 4
        conv = torch.nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        return ResidualBottleneck(width, inner, out, stride, torch.nn.Sequential(conv, torch.nn.BatchNorm2d(inner), torch.nn.ReLU()))

    oracle, network = settled(ResNet(Bottleneck, [1, 2, 1, 1], num_classes=1)), ResidualPyramid(3, (1, 2, 1, 1), block, 64).double().eval()
    theirs = {n.replace(".conv2.", ".conv2.0.").replace(".bn2.", ".conv2.1."): t for n, t in oracle.state_dict().items()}
    network.load_state_dict({n: t for n, t in theirs.items() if not n.startswith("fc.")})
    x, expected = maps(3, 32, 64, 1), []
    found = network(x)
    x = oracle.maxpool(oracle.relu(oracle.bn1(oracle.conv1(x))))
    for stage in (oracle.layer1, oracle.layer2, oracle.layer3, oracle.layer4):
        x = stage(x)
        expected.append(x)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def layer_normed(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    mean, var = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    return (x - mean) / (var + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


def test_hornet_shrinks_mixes_and_norms_its_outputs() -> None:
    network, x = HorNet(3, 8, depths=(1, 1, 2, 1), layer_scale=0.5).double().eval(), maps(3, 32, 64, 1)
    found = network(x)
    for i, (shrink, stage) in enumerate(zip(network.downsample_layers, network.stages, strict=True)):
        if i == 0:
            x = layer_normed(F.conv2d(x, shrink[0].weight, shrink[0].bias, stride=4), shrink[1])
        else:
            x = F.conv2d(layer_normed(x, shrink[0]), shrink[1].weight, shrink[1].bias, stride=2)
        for block in stage:
            x = block(x)
        torch.testing.assert_close(found[i], layer_normed(x, getattr(network, f"norm{i}")))


def test_lsknet_from_its_blocks() -> None:
    block, x = settled(LSKBlock(8, 2)), maps(8)
    attention = block.attn
    inner = attention.spatial_gating_unit(gelu(linear(normed(x, block.norm1), attention.proj_1)))
    y = x + block.layer_scale_1[:, None, None] * (normed(x, block.norm1) + linear(inner, attention.proj_2))
    deep = block.mlp.dwconv.dwconv
    hidden = F.conv2d(linear(normed(y, block.norm2), block.mlp.fc1), deep.weight, deep.bias, padding=1, groups=16)
    torch.testing.assert_close(block(x), y + block.layer_scale_2[:, None, None] * linear(gelu(hidden), block.mlp.fc2))
    network, x = settled(LSKNet(3, 8, (1, 1, 1, 1), (2, 2, 2, 2))), maps(3, 32, 64, 1)
    found = network(x)
    for i, (kernel, stride) in enumerate(((7, 4), (3, 2), (3, 2), (3, 2)), 1):
        shrink = getattr(network, f"patch_embed{i}")
        assert shrink.proj.kernel_size == (kernel, kernel)
        x = normed(F.conv2d(x, shrink.proj.weight, shrink.proj.bias, stride, kernel // 2), shrink.norm)
        # The next stage reads the normed map, as in the authors' code.
        x = layer_normed(getattr(network, f"block{i}")(x), getattr(network, f"norm{i}"))
        torch.testing.assert_close(found[i - 1], x)


def test_replknet_from_convolutions() -> None:
    stem, x = settled(RepLKNetStem(3, 8)), maps(3, 16, 24)
    y = convolved(convolved(x, stem[0], 3, relu, s=2), stem[1], 3, relu, g=8)
    torch.testing.assert_close(stem(x), convolved(convolved(y, stem[2], act=relu), stem[3], 3, relu, s=2, g=8))
    stage, x = settled(RepLKNetStage(8, 3, (4, 4, 8, 12), (3, 3, 7, 3), (1, 1, 1, 1), small=3)), maps(8)
    block, ffn, widen, shrink = stage
    y = convolved(normed(x, block.norm), block.widen, act=relu)
    y = sum(convolved(y, part, k, plain, g=8) for part, k in zip(block.large.branches, (7, 3), strict=True))
    y = x + convolved(relu(y), block.narrow, act=plain)
    z = gelu(convolved(normed(y, ffn.norm), ffn.layers[0], act=plain))
    y = y + convolved(z, ffn.layers[2], act=plain)
    torch.testing.assert_close(stage(x), convolved(convolved(y, widen, act=relu), shrink, 3, relu, s=2, g=12))
