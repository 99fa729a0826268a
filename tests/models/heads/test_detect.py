"""The head: decoding worked out by hand, biases, the order of anchors."""

from __future__ import annotations

import math

import pytest
import torch

from models import build_model
from models.heads.detect import Detect

ANCHORS = ((10, 20, 30, 40), (50, 60, 70, 80))


def head(strides: tuple[float, ...] = (8, 16), anchors: object = ANCHORS) -> Detect:
    detect = Detect((4, 8), 3, anchors)  # type: ignore[arg-type]
    detect.set_strides(strides)
    return detect


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_decoding_by_hand() -> None:
    maps = [torch.zeros(1, 2, 2, 3, 8), torch.zeros(1, 2, 1, 1, 8)]
    maps[0][0, 1, 1, 2] = torch.tensor([logit(p) for p in (0.75, 0.25, 0.25, 0.75, 0.1, 0.2, 0.3, 0.4)])
    boxes = head().decode(maps)
    assert boxes.shape == (1, 14, 8)
    # anchor 1, row 1, column 2: (2 * .75 - .5 + 2) * 8, (2 * .25 - .5 + 1) * 8, (2 * .25)^2 * 30, (2 * .75)^2 * 40
    torch.testing.assert_close(boxes[0, 1 * 6 + 1 * 3 + 2], torch.tensor([24.0, 8.0, 7.5, 90.0, 0.1, 0.2, 0.3, 0.4]))
    # all logits 0 in the first cell: its centre, the anchor itself
    torch.testing.assert_close(boxes[0, 0], torch.tensor([4.0, 4.0, 10.0, 20.0, 0.5, 0.5, 0.5, 0.5]))
    torch.testing.assert_close(boxes[0, 13, :4], torch.tensor([8.0, 8.0, 70.0, 80.0]))
    assert torch.equal(head().decode(maps, keep=[1]), boxes[:, 12:])


@pytest.mark.parametrize(("stride", "objectness"), [(8, -6.685), (16, -5.298), (32, -3.912), (64, -2.526)])
def test_the_object_bias_follows_the_stride(stride: int, objectness: float) -> None:
    detect = Detect((4,), 3, 1)
    with torch.no_grad():
        detect.m[0].bias.zero_()  # type: ignore[union-attr, operator]
    detect.set_strides([stride])
    assert detect.m[0].bias[4].item() == pytest.approx(objectness, abs=1e-3)  # type: ignore[index, union-attr]


@pytest.mark.parametrize(("classes", "bias"), [(80, -4.880), (20, -3.455), (3, -1.204), (2, -0.511), (1, 11.0)])
def test_the_class_bias_follows_the_number_of_classes(classes: int, bias: float) -> None:
    detect = Detect((4,), classes, 1)
    with torch.no_grad():
        detect.m[0].bias.zero_()  # type: ignore[union-attr, operator]
    detect.set_strides([8])
    values = detect.m[0].bias.view(1, -1)[:, 5:]  # type: ignore[union-attr, operator]
    torch.testing.assert_close(values, torch.full((1, classes), bias), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("strides", "first"), [((8, 16), 0), ((16, 8), 1)])
def test_larger_anchors_go_to_larger_strides(strides: tuple[float, float], first: int) -> None:
    expected = torch.tensor(ANCHORS, dtype=torch.float32).view(2, 2, 2)[[first, 1 - first]] / torch.tensor(strides).view(2, 1, 1)
    assert torch.equal(head(strides).anchors, expected)
    assert torch.equal(head(strides, ANCHORS[::-1]).anchors, expected)


def test_any_order_of_levels() -> None:
    model = build_model("yolov5n", nc=1)
    table = model.spec.to_dict()
    table["head"][0][0] = [20, 23, 17]
    mixed = build_model(table)
    assert mixed.stride.tolist() == [16, 32, 8]
    assert torch.equal(mixed.head.anchors, model.head.anchors[[1, 2, 0]])


def test_counted_anchors_are_squares_of_four_strides_and_up() -> None:
    detect = head(anchors=3)
    torch.testing.assert_close(detect.anchors[0], torch.tensor([[4.0, 4.0], [5.0397, 5.0397], [6.3496, 6.3496]]))
    assert detect.counted
    detect.set_anchors(torch.tensor([[[8.0, 16.0]] * 3, [[32.0, 64.0]] * 3]))
    assert torch.equal(detect.anchors, torch.tensor([[[1.0, 2.0]] * 3, [[2.0, 4.0]] * 3]))
    assert not detect.counted


def test_only_the_anchors_are_saved() -> None:
    assert set(head().state_dict()) == {"anchors", "m.0.weight", "m.0.bias", "m.1.weight", "m.1.bias"}
