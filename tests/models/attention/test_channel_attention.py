"""SE, CBAM, ECA and SimAM, each against its formula in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from models.attention.cbam import CBAM
from models.attention.eca import ECA
from models.attention.se import SE
from models.attention.simam import SimAM
from tests.models.written_out import convolved, maps, opened, plain


@torch.no_grad()
def test_se() -> None:
    block, x = SE(32, reduction=4).double(), maps(32, 5, 7)
    squeezed = x.flatten(2).mean(2)
    gate = torch.sigmoid(F.relu(squeezed @ block.fc[0].weight.T) @ block.fc[2].weight.T)
    torch.testing.assert_close(block(x), x * gate.view(2, 32, 1, 1))
    assert {k: tuple(v.shape) for k, v in block.state_dict().items()} == {"fc.0.weight": (8, 32), "fc.2.weight": (32, 8)}


@torch.no_grad()
def test_cbam() -> None:
    block, x = opened(CBAM(32)), maps(32, 5, 7)
    mlp = block.ChannelGate.mlp
    shared = [F.relu(p @ mlp[1].weight.T + mlp[1].bias) @ mlp[3].weight.T + mlp[3].bias for p in (x.mean((2, 3)), x.amax((2, 3)))]
    y = x * torch.sigmoid(sum(shared)).view(2, 32, 1, 1)
    pooled = torch.stack((y.max(1).values, y.mean(1)), 1)
    spatial = block.SpatialGate.spatial
    torch.testing.assert_close(block(x), y * torch.sigmoid(convolved(pooled, spatial, 7, plain)))
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        CBAM(8, kernel_size=4)


@pytest.mark.parametrize(("channels", "kernel"), [(4, 1), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5)])
def test_eca_kernel_follows_the_width(channels: int, kernel: int) -> None:
    assert ECA(channels).conv.kernel_size == (kernel,)


@torch.no_grad()
def test_eca() -> None:
    block, x = ECA(8, kernel_size=3).double(), maps(8, 4, 4)
    means = F.pad(x.mean((2, 3)), (1, 1))
    a, b, c = block.conv.weight[0, 0].tolist()
    gate = torch.sigmoid(a * means[:, :-2] + b * means[:, 1:-1] + c * means[:, 2:])
    torch.testing.assert_close(block(x), x * gate[..., None, None])


def test_simam() -> None:
    x = torch.tensor([0.0, 0.0, 0.0, 4.0]).view(1, 1, 2, 2)
    # mean 1, squared deviations 1 1 1 9, variance 12 / 3 = 4: energies 1/16 + 1/2 and 9/16 + 1/2
    expected = 4 * torch.tensor(9 / (4 * (4 + 1e-4)) + 0.5).sigmoid()
    torch.testing.assert_close(SimAM(1)(x).flatten(), torch.tensor([0.0, 0.0, 0.0, float(expected)]))
    assert SimAM(3)(torch.randn(1, 3, 1, 1)).isfinite().all()
    x = maps(3, 4, 5)
    deviation = (x - x.mean((2, 3), keepdim=True)).square()
    energy = deviation / (4 * (deviation.sum((2, 3), keepdim=True) / 19 + 1e-4)) + 0.5
    torch.testing.assert_close(SimAM(3)(x), x / (1 + (-energy).exp()))
