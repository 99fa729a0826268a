"""Blocks that gate channels or positions, each against its formula in float64."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.bam import BAM
from models.attention.effective_se import EffectiveSE
from models.attention.frequency import FCA
from models.attention.gam import GAM
from models.attention.mixed_local import MLCA
from models.attention.multi_scale import EMA
from models.attention.nam import NAM
from models.attention.parnet import ParNetBlock
from models.attention.polarized import PolarizedAttention
from models.attention.seam import SEAM, MultiSEAM
from models.attention.second_order import SOCA, covariance_root
from models.attention.shuffle import ShuffleAttention
from models.attention.spatial_group import SGE
from tests.models.written_out import normed, opened

pytestmark = pytest.mark.usefixtures("no_gradients")


def maps(channels: int, height: int = 5, width: int = 7) -> Tensor:
    return torch.randn(2, channels, height, width, dtype=torch.double)


def test_nam_weighs_channels_by_the_factors_of_its_batch_norm() -> None:
    block, x = opened(NAM(6)), maps(6)
    block.bn2.weight[2] *= -1
    share = [abs(g) / sum(map(abs, block.bn2.weight.tolist())) for g in block.bn2.weight.tolist()]
    y = normed(x, block.bn2)
    for c in range(6):
        torch.testing.assert_close(block(x)[:, c], x[:, c] / (1 + (-share[c] * y[:, c]).exp()))


def test_nam_learns_its_factors_through_the_shares_too() -> None:
    block, x = NAM(3).double(), maps(3)
    with torch.enable_grad():
        block(x).sum().backward()
    cut = NAM(3).double()
    with torch.enable_grad():
        share = cut.bn2.weight.detach().abs() / 3
        (x * (cut.bn2(x) * share.view(-1, 1, 1)).sigmoid()).sum().backward()
    assert block.bn2.weight.grad is not None
    assert cut.bn2.weight.grad is not None
    assert not torch.allclose(block.bn2.weight.grad, cut.bn2.weight.grad)


@pytest.mark.parametrize("groups", [1, 2])
def test_gam(groups: int) -> None:
    block, x = opened(GAM(8, 2, groups)), maps(8)
    first, _, last = block.channel_attention
    gate = torch.stack(
        [(F.relu(x[..., i, j] @ first.weight.T + first.bias) @ last.weight.T + last.bias) for i in range(5) for j in range(7)], 2
    )
    y = x * gate.unflatten(2, (5, 7)).sigmoid()
    s = block.spatial_attention
    hidden = F.relu(normed(F.conv2d(y, s.conv1.weight, s.conv1.bias, padding=3, groups=groups), s.bn1))
    if groups == 2:
        hidden = hidden[:, [0, 2, 1, 3]]
    gate = normed(F.conv2d(hidden, s.conv2.weight, s.conv2.bias, padding=3, groups=groups), s.bn2)
    torch.testing.assert_close(block(x), y * gate.sigmoid())


def test_shuffle_attention_by_channel_and_by_place() -> None:
    block, x = opened(ShuffleAttention(8, 2)), maps(8)
    expected = []
    for group in (x[:, :4], x[:, 4:]):
        for c in range(4):
            m, k = group[:, c], c % 2
            if c < 2:
                inside = block.cweight[0, k] * m.mean((1, 2), keepdim=True) + block.cbias[0, k]
            else:
                centred = m - m.mean((1, 2), keepdim=True)
                y = centred / (centred.square().mean((1, 2), keepdim=True) + block.gn.eps).sqrt() * block.gn.weight[k] + block.gn.bias[k]
                inside = block.sweight[0, k] * y + block.sbias[0, k]
            expected.append(m * inside.sigmoid())
    # Two groups of the shuffle: the first and the second half of the channels alternate.
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    torch.testing.assert_close(block(x), torch.stack([expected[i] for i in order], 1))


def test_spatial_group_enhance() -> None:
    block, x = opened(SGE(6, 2)), maps(6)
    for g in range(2):
        part = x[:, 3 * g : 3 * g + 3]
        likeness = torch.einsum("bchw,bc->bhw", part, part.mean((2, 3)))
        normal = (likeness - likeness.mean((1, 2), keepdim=True)) / (likeness.std((1, 2), keepdim=True, unbiased=False) + 1e-5)
        gate = (block.weight[0, g] * normal + block.bias[0, g]).sigmoid()
        torch.testing.assert_close(block(x)[:, 3 * g : 3 * g + 3], part * gate[:, None])


def test_the_root_of_the_covariance_converges_to_the_exact_one() -> None:
    x = torch.randn(2, 5, 40, dtype=torch.double)
    exact = []
    for image in x:
        values, vectors = torch.linalg.eigh(torch.cov(image, correction=0))
        exact.append(vectors @ values.sqrt().diag() @ vectors.T)
    torch.testing.assert_close(covariance_root(x, 25), torch.stack(exact))
    assert (covariance_root(x, 5) - torch.stack(exact)).abs().max() < 0.05
    assert not covariance_root(torch.ones(1, 3, 9), 5).any()


def test_second_order_attention() -> None:
    block, x = opened(SOCA(8, 2)), maps(8)
    z = covariance_root(x.flatten(2), 5).mean(2)
    first, _, last, _ = block.conv_du
    gate = F.relu(z @ first.weight[:, :, 0, 0].T + first.bias) @ last.weight[:, :, 0, 0].T + last.bias
    torch.testing.assert_close(block(x), x * gate.sigmoid()[..., None, None])


@pytest.mark.parametrize("parallel", [False, True])
def test_polarized_attention(parallel: bool) -> None:
    block, x = opened(PolarizedAttention(6, parallel)), maps(6)

    def by_channel(x: Tensor) -> Tensor:
        q = torch.einsum("c,bchw->bhw", block.ch_wq.weight[0, :, 0, 0], x).exp()
        v = torch.einsum("dc,bchw->bdhw", block.ch_wv.weight[:, :, 0, 0], x)
        z = torch.einsum("bdhw,bhw->bd", v, q / q.sum((1, 2), keepdim=True))
        z = z @ block.ch_wz.weight[:, :, 0, 0].T + block.ch_wz.bias
        z = (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, correction=0) + block.ln.eps).sqrt() * block.ln.weight + block.ln.bias
        return x * z.sigmoid()[..., None, None]

    def by_place(x: Tensor) -> Tensor:
        q = torch.einsum("dc,bc->bd", block.sp_wq.weight[:, :, 0, 0], x.mean((2, 3))).exp()
        v = torch.einsum("dc,bchw->bdhw", block.sp_wv.weight[:, :, 0, 0], x)
        return x * torch.einsum("bd,bdhw->bhw", q / q.sum(1, keepdim=True), v).sigmoid()[:, None]

    torch.testing.assert_close(block(x), by_channel(x) + by_place(x) if parallel else by_place(by_channel(x)))


def test_effective_se() -> None:
    block, x = opened(EffectiveSE(6)), maps(6) * 9
    gate = ((x.mean((2, 3)) @ block.fc.weight[:, :, 0, 0].T + block.fc.bias + 3) / 6).clamp(0, 1)
    torch.testing.assert_close(block(x), x * gate[..., None, None])


def separated(x: Tensor, part: nn.Module, act: nn.Module) -> Tensor:
    conv, _, norm = part.depthwise
    x = x + normed(act(F.conv2d(x, conv.weight, conv.bias, padding=1, groups=x.shape[1])), norm)
    conv, _, norm = part.pointwise
    return normed(act(torch.einsum("dc,bchw->bdhw", conv.weight[:, :, 0, 0], x) + conv.bias[:, None, None]), norm)


def test_seam_and_its_start() -> None:
    block, x = SEAM(8, 2, 4), maps(8)
    bound = math.sqrt(6 / (8 + 8))  # of Xavier's uniform distribution for the 1x1 convolution
    assert 0.9 * bound < block.convs[0].pointwise[0].weight.abs().max() <= bound
    block = opened(block)
    y = separated(separated(x, block.convs[0], nn.GELU()), block.convs[1], nn.GELU()).mean((2, 3))
    gate = torch.exp((F.relu(y @ block.fc[0].weight.T) @ block.fc[2].weight.T).sigmoid())
    torch.testing.assert_close(block(x), x * gate[..., None, None])
    assert 1 < block.attention(x).min() < block.attention(x).max() < math.e


def test_multi_seam_sees_the_border() -> None:
    block, x = opened(MultiSEAM(4, 1, 3, (2, 3), 2)), maps(4)
    means = [x.mean((2, 3))]
    for scale, side in zip(block.scales, (2, 3), strict=True):
        padded = torch.zeros(2, 4, -(-5 // side) * side, -(-7 // side) * side, dtype=torch.double)
        padded[:, :, :5, :7] = x
        patches = padded.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, rows, side, columns, side)
        y = torch.einsum("dcij,bcriqj->bdrq", scale[0].weight, patches) + scale[0].bias[:, None, None]
        means.append(separated(normed(F.silu(y), scale[2]), scale[3], nn.SiLU()).mean((2, 3)))
    y = sum(means) / 3
    gate = torch.exp((F.relu(y @ block.fc[0].weight.T) @ block.fc[2].weight.T).sigmoid())
    torch.testing.assert_close(block(x), x * gate[..., None, None])


def test_parnet_block_and_its_one_convolution() -> None:
    block, x = opened(ParNetBlock(6)), maps(6)
    skip = normed(x, block.skip)
    gate = (skip.mean((2, 3)) @ block.gate.weight[:, :, 0, 0].T + block.gate.bias).sigmoid()
    y = normed(F.conv2d(x, block.conv3.weight, padding=1), block.bn3) + normed(F.conv2d(x, block.conv1.weight), block.bn1)
    expected = F.silu(y + skip * gate[..., None, None])
    torch.testing.assert_close(block(x), expected)
    block.fuse()
    torch.testing.assert_close(block(x), expected)
    assert sum(isinstance(m, nn.Conv2d) for m in block.modules()) == 2
    block.fuse()  # a second time changes nothing
    torch.testing.assert_close(block(x), expected)


def test_bam_adds_its_gates() -> None:
    block, x = opened(BAM(8, 2, 2)), maps(8)
    z = F.relu(x.mean((2, 3)) @ block.fc1.weight[:, :, 0, 0].T + block.fc1.bias) @ block.fc2.weight[:, :, 0, 0].T + block.fc2.bias
    y = F.conv2d(x, block.conv1.weight, block.conv1.bias).relu()
    for conv in (block.conv2, block.conv3):
        y = F.conv2d(y, conv.weight, conv.bias, padding=2, dilation=2).relu()
    y = normed(F.conv2d(y, block.conv4.weight, block.conv4.bias), block.bn_s)
    torch.testing.assert_close(block(x), x + x * (normed(z[..., None, None], block.bn_c) + y).sigmoid())


def test_mixed_local_channel_attention_against_adaptive_pools() -> None:
    block = opened(MLCA(6, 3, 0.3, 5))
    for size in ((7, 8), (2, 5), (1, 1)):
        x = maps(6, *size)
        local = F.adaptive_avg_pool2d(x, 3)
        line = local.permute(0, 2, 3, 1).reshape(2, 1, 54)
        patches = F.conv1d(line, block.conv_local.weight, padding=2).sigmoid().reshape(2, 3, 3, 6).permute(0, 3, 1, 2)
        whole = F.conv1d(local.mean((2, 3))[:, None], block.conv.weight, padding=2).sigmoid().reshape(2, 6, 1, 1)
        torch.testing.assert_close(block(x), x * F.adaptive_avg_pool2d(0.7 * whole + 0.3 * patches, size), rtol=1e-6, atol=1e-6)


def test_efficient_multi_scale_attention() -> None:
    block, x = opened(EMA(6, 2)), maps(6)
    w, b = block.conv1x1.weight[:, :, 0, 0], block.conv1x1.bias
    for g in range(2):
        part = x[:, 3 * g : 3 * g + 3]
        rows = (torch.einsum("dc,bch->bdh", w, part.mean(3)) + b[:, None]).sigmoid()
        columns = (torch.einsum("dc,bcw->bdw", w, part.mean(2)) + b[:, None]).sigmoid()
        gated = part * rows[..., None] * columns[:, :, None]
        centred = gated - gated.mean((2, 3), keepdim=True)
        gated = centred / (centred.square().mean((2, 3), keepdim=True) + block.gn.eps).sqrt()
        gated = gated * block.gn.weight[:, None, None] + block.gn.bias[:, None, None]
        local = F.conv2d(part, block.conv3x3.weight, block.conv3x3.bias, padding=1)
        joint = torch.einsum("bc,bchw->bhw", gated.mean((2, 3)).softmax(1), local)
        joint = joint + torch.einsum("bc,bchw->bhw", local.mean((2, 3)).softmax(1), gated)
        torch.testing.assert_close(block(x)[:, 3 * g : 3 * g + 3], part * joint.sigmoid()[:, None])


def test_frequency_attention_against_scipys_transform() -> None:
    block, x = opened(FCA(32, 4)), maps(32, 14, 21)
    pooled = x.unflatten(3, (7, 3)).unflatten(2, (7, 2)).mean((3, 5))
    spectrum = torch.from_numpy(dctn(pooled.numpy(), axes=(2, 3), norm="ortho"))
    best = [(0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0), (5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3), (3, 5), (2, 2)]
    expected = torch.stack([spectrum[:, c, u, v] for c, (u, v) in zip(range(32), [f for f in best for _ in range(2)], strict=True)], 1)
    torch.testing.assert_close(block.components(x), expected, rtol=1e-5, atol=1e-6)
    gate = (F.relu(expected @ block.fc[0].weight.T) @ block.fc[2].weight.T).sigmoid()
    torch.testing.assert_close(block(x), x * gate[..., None, None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ShuffleAttention(7), "channels must be a multiple of 2, not 7"),
        (lambda: PolarizedAttention(5), "channels must be a multiple of 2, not 5"),
        (lambda: MultiSEAM(8, patch_sizes=()), "patch_sizes must be at least 1, not 0"),
        (lambda: MultiSEAM(8, kernel_size=2), "kernel_size must be odd, not 2"),
        (lambda: MLCA(8, local_weight=1.5), "local_weight must be 0 to 1, not 1.5"),
        (lambda: FCA(8, size=10), "size must be a multiple of 7, not 10; 7 or 14 would fit"),
        (lambda: SOCA(8, iterations=0), "iterations must be at least 1, not 0"),
    ],
)
def test_refuses_what_it_cannot_serve(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
