"""Loaders: the same bytes for any number of workers and ranks, and nothing stops them."""

from __future__ import annotations

import dataclasses
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from utils.config import Hyp
from utils.data.config import load_data
from utils.data.index import Index
from utils.data.loading import loader as module
from utils.data.loading import shared_memory as shared_module
from utils.data.loading.loader import Batch, train_loader, val_loader
from utils.data.scan import load_index
from utils.images.reading import read_image

HYP = Hyp(mixup=0.3, degrees=5, flipud=0.2)


@pytest.fixture(scope="module")
def index(tiny_dataset: Path) -> Index:
    return load_index(load_data(tiny_dataset), "train")


def epochs(index: Index, *which: int, start: int = 0, **settings) -> list[Batch]:
    loader = train_loader(index, **{"imgsz": 64, "batch_size": 3, "hyp": HYP, "seed": 0, "workers": 0, **settings})
    try:
        return [batch for epoch in which for batch in loader.epoch(epoch, start)]
    finally:
        loader.close()


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.images, y.images) and torch.equal(x.targets, y.targets) and x.indices == y.indices for x, y in zip(a, b, strict=True)
    )


def test_batches_look_as_promised(index: Index) -> None:
    batches = epochs(index, 0)
    assert [tuple(b.images.shape) for b in batches] == [(3, 3, 64, 64), (3, 3, 64, 64), (2, 3, 64, 64)]
    assert sorted(i for b in batches for i in b.indices) == list(range(8))
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        assert batch.targets.dtype == torch.float32
        assert batch.targets.shape[1] == 6
        assert batch.paths == [str(index.paths[i]) for i in batch.indices]
        assert batch.targets[:, 0].min() >= 0
        assert batch.targets[:, 0].max() < len(batch.indices)
        assert (batch.targets[:, 2:] >= 0).all()
        assert (batch.targets[:, 2:4] + batch.targets[:, 4:] / 2 <= 1 + 1e-6).all()


def test_last_epochs_without_mosaics(index: Index) -> None:
    closed = epochs(index, 0, 1, hyp=Hyp(), mosaic_epochs=1)
    mosaics, single = epochs(index, 0, 1, hyp=Hyp()), epochs(index, 1, hyp=Hyp(), mosaic_epochs=0)
    half = len(mosaics) // 2
    assert same(closed[:half], mosaics[:half])
    assert same(closed[half:], single)
    assert not same(single, mosaics[half:])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(index: Index, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_workers", lambda most, *_: most)  # two, even on one processor
    assert same(epochs(index, 0, 1), epochs(index, 0, 1, workers=workers))


def test_epochs_and_seeds_differ(index: Index) -> None:
    first = epochs(index, 0)
    assert not same(first, epochs(index, 1))
    assert not same(first, epochs(index, 0, seed=1))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumes_in_the_middle(index: Index, workers: int) -> None:
    assert same(epochs(index, 4)[1:], epochs(index, 4, start=1, workers=workers))


def test_samples_do_not_depend_on_batch_size_or_rank(index: Index) -> None:
    whole = {i: image for b in epochs(index, 0, batch_size=8) for i, image in zip(b.indices, b.images, strict=True)}
    for parts in (epochs(index, 0, batch_size=3), epochs(index, 0, batch_size=2, rank=1, world_size=2)):
        for batch in parts:
            assert all(torch.equal(whole[i], image) for i, image in zip(batch.indices, batch.images, strict=True))


def test_two_ranks_see_the_batches_of_one(index: Index) -> None:
    whole = epochs(index, 0, batch_size=4)
    left, right = (epochs(index, 0, batch_size=2, rank=r, world_size=2) for r in (0, 1))
    for one, a, b in zip(whole, left, right, strict=True):
        assert one.indices == a.indices + b.indices
        assert torch.equal(one.images, torch.cat((a.images, b.images)))


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_caches_change_nothing(index: Index, cache: str) -> None:
    assert same(epochs(index, 0, 1), epochs(index, 0, 1, cache=cache))


def test_kept_batches_are_not_overwritten(index: Index) -> None:
    """More batches are held than there are slots of shared memory; `epochs` holds them all."""
    expected = [epochs(index, e, batch_size=8)[0].images.clone() for e in range(6)]
    held = epochs(index, *range(6), batch_size=8)
    assert all(torch.equal(a, b.images) for a, b in zip(expected, held, strict=True))


def test_an_epoch_left_early_costs_nothing(index: Index) -> None:
    loader = train_loader(index, imgsz=64, batch_size=1, hyp=HYP, seed=0, workers=1)
    for epoch in range(5):
        next(loader.epoch(epoch))
    after = list(loader.epoch(5))
    loader.close()
    assert same(after, epochs(index, 5, batch_size=1))


def test_close_ends_the_workers(index: Index) -> None:
    loader = train_loader(index, imgsz=64, batch_size=2, hyp=HYP, seed=0, workers=1)
    list(loader.epoch(0))
    assert multiprocessing.active_children()
    loader.close()
    assert not multiprocessing.active_children()


def test_image_weights_draw_with_replacement(index: Index) -> None:
    weights = np.zeros(8)
    weights[3] = 1
    loader = train_loader(index, imgsz=64, batch_size=4, hyp=HYP, seed=0, workers=0)
    loader.weigh(weights)
    batches = list(loader.epoch(0))
    assert {i for b in batches for i in b.indices} == {3}
    images = torch.cat([b.images for b in batches])
    assert not torch.equal(images[0], images[1])  # the same image, augmented anew


def test_rect_training_fits_the_shape(index: Index, shared: Path) -> None:
    photos = load_index(load_data(shared / "coco128" / "coco128.yaml"), "train")
    loader = train_loader(photos, imgsz=320, batch_size=16, hyp=Hyp(), seed=0, workers=0, rect=True)
    shapes = [tuple(b.images.shape[2:]) for b in loader.epoch(0)]
    assert len(set(shapes)) > 1
    assert shapes != sorted(shapes)
    assert all(h % 32 == w % 32 == 0 and max(h, w) == 320 for h, w in shapes)


def test_validation_letterboxes_and_finds_the_way_back(shared: Path) -> None:
    photos = load_index(load_data(shared / "coco128" / "coco128.yaml"), "val")
    loader = val_loader(photos, imgsz=640, batch_size=4, workers=0)
    batch = next(loader.epoch(0))
    assert len(loader) == 32
    for k, i in enumerate(batch.indices):
        box = batch.letterboxes[k]
        source = read_image(photos.paths[i])
        assert box.source == source.shape[:2]
        assert box.shape == tuple(batch.images.shape[2:])
        inside = batch.images[k, :, box.top : box.top + box.size[0], box.left : box.left + box.size[1]]
        if box.size == box.source:
            assert np.array_equal(inside.numpy(), source[..., ::-1].transpose(2, 0, 1))
        rows = batch.targets[batch.targets[:, 0] == k].numpy()
        h, w = box.shape
        centre, half = rows[:, 2:4] * (w, h), rows[:, 4:] * (w, h) / 2
        back = box.to_source(np.concatenate((centre - half, centre + half), 1).astype(np.float32))
        assert np.allclose(back, photos.ground_truth(i).xyxy, atol=0.01)


def test_validation_shares_the_images_over_ranks(index: Index) -> None:
    seen = []
    for rank in range(3):
        loader = val_loader(index, imgsz=64, batch_size=2, workers=0, rank=rank, world_size=3)
        seen += [i for b in loader.epoch(0) for i in b.indices]
        assert len(loader) == len(list(loader.epoch(1)))
    assert sorted(seen) == list(range(8))


def test_more_ranks_than_batches(index: Index) -> None:
    loader = val_loader(index, imgsz=64, batch_size=8, workers=1, rank=1, world_size=2)
    assert len(loader) == 0
    assert list(loader.epoch(0)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_vanishes_is_reported_once(index: Index, tmp_path: Path, workers: int) -> None:
    copies = [Path(shutil.copy(p, tmp_path)) for p in index.paths]
    broken = dataclasses.replace(index, paths=tuple(copies))
    copies[2].unlink()
    copies[5].write_bytes(b"\xff\xd8\xff nothing")
    loader = train_loader(broken, imgsz=64, batch_size=4, hyp=Hyp(scale=0), seed=0, workers=workers)
    for epoch in range(2):
        assert sum(len(b.indices) for b in loader.epoch(epoch)) == 8
    assert set(loader.faults) == {str(copies[2]), str(copies[5])}
    loader.close()
    check = val_loader(broken, imgsz=64, batch_size=8, workers=workers, rect=False)
    batch = next(check.epoch(0))
    assert (batch.images[batch.indices.index(2)] == 114).all()
    assert not (batch.targets[:, 0] == batch.indices.index(2)).any()
    check.close()


def test_workers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpu_count", lambda: 4)
    monkeypatch.setattr(module, "shared_memory", lambda: 2**40)
    assert module._workers(8, 16, 640, 1) == 4
    assert module._workers(8, 2, 640, 1) == 2
    assert module._workers(0, 16, 640, 1) == 0
    monkeypatch.setattr(module, "shared_memory", lambda: 2**26)  # docker's 64 MB
    assert module._workers(8, 16, 640, 1) == 0


def full(_: int) -> torch.Tensor:
    raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")


def test_no_shared_memory_at_all(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's /dev/shm may hold not even one batch; without workers none of it is needed."""
    expected = epochs(index, 0)
    monkeypatch.setattr(shared_module, "shared_bytes", full)
    assert same(epochs(index, 0), expected)
    assert same(epochs(index, 0, workers=1), expected)  # batches then go through torch's own memory


@pytest.mark.parametrize("private", [True, False])
def test_shared_bytes_do_not_need_a_private_function(private: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not private:
        monkeypatch.setattr(torch.UntypedStorage, "_new_shared", None)
    block = shared_module.shared_bytes(5)
    assert (block.dtype, block.shape, block.is_shared()) == (torch.uint8, (5,), True)
