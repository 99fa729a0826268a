"""The study of benchmarks/cue is what it says: which arms can see the lamp, and that nothing else tells a ring's class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.cue.__main__ import NEAREST, SIZE, draw
from models import build_model

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "cue"


def seen_by(name: str) -> np.ndarray:
    """(128, 128) bool: the pixels that change the output of the cell at 64..71, 64..71, with random weights."""
    model = build_model(FOLDER / f"{name}.yaml", nc=6).double()
    for module in model.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)  # raw maps, without the batch's statistics
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # some start at zero
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    image = torch.rand(1, 3, SIZE, SIZE, generator=generator).double().requires_grad_()
    model(image)[0][0, :, 8, 8].sum().backward()  # of (1, 3, 16, 16, 11)
    assert image.grad is not None
    return (image.grad[0] != 0).any(0).numpy()


@pytest.mark.parametrize(("name", "side"), [("near", 50), ("near-conv", 66)])
def test_convolutions_do_not_see_the_lamp(name: str, side: int) -> None:
    ys, xs = np.nonzero(seen_by(name))
    assert (xs.max() - xs.min() + 1, ys.max() - ys.min() + 1) == (side, side)
    assert side / 2 < NEAREST - 12 - 12  # the radius of the lamp, and the way from the ring to the centre of its cell


@pytest.mark.parametrize("name", ["near-gc", "near-se", "near-bot"])
def test_attention_sees_the_whole_image(name: str) -> None:
    assert seen_by(name).all()


def test_coordinate_attention_sees_its_rows_and_columns_only() -> None:
    seen = seen_by("near-ca")
    assert seen[64:72].all()
    assert seen[:, 64:72].all()
    assert not seen[:30, :30].any()


def test_a_ring_has_the_class_of_a_lamp_far_away() -> None:
    rings = {4: 0, 5: 0}
    for index in range(30):
        image, lines = draw("train", index)
        labels = np.array([line.split() for line in lines], float)
        assert image.shape == (SIZE, SIZE, 3)
        assert labels[0, 0] in (2, 3)
        assert not np.isin(labels[1:, 0], (2, 3)).any()
        for ring in labels[labels[:, 0] >= 4]:
            assert ring[0] == labels[0, 0] + 2
            assert np.hypot(*(ring[1:3] - labels[0, 1:3])) * SIZE >= NEAREST - 2  # boxes are whole pixels
            rings[int(ring[0])] += 1
    assert min(rings.values()) > 15
