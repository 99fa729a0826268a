"""Suppression against hand-made cases and against a literal greedy loop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from utils.geometry import iou as box_iou
from utils.inference.nms import non_max_suppression


def row(cx: float, cy: float, w: float, h: float, obj: float, *classes: float) -> list[float]:
    return [cx, cy, w, h, obj, *classes]


def greedy(pred: Tensor, conf: float, iou: float, *, multi_label: bool, max_det: int) -> Tensor:
    """The textbook loop over one image."""
    found = []
    for p in pred:
        scores = p[5:] * p[4]
        chosen = range(len(scores)) if multi_label else [int(scores.argmax())]
        box = [p[0] - p[2] / 2, p[1] - p[3] / 2, p[0] + p[2] / 2, p[1] + p[3] / 2]
        found += [torch.stack([*box, scores[c], torch.tensor(float(c))]) for c in chosen if scores[c] > conf]
    found.sort(key=lambda r: -float(r[4]))
    kept: list[Tensor] = []
    for r in found:
        if all(k[5] != r[5] or box_iou(k[:4], r[:4]) <= iou for k in kept):
            kept.append(r)
    return torch.stack(kept[:max_det]) if kept else torch.zeros(0, 6)


def test_overlap_within_a_class_keeps_the_more_confident() -> None:
    pred = torch.tensor([[row(50, 50, 20, 20, 0.8, 1, 0), row(52, 50, 20, 20, 0.9, 1, 0), row(150, 50, 20, 20, 0.7, 1, 0)]])
    (out,) = non_max_suppression(pred, 0.25, 0.5)
    torch.testing.assert_close(out, torch.tensor([[42.0, 40, 62, 60, 0.9, 0], [140, 40, 160, 60, 0.7, 0]]))


def test_classes_do_not_suppress_each_other_unless_agnostic() -> None:
    pred = torch.tensor([[row(50, 50, 20, 20, 0.8, 1, 0), row(50, 50, 20, 20, 0.9, 0, 1)]])
    assert non_max_suppression(pred, 0.25, 0.5)[0][:, 5].tolist() == [1, 0]
    assert non_max_suppression(pred, 0.25, 0.5, agnostic=True)[0][:, 5].tolist() == [1]


def test_multi_label_yields_a_row_for_each_class() -> None:
    pred = torch.tensor([[row(50, 50, 20, 20, 1.0, 0.6, 0.5, 0.1)]])
    assert non_max_suppression(pred, 0.25, 0.5)[0][:, 4:].tolist() == [[pytest.approx(0.6), 0]]
    assert non_max_suppression(pred, 0.25, 0.5, multi_label=True)[0][:, 5].tolist() == [0, 1]


def test_confidence_is_the_product_and_the_threshold_strict() -> None:
    pred = torch.tensor([[row(50, 50, 20, 20, 0.5, 0.5), row(150, 50, 20, 20, 0.5, 0.75)]])
    (out,) = non_max_suppression(pred, 0.25, 0.5)
    assert out[:, 4].tolist() == [0.375]


def test_class_filter_and_max_det() -> None:
    pred = torch.tensor([[row(50 * i, 50, 20, 20, 1 - i / 100, i % 2, 1 - i % 2) for i in range(10)]])
    assert len(non_max_suppression(pred, 0.25, 0.5, classes=[1])[0]) == 5
    assert non_max_suppression(pred, 0.25, 0.5, max_det=3)[0][:, 0].tolist() == [-10, 40, 90]
    assert non_max_suppression(pred, 0.25, 0.5, classes=[])[0].shape == (0, 6)


def test_a_prior_box_wins_over_what_it_overlaps() -> None:
    pred = torch.tensor([[row(50, 50, 20, 20, 0.9, 1, 0)]])
    (out,) = non_max_suppression(pred, 0.25, 0.5, prior=[torch.tensor([[0.0, 41, 41, 61, 61], [1, 200, 200, 220, 220]])])
    assert out.tolist() == [[41, 41, 61, 61, 1, 0], [200, 200, 220, 220, 1, 1]]


@pytest.mark.parametrize("shape", [(0, 10, 7), (2, 0, 7), (3, 10, 7)])
def test_empty_input_gives_empty_output(shape: tuple[int, ...]) -> None:
    out = non_max_suppression(torch.zeros(shape), 0.25, 0.5, multi_label=True)
    assert [tuple(o.shape) for o in out] == [(0, 6)] * shape[0]


def test_equal_confidences_keep_their_order() -> None:
    pred = torch.tensor([[row(50 * i, 50, 20, 20, 0.5, 1.0) for i in range(40)]])
    (out,) = non_max_suppression(pred, 0.25, 0.5)
    assert out[:, 0].tolist() == [50 * i - 10 for i in range(40)]


def test_the_classes_of_a_large_set_stay_exact() -> None:
    """IoU 0.5 exactly at its threshold, in class 999: a float32 class offset would lose it."""
    pred = torch.zeros(1, 2, 1005)
    pred[0, :, :4] = torch.tensor([[600.0, 600, 0.02, 0.02], [600, 600, 0.04, 0.02]])
    pred[0, :, 4], pred[0, :, 1004] = torch.tensor([0.9, 0.8]), 1.0
    assert len(non_max_suppression(pred, 0.25, 0.6)[0]) == 2
    assert len(non_max_suppression(pred, 0.25, 0.4)[0]) == 1


def test_no_more_than_30000_candidates_enter() -> None:
    pred = torch.zeros(1, 30_010, 6)
    pred[0, :, :4] = torch.tensor([50.0, 50, 20, 20])
    pred[0, :, 4], pred[0, :, 5] = 0.9, 1.0
    pred[0, 30_000:, 0] = torch.arange(10) * 100.0 + 500  # would survive, were they not past the limit
    assert len(non_max_suppression(pred, 0.25, 0.5)[0]) == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([5, 300]))
def test_equals_the_greedy_loop(seed: int, multi_label: bool, max_det: int) -> None:
    random = torch.Generator().manual_seed(seed)
    pred = torch.rand(1, 30, 5 + 3, generator=random)
    pred[..., :2] *= 100
    pred[..., 2:4] = pred[..., 2:4] * 40 + 10
    (out,) = non_max_suppression(pred, 0.3, 0.45, multi_label=multi_label, max_det=max_det)
    torch.testing.assert_close(out, greedy(pred[0], 0.3, 0.45, multi_label=multi_label, max_det=max_det))


def test_the_prefix_gives_what_one_pass_gives() -> None:
    """More rows than the first prefix, heavily overlapping, so that several prefixes are tried."""
    random = torch.Generator().manual_seed(0)
    pred = torch.rand(1, 6000, 7, generator=random)
    pred[..., :2] *= 60
    pred[..., 2:4] = 60
    (out,) = non_max_suppression(pred, 0.01, 0.5, multi_label=True)
    (short,) = non_max_suppression(pred, 0.01, 0.5, multi_label=True, max_det=4)
    assert 10 < len(out) < 300
    assert torch.equal(out[:4], short)
    overlap = box_iou(out[:, None, :4], out[None, :, :4]) * (out[:, None, 5] == out[None, :, 5])
    assert float((overlap - torch.eye(len(out))).max()) <= 0.5 + 1e-5
