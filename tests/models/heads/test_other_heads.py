"""Heads other than `Detect`: decoding worked out by hand, names, folding."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models import build_model
from models.heads.asff import ASFF, ASFF_Detect
from models.heads.decoupled import Decoupled_Detect
from models.heads.dfl import DetectDFL
from models.heads.implicit import IAuxDetect, IDetect
from models.heads.yolox import DetectX, EffDecHead
from models.spec.model_spec import ModelSpec
from models.weights.load import read_weights
from models.weights.transfer import transfer

ANCHORS = ((10, 20, 30, 40), (50, 60, 70, 80))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_distances_are_the_means_of_distributions() -> None:
    head = DetectDFL((16, 32), 2)
    head.set_strides((8, 16))
    maps = [torch.zeros(1, 66, 2, 3), torch.zeros(1, 66, 1, 1)]
    for side, bins in enumerate(((1,), (2,), (0, 4), (5,))):  # left 1, top 2, right halfway between 0 and 4, bottom 5 cells
        maps[0][0, side * 16 : side * 16 + 16, 1, 2] = -1e4
        for each in bins:
            maps[0][0, side * 16 + each, 1, 2] = 0
    maps[0][0, 64:, 1, 2] = torch.tensor([logit(0.2), logit(0.9)])
    boxes = head.decode(maps)
    assert boxes.shape == (1, 7, 7)
    # centre of cell (2, 1): (2.5, 1.5); box 1.5..4.5 by -0.5..6.5 cells
    torch.testing.assert_close(boxes[0, 5], torch.tensor([24.0, 24, 24, 56, 1, 0.2, 0.9]))
    torch.testing.assert_close(boxes[0, 6, :4], torch.tensor([8.0, 8, 240, 240]))  # flat: 7.5 cells to each side
    assert torch.equal(head.decode(maps, keep=[1]), boxes[:, 6:])


def test_it_has_the_names_and_shapes_of_yolov8() -> None:
    head = DetectDFL((64, 128, 256), 80)
    shapes = {name: tuple(t.shape) for name, t in head.state_dict().items()}
    assert shapes["cv2.0.0.conv.weight"] == (64, 64, 3, 3)
    assert shapes["cv2.2.2.weight"] == (64, 64, 1, 1)
    assert shapes["cv3.1.0.conv.weight"] == (80, 128, 3, 3)
    assert shapes["cv3.2.2.bias"] == (80,)
    assert shapes["dfl.conv.weight"] == (1, 16, 1, 1)
    assert sum(p.numel() for p in head.parameters()) == 897_664 - 16  # of YOLOv8n's head, the last without its 16 constants
    light = DetectDFL((64, 128, 256), 80, 16, True).state_dict()
    assert light["cv3.2.0.0.conv.weight"].shape == (256, 1, 3, 3)
    assert light["cv3.2.1.1.conv.weight"].shape == (80, 80, 1, 1)


def test_yolox_decodes_centres_and_logarithms() -> None:
    head = DetectX((16, 32), 2)
    head.set_strides((8, 16))
    maps = [torch.zeros(1, 1, 2, 3, 7), torch.zeros(1, 1, 1, 1, 7)]
    maps[0][0, 0, 1, 2] = torch.tensor([0.25, 0.5, math.log(3), math.log(0.5), logit(0.1), logit(0.2), logit(0.3)])
    boxes = head.decode(maps)
    torch.testing.assert_close(boxes[0, 5], torch.tensor([18.0, 12, 24, 4, 0.1, 0.2, 0.3]))
    torch.testing.assert_close(boxes[0, 6], torch.tensor([0.0, 0, 16, 16, 0.5, 0.5, 0.5]))


@pytest.mark.parametrize(("kind", "probability"), [(DetectX, 0.01), (EffDecHead, 0.01), (DetectDFL, 5 / 3 / (640 / 8) ** 2)])
def test_biases(kind: type[DetectX], probability: float) -> None:
    head = kind((16,), 3)
    head.set_strides([8])
    raw = head([torch.zeros(1, 16, 4, 4)])
    with torch.no_grad():
        for module in head.modules():  # what is left without features is the bias
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
    raw = head([torch.zeros(1, 16, 4, 4)])
    torch.testing.assert_close(head.decode(raw)[..., -1], torch.full((1, 16), probability), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [IDetect, Decoupled_Detect, ASFF_Detect])
def test_heads_with_anchors_are_arranged_and_initialised_as_yolov5s(kind: type[IDetect]) -> None:
    head = kind((16, 32), 3, ANCHORS)
    head.set_strides((8, 16))
    maps = head([torch.zeros(1, 16, 4, 6), torch.zeros(1, 32, 2, 3)])
    assert [tuple(m.shape) for m in maps] == [(1, 2, 4, 6, 8), (1, 2, 2, 3, 8)]
    assert head.decode(maps).shape == (1, 60, 8)
    objectness = maps[0][..., 4].mean().item()
    assert objectness == pytest.approx(math.log(8 / 80**2), abs=0.8)  # plus the convolution's own random bias


@torch.no_grad()
def test_implicit_knowledge_folds_away() -> None:
    head = IAuxDetect((16, 32, 16, 32), 3, ANCHORS)
    head.set_strides((8, 16))
    levels = [torch.randn(2, c, 4, 4) for c in (16, 32, 16, 32)]
    assert len(head.train()(levels)) == 4
    before = head.eval()(levels)
    assert len(before) == 2
    head.fuse()
    head.fuse()  # once more changes nothing
    for found, expected in zip(head(levels), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert {name.split(".")[0] for name, _ in head.named_parameters()} == {"m"}


@torch.no_grad()
def test_fused_levels_are_means_with_weights_that_add_up_to_one() -> None:
    fuse = ASFF((4, 8, 8), 1)
    fuse.expand = nn.Identity()  # type: ignore[assignment]
    for i, size in ((0, 4), (2, 2)):
        conv = nn.Conv2d((4, 8, 8)[i], 8, 1)
        conv.weight.zero_()
        nn.init.ones_(conv.bias)  # type: ignore[arg-type]
        fuse.resize[i] = nn.Sequential(nn.AdaptiveAvgPool2d(size), conv)
    out = fuse([torch.randn(2, 4, 8, 8), torch.ones(2, 8, 4, 4), torch.randn(2, 8, 2, 2)])
    torch.testing.assert_close(out, torch.ones(2, 8, 4, 4))


@pytest.mark.parametrize("letter", "nsmlx")
def test_every_size_of_the_shipped_variants(letter: str) -> None:
    heads = {"dfl": "DetectDFL", "x": "DetectX", "decoupled": "Decoupled_Detect", "asff": "ASFF_Detect"}
    for name, head in heads.items():
        spec, base = ModelSpec.from_yaml(f"yolov5{letter}-{name}.yaml"), ModelSpec.from_yaml(f"yolov5{letter}")
        assert (spec.rows[-1].name, spec.scale) == (head, base.scale)
        assert spec.rows[:-1] == base.rows[:-1]


def test_a_head_is_exchanged_by_an_edit_and_the_rest_keeps_its_weights(shared: object) -> None:
    weights = read_weights(shared / "yolov5n.pt")  # type: ignore[operator]
    for name, kept in (("dfl", 342), ("x", 342), ("decoupled", 343), ("asff", 349)):
        report = transfer(build_model(f"yolov5n-{name}"), weights)
        assert report.transferred == kept
        assert report.total == 349
    edits = [{"replace": 24, "with": [[17, 20, 23, 4, 6, 9], 1, "IAuxDetect", ["nc", "anchors"]]}]
    assert build_model({"base": "yolov5n.yaml", "edits": edits}, 3).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 252, 8)
