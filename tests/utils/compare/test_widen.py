"""Pretrained weights in wider networks: the same function, and every new channel alive."""

from __future__ import annotations

import pytest
import torch

from models import build_model
from models.detector import Detector
from tests.tiny_model import TINY
from utils.compare.widen import widened_state
from utils.errors import UserError


def trained(content: object) -> Detector:
    """A model with batch-norm statistics that are not those of initialisation."""
    model = build_model(content, seed=1)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return model.eval()


@pytest.mark.parametrize("content", ["yolov5n", TINY])
def test_a_wider_network_computes_the_same_and_its_new_channels_learn(content: object) -> None:
    base = trained(content)
    wide = build_model({**base.spec.to_dict(), "width_multiple": base.spec.scale.width * 1.3, "channel_multiple": 4}, seed=2).eval()
    wide.load_state_dict(widened_state(base, wide))
    assert sum(p.numel() for p in wide.parameters()) > 1.4 * sum(p.numel() for p in base.parameters())
    x = torch.rand(1, 3, 64, 64)
    for a, b in zip(base.maps(x), wide.maps(x), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)
    sum(map_.square().mean() for map_ in wide.train().maps(x)).backward()
    weight = wide.model[1].conv.weight
    new = weight.shape[1] - base.model[1].conv.weight.shape[1]
    assert weight.grad[: len(base.model[1].conv.weight), -new:].abs().sum() > 0  # zero weights of trained channels on new ones


def test_what_cannot_be_followed_is_refused() -> None:
    base = trained(TINY)
    narrow = build_model({**TINY, "width_multiple": 0.0625, "channel_multiple": 1})
    with pytest.raises(UserError, match="is narrower than the baseline's"):
        widened_state(base, narrow)
    content = {**TINY, "backbone": [*TINY["backbone"][:3], [-1, 1, "GhostConv", [128, 3, 2]]]}  # has grouped convolutions
    with pytest.raises(UserError, match=r"the channels of its tensor model\.3\..* cannot be followed"):
        widened_state(trained(content), build_model({**content, "width_multiple": 0.25}))
