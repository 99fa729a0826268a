"""FasterNet against timm's, and both against the published numbers of parameters and the authors' names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from models.backbones.fasternet import FasterNet, fasternet_s, fasternet_t0, fasternet_t1, fasternet_t2
from models.backbones.lsknet import LSKNet, lsknet_s, lsknet_t
from models.folding import fold_norms


@torch.no_grad()
def test_fasternet_equals_timms(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    oracle = timm.create_model("fasternet_t0", features_only=True).double().eval()
    state = {k.replace("stages_", "stages."): v for k, v in oracle.state_dict().items()}
    block, renamed = FasterNet(3, 40, (1, 2, 8, 2), gelu=True), {}
    for key, value in state.items():  # timm: stages.1.downsample, stages.1.blocks; the authors: stages.1, stages.2.blocks
        head, stage, *rest = key.split(".") if key.startswith("stages.") else ("", "", key)
        if head:
            number = 2 * int(stage) - (rest[0] == "downsample")
            key = ".".join([head, str(number), *(rest[1:] if rest[0] == "downsample" else rest)])
        renamed[key.replace(".mlp.fc1.", ".mlp.0.").replace(".mlp.fc2.", ".mlp.3.")] = value
    torch.save(renamed, tmp_path / "a.pth")
    block = FasterNet(3, 40, (1, 2, 8, 2), gelu=True, pretrained=str(tmp_path / "a.pth")).double().eval()
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    for found, expected in zip(block(x), oracle(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


# Published millions with the classifier of 1000 classes and, of FasterNet, the 1280 wide layer before it.
@pytest.mark.parametrize(("make", "published"), [(fasternet_t0, 3.9), (fasternet_t1, 7.6), (fasternet_t2, 15.0), (fasternet_s, 31.1)])
def test_parameters_of_fasternet_are_the_published_ones(make: type[nn.Module], published: float) -> None:
    with torch.device("meta"):
        network = make()
    last = 8 * network.patch_embed.norm.num_features  # type: ignore[union-attr, operator]
    total = sum(p.numel() for p in network.parameters()) + last * 1280 + 1280 * 1000 + 1000  # type: ignore[operator]
    assert total / 1e6 == pytest.approx(published, abs=0.1)


@pytest.mark.parametrize(("make", "published"), [(lsknet_t, 4.3), (lsknet_s, 14.4)])  # with the classifier
def test_parameters_of_lsknet_are_the_published_ones(make: type[nn.Module], published: float) -> None:
    with torch.device("meta"):
        network = make()
    total = sum(p.numel() for p in network.parameters()) + 1000 * (network.get_submodule("norm4").weight.numel() + 1)  # type: ignore[union-attr, operator]
    assert total / 1e6 == pytest.approx(published, abs=0.06)


@torch.no_grad()
def test_lsknets_norms_fold() -> None:
    network = LSKNet(3, 8, (1, 1, 1, 1), (2, 2, 2, 2)).eval().double()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()  # type: ignore[union-attr]
            norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    x = torch.randn(1, 3, 40, 64, dtype=torch.float64)
    expected = network(x)
    assert [tuple(y.shape[1:]) for y in expected] == [(8, 10, 16), (16, 5, 8), (40, 3, 4), (64, 2, 2)]
    fold_norms(nn.ModuleList([network]))
    stay = {name.rsplit(".", 1)[1] for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert stay == {"norm1"}  # what the residual of the attention reads, too
    for found, y in zip(network(x), expected, strict=True):
        torch.testing.assert_close(found, y)
