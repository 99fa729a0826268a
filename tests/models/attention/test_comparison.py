"""The blocks to compare against, each against its formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.criss_cross import CrissCross
from models.attention.double_attention import DoubleAttention
from models.attention.gather_excite import GatherExcite
from models.attention.global_context import GCBlock
from models.attention.non_local import NonLocal
from models.attention.se import SE
from models.attention.selective_kernel import SKConv
from models.attention.self_calibrated import SCConv
from models.attention.triplet import TripletAttention
from models.folding import fold_norms
from tests.models.written_out import opened

BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "TripletAttention": TripletAttention,
    "GCBlock": GCBlock,
    "NonLocal": NonLocal,
    "NonLocal dot": lambda c: NonLocal(c, mode="dot_product", pool=True),
    "CrissCross": CrissCross,
    "DoubleAttention": DoubleAttention,
    "GatherExcite": GatherExcite,
    "GatherExcite theta": lambda c: GatherExcite(c, 4, "theta"),
    "GatherExcite minus": lambda c: GatherExcite(c, 2, "theta-minus"),
    "GatherExcite global": lambda c: GatherExcite(c, 0, "theta-minus"),
    "SKConv": SKConv,
    "SCConv": SCConv,
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("channels", [4, 12, 20, 24, 40])
def test_every_width_and_size_with_one_image_in_training(name: str, channels: int) -> None:
    block = BLOCKS[name](channels).train()
    for size in ((1, 1), (13, 20), (1, 7), (32, 8)):
        assert block(torch.randn(1, channels, *size)).shape == (1, channels, *size)


@pytest.mark.parametrize(
    ("name", "block"),
    [("triplet", TripletAttention(32)), ("ccnet", CrissCross(32)), ("se", SE(32, 4))],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_names_and_shapes_are_the_originals(authors: Callable[[str], dict[str, Any]], name: str, block: nn.Module) -> None:
    assert {key: tuple(tensor.shape) for key, tensor in block.state_dict().items()} == authors(name)


@pytest.mark.parametrize("kind", [GCBlock, NonLocal, CrissCross])
def test_residual_blocks_start_as_the_identity(kind: Callable[[int], nn.Module]) -> None:
    x = torch.randn(2, 16, 5, 6)
    assert torch.equal(kind(16)(x), x)


@torch.no_grad()
def test_triplet_attention_by_axes() -> None:
    block = opened(TripletAttention(6))
    x = torch.randn(2, 6, 4, 5, dtype=torch.double)

    def gate(pooled: Tensor, part: Any) -> Tensor:
        return torch.sigmoid(part.conv.bn(F.conv2d(pooled, part.conv.conv.weight, padding=3)))[:, 0]

    over_height = gate(torch.stack((x.max(2).values, x.mean(2)), 1), block.cw)[:, :, None]  # (B, C, 1, W)
    over_width = gate(torch.stack((x.max(3).values, x.mean(3)), 1).transpose(2, 3), block.hc).transpose(1, 2)[..., None]  # (B, C, H, 1)
    over_channels = gate(torch.stack((x.max(1).values, x.mean(1)), 1), block.hw)[:, None]
    torch.testing.assert_close(block(x), (x * over_height + x * over_width + x * over_channels) / 3)
    assert sum(p.numel() for p in block.parameters()) == 300


@torch.no_grad()
def test_global_context() -> None:
    block = opened(GCBlock(16, 2))
    x = torch.randn(2, 16, 3, 4, dtype=torch.double)
    mask, transform = block.conv_mask, block.channel_add_conv
    logits = torch.einsum("c,bchw->bhw", mask.weight[0, :, 0, 0], x)
    weights = (logits.exp() / logits.exp().sum((1, 2), keepdim=True))[:, None]
    context = (x * weights).sum((2, 3))
    hidden = F.linear(context, transform[0].weight[:, :, 0, 0], transform[0].bias)
    hidden = F.layer_norm(hidden, (8,), transform[1].weight.flatten(), transform[1].bias.flatten()).relu()
    torch.testing.assert_close(block(x), x + F.linear(hidden, transform[3].weight[:, :, 0, 0], transform[3].bias)[..., None, None])


@torch.no_grad()
@pytest.mark.parametrize("mode", ["embedded_gaussian", "dot_product"])
def test_non_local_sums_over_all_positions(mode: Any) -> None:
    block = opened(NonLocal(4, mode=mode))
    x = torch.randn(1, 4, 2, 3, dtype=torch.double)
    theta, phi, g = (part(x).flatten(2)[0] for part in (block.theta, block.phi, block.g))
    y = torch.zeros(2, 6, dtype=torch.double)
    for i in range(6):
        scores = torch.stack([theta[:, i] @ phi[:, j] for j in range(6)])
        weights = scores.softmax(0) if mode == "embedded_gaussian" else scores / 6
        y[:, i] = sum(weights[j] * g[:, j] for j in range(6))
    torch.testing.assert_close(block(x), x + block.conv_out(y.view(1, 2, 2, 3)))


@torch.no_grad()
@pytest.mark.parametrize("recurrence", [1, 2])
def test_criss_cross_attends_to_row_and_column_once(recurrence: int) -> None:
    block = opened(CrissCross(8, recurrence))
    x = torch.randn(1, 8, 3, 4, dtype=torch.double)
    y = x
    for _ in range(recurrence):
        q, k, v = block.query_conv(y)[0], block.key_conv(y)[0], block.value_conv(y)[0]
        out = torch.zeros_like(v)
        for i in range(3):
            for j in range(4):
                path = {(a, j) for a in range(3)} | {(i, b) for b in range(4)}
                assert len(path) == 3 + 4 - 1
                places = sorted(path)
                weights = torch.stack([q[:, i, j] @ k[:, a, b] for a, b in places]).softmax(0)
                out[:, i, j] = sum(w * v[:, a, b] for w, (a, b) in zip(weights, places, strict=True))
        y = block.gamma * out + y
    torch.testing.assert_close(block(x), y)


def test_criss_cross_makes_its_mask_where_the_map_is() -> None:
    assert CrissCross(8).to("meta")(torch.empty(1, 8, 5, 6, device="meta")).shape == (1, 8, 5, 6)


@torch.no_grad()
def test_double_attention_and_its_axes() -> None:
    block = DoubleAttention(8, 3, 5).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.double)
    a, b, v = (part(x).flatten(2) for part in (block.convA, block.convB, block.convV))
    gathered = torch.einsum("bmi,bni->bmn", a, b.exp() / b.exp().sum(2, keepdim=True))
    z = torch.einsum("bmn,bni->bmi", gathered, v.exp() / v.exp().sum(1, keepdim=True))
    torch.testing.assert_close(block(x), x + block.conv_reconstruct(z.view(2, 3, 3, 4)))
    torch.testing.assert_close(block(x)[:1], block(x[:1]))  # a softmax over the batch would differ


@torch.no_grad()
def test_gather_excite() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    whole = GatherExcite(1, 0, "theta-minus")(x)
    torch.testing.assert_close(whole, x * torch.tensor(7.5).sigmoid())
    # Around (0, 0), (0, 2), (2, 0), (2, 2), neighbourhoods of 3 x 3 cut at the border.
    means = torch.tensor([[2.5, 4.0], [8.5, 10.0]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    torch.testing.assert_close(GatherExcite(1, 2, "theta-minus")(x), x * means.sigmoid())
    block = opened(GatherExcite(4, 4, "theta-plus", 2))
    maps = torch.randn(2, 4, 8, 8, dtype=torch.double)
    y = maps
    for i in (0, 2):
        y = block.gather[i + 1](F.conv2d(y, block.gather[i].weight, stride=2, padding=1, groups=4))
    y = block.mlp(y).repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(block(maps), maps * y.sigmoid())


@torch.no_grad()
def test_selective_kernel() -> None:
    block = opened(SKConv(8, groups=4))
    x = torch.randn(2, 8, 6, 7, dtype=torch.double)
    u = [seq[1](F.conv2d(x, seq[0].weight, padding=d, dilation=d, groups=4)).relu() for d, seq in enumerate(block.convs, 1)]
    z = block.fc((u[0] + u[1]).mean((2, 3), keepdim=True))
    a, b = block.fcs[0](z).exp(), block.fcs[1](z).exp()
    torch.testing.assert_close(block(x), u[0] * a / (a + b) + u[1] * b / (a + b))


@torch.no_grad()
def test_self_calibrated() -> None:
    block = opened(SCConv(8, 2))
    x = torch.randn(1, 8, 6, 4, dtype=torch.double)
    first, second = block.bn1_a(block.conv1_a(x)).relu(), block.bn1_b(block.conv1_b(x)).relu()
    coarse = block.scconv.k2[2](block.scconv.k2[1](second.unflatten(3, (2, 2)).unflatten(2, (3, 2)).mean((3, 5))))
    gate = (second + coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)).sigmoid()
    expected = torch.cat((block.k1(first).relu(), block.scconv.k4(block.scconv.k3(second) * gate).relu()), 1)
    torch.testing.assert_close(block(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["TripletAttention", "GatherExcite", "SKConv", "SCConv"])
def test_every_batch_norm_folds(name: str) -> None:
    holder = nn.ModuleList([opened(BLOCKS[name](12))])
    x = torch.randn(2, 12, 9, 10, dtype=torch.double)
    expected = holder[0](x)
    fold_norms(holder)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in holder.modules())
    torch.testing.assert_close(holder[0](x), expected)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: GatherExcite(8, 0, "theta"), "theta over the whole map would fix its size"),
        (lambda: GatherExcite(8, 3), "extent must be 0 .* not 3"),
        (lambda: GatherExcite(8, 2, "omega"), "gather must be"),  # type: ignore[arg-type]
        (lambda: NonLocal(8, mode="cosine"), "mode must be"),  # type: ignore[arg-type]
        (lambda: CrissCross(8, 0), "recurrence must be at least 1, not 0"),
        (lambda: TripletAttention(8, 4), "kernel_size must be odd, not 4"),
        (lambda: SKConv(8, 1), "branches must be at least 2"),
        (lambda: SCConv(1), "channels must be at least 2"),
    ],
)
def test_refuses_what_it_cannot_serve(make: Callable[[], nn.Module], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
