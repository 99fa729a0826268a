"""Samples: a function of the draw, and the draw of the generator."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.config import ROOT, Hyp, load_hyp
from utils.data.augment.augment import CanvasParams, SampleParams, compose, draw_sample
from utils.data.augment.geometry import Warp
from utils.data.config import load_data
from utils.data.index import Index
from utils.data.loading.sampler import generator
from utils.data.scan import load_index
from utils.images.reading import read_image

PLAIN = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def index(tiny_dataset: Path) -> Index:
    return load_index(load_data(tiny_dataset), "train")


@pytest.mark.parametrize("name", ["scratch-low", "scratch-med", "scratch-high", "no-augmentation", "VOC", "Objects365"])
def test_shipped_hyper_parameters_load(name: str) -> None:
    load_hyp(ROOT / "data" / "hyps" / f"hyp.{name}.yaml")


def test_hyper_parameters_of_the_files() -> None:
    assert load_hyp("hyp.scratch-low.yaml") == Hyp()
    high = load_hyp("hyp.scratch-high.yaml")
    assert (high.lrf, high.cls, high.obj, high.scale, high.mixup, high.copy_paste) == (0.1, 0.3, 0.7, 0.9, 0.1, 0.1)
    assert load_hyp("hyp.VOC.yaml").anchors == 3.412
    none = load_hyp("hyp.no-augmentation.yaml")
    assert (none.hsv_h, none.translate, none.scale, none.fliplr, none.mosaic, none.mixup) == (0,) * 6


def test_draws_repeat_and_differ() -> None:
    hyp = Hyp(mixup=0.5, copy_paste=0.5, mosaic=0.8)
    draws = [draw_sample(generator(0, 3, i), hyp, i, range(100, 132), (64, 64), lambda _: 4) for i in range(300)]
    assert draws == [draw_sample(generator(0, 3, i), hyp, i, range(100, 132), (64, 64), lambda _: 4) for i in range(300)]
    mosaics = [d for d in draws if len(d.canvases[0].indices) == 4]
    assert 0.7 < len(mosaics) / 300 < 0.9
    assert 0.4 < np.mean([len(d.canvases) == 2 for d in mosaics]) < 0.6
    assert all(i in d.canvases[0].indices for i, d in enumerate(draws))
    assert all(set(d.canvases[-1].indices) <= {*range(100, 132), i} for i, d in enumerate(draws))
    assert all(32 <= c < 96 for d in mosaics for c in d.canvases[0].centre)
    assert all(len(d.canvases[0].copies) == 8 for d in mosaics)  # half of four times four
    blends = np.array([d.blend for d in mosaics if len(d.canvases) == 2])
    assert abs(blends.mean() - 0.5) < 0.03
    assert abs(blends.std() - 0.062) < 0.015  # of Beta(32, 32): 1 / (2 sqrt 65)
    single = [draw_sample(generator(0, i), hyp, i, (), (64, 64), lambda _: 4, mosaic=False) for i in range(50)]
    assert {len(draw.canvases[0].indices) for draw in single} == {1}


def test_no_augmentation_is_the_image(index: Index) -> None:
    out = np.empty((3, 128, 128), np.uint8)
    labels = compose(SampleParams((CanvasParams((1,), Warp()),), 1.0, PLAIN), index, lambda i: read_image(index.paths[i]), out)
    assert np.array_equal(out, read_image(index.paths[1])[..., ::-1].transpose(2, 0, 1))
    assert np.allclose(labels, index.annotations_of(1), atol=1e-6)


def test_flips_mirror_pixels_and_labels(index: Index) -> None:
    out, flipped = np.empty((3, 128, 128), np.uint8), np.empty((3, 128, 128), np.uint8)
    read = lambda i: read_image(index.paths[i])  # noqa: E731
    rows = compose(SampleParams((CanvasParams((1,), Warp()),), 1.0, PLAIN), index, read, out)
    turned = compose(SampleParams((CanvasParams((1,), Warp(flip_x=True, flip_y=True)),), 1.0, PLAIN), index, read, flipped)
    assert np.array_equal(flipped, out[:, ::-1, ::-1])
    assert np.allclose(turned[:, 1:3], 1 - rows[:, 1:3], atol=1e-6)
    assert np.allclose(turned[:, 3:], rows[:, 3:], atol=1e-6)


def test_mixup_blends_pixels_and_keeps_all_labels(index: Index) -> None:
    a, b = CanvasParams((0,), Warp()), CanvasParams((1,), Warp())
    out = np.empty((3, 128, 128), np.uint8)
    labels = compose(SampleParams((a, b), 0.75, PLAIN), index, lambda i: np.full((128, 128, 3), 200 if i == 0 else 100, np.uint8), out)
    assert (out == 175).all()
    assert len(labels) == len(index.annotations_of(0)) + len(index.annotations_of(1))


def test_an_unreadable_tile_is_grey_and_has_no_labels(index: Index) -> None:
    draw = SampleParams((CanvasParams((0, 1, 2, 3), Warp(scale=0.5), (128, 128)),), 1.0, PLAIN)
    out = np.empty((3, 128, 128), np.uint8)
    labels = compose(draw, index, lambda i: None if i == 0 else read_image(index.paths[i]), out)
    assert (out[:, :64, :64] == 114).all()
    assert not ((labels[:, 1] < 0.5) & (labels[:, 2] < 0.5)).any()
    assert len(labels)


def test_inputs_are_left_alone(index: Index) -> None:
    images = {i: read_image(index.paths[i]) for i in range(8)}
    before = {i: image.copy() for i, image in images.items()}
    annotations = index.annotations.copy()
    hyp = Hyp(mixup=1, copy_paste=1, degrees=10, flipud=0.5)
    for i in range(8):
        draw = draw_sample(generator(0, i), hyp, i, range(8), (96, 96), lambda k: len(index.annotations_of(k)))
        compose(draw, index, images.__getitem__, np.empty((3, 96, 96), np.uint8))
    assert np.array_equal(index.annotations, annotations)
    assert all(np.array_equal(images[i], before[i]) for i in images)


def test_mosaics_do_not_depend_on_the_resolution_of_what_is_read(index: Index) -> None:
    """An image may be read at half size: the result is the same, a little softer."""
    smooth = lambda i: cv2.GaussianBlur(read_image(index.paths[i]), (0, 0), 4)  # noqa: E731
    draw = SampleParams((CanvasParams((0, 1, 2, 3), Warp(scale=0.6), (120, 140)),), 1.0, PLAIN)
    whole, half = np.empty((3, 128, 128), np.uint8), np.empty((3, 128, 128), np.uint8)
    rows = compose(draw, index, smooth, whole)
    again = compose(draw, index, lambda i: cv2.resize(smooth(i), (64, 64), interpolation=cv2.INTER_AREA), half)
    assert np.array_equal(rows, again)
    assert np.abs(whole.astype(int) - half).mean() < 2
