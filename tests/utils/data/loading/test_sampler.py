"""Orders, shares and weights."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from utils.data.config import load_data
from utils.data.loading.sampler import CHUNK, class_counts, image_weights, in_order, occurrences, rect_shape, shuffled, shuffled_rect
from utils.data.scan import load_index


def indices(plan, **share) -> list[list[int]]:
    """Images of each batch."""
    out = []
    for work in plan.plans(0, **share):
        rest = [s.index for s in work.samples]
        for size in work.batches:
            out.append(rest[:size])
            rest = rest[size:]
    return out


def flat(batches) -> list[int]:
    return list(chain.from_iterable(batches))


def test_an_epoch_has_every_image_once_in_an_order_of_its_own() -> None:
    first, again, other, seed = (flat(indices(shuffled(100, 16, 64, s, e))) for s, e in ((0, 0), (0, 0), (0, 1), (1, 0)))
    assert sorted(first) == list(range(100))
    assert first == again
    assert first != other != seed
    assert [len(b) for b in indices(shuffled(100, 16, 64, 0, 0))] == [16] * 6 + [4]


def test_order_does_not_depend_on_the_batch_size() -> None:
    assert flat(indices(shuffled(100, 7, 64, 0, 0))) == flat(indices(shuffled(100, 64, 64, 0, 0)))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_batches_of_one_process(world: int) -> None:
    whole = indices(shuffled(100, 12, 64, 0, 0))
    parts = [indices(shuffled(100, 12, 64, 0, 0), rank=r, world=world) for r in range(world)]
    assert len({len(p) for p in parts}) == 1
    for k, batch in enumerate(whole):
        together = flat(p[k] for p in parts)
        assert len({len(p[k]) for p in parts}) == 1
        assert together[: len(batch)] == batch
        assert set(together) == set(batch)


def test_one_image_left_over_goes_to_every_rank() -> None:
    parts = [indices(shuffled(5, 4, 64, 0, 0), rank=r, world=2)[-1] for r in range(2)]
    assert parts[0] == parts[1]
    assert len(parts[0]) == 1


def test_start_leaves_out_the_first_batches_and_nothing_else() -> None:
    whole = indices(shuffled(100, 8, 64, 0, 0))
    for start in (0, 1, 5, 12, 13):
        assert indices(shuffled(100, 8, 64, 0, 0), start=start) == whole[start:]


def test_partners_come_from_the_samples_own_chunk_whatever_the_batch() -> None:
    order = shuffled(100, 16, 64, 0, 0).order
    for batch in (4, 16, 50):
        pools = {s.index: tuple(s.pool) for w in shuffled(100, batch, 64, 0, 0).plans(0) for s in w.samples}
        assert pools[order[0]] == tuple(order[:CHUNK])
        assert pools[order[40]] == tuple(order[CHUNK : 2 * CHUNK])
        assert pools[order[99]] == tuple(order[100 - CHUNK :])
    assert {len(s.pool) for w in shuffled(5, 16, 64, 0, 0).plans(0) for s in w.samples} == {5}


def test_work_of_small_batches_is_a_chunk_for_one_worker() -> None:
    assert [w.batches for w in shuffled(80, 16, 64, 0, 0).plans(0)] == [(16, 16), (16, 16), (16,)]
    assert [w.batches for w in shuffled(80, 64, 64, 0, 0).plans(0)] == [(64,), (16,)]
    assert [w.batches for w in shuffled(8, 4, 4096, 0, 0).plans(0)] == [(4,), (4,)]  # too much memory to go in one
    assert shuffled(80, 16, 64, 0, 0).max_pixels() == 32 * 64 * 64
    assert shuffled(80, 16, 64, 0, 0).max_pixels(world=2) == 16 * 64 * 64


def test_weights_draw_with_replacement_and_count_repeats() -> None:
    weights = np.array([0.0, 1, 3, 0])
    plan = shuffled(4, 4, 64, 0, 0, weights)
    drawn = np.concatenate([shuffled(4, 4, 64, 0, e, weights).order for e in range(500)])
    assert set(drawn.tolist()) == {1, 2}
    assert (drawn == 2).mean() == pytest.approx(0.75, abs=0.03)
    samples = [s for w in plan.plans(0) for s in w.samples]
    assert len({(s.index, s.occurrence) for s in samples}) == 4
    assert occurrences(np.array([5, 3, 5, 5, 3])).tolist() == [0, 0, 1, 2, 1]


def test_rect_shapes_by_hand() -> None:
    assert rect_shape(np.array([[480, 640], [320, 640]], np.int32), 640, 32) == (480, 640)
    assert rect_shape(np.array([[640, 480], [640, 320]], np.int32), 640, 32) == (640, 480)
    assert rect_shape(np.array([[480, 640], [640, 480]], np.int32), 640, 32) == (640, 640)
    assert rect_shape(np.array([[640, 640]], np.int32), 640, 32, 0.5) == (672, 672)  # as YOLOv5 validates a square image
    assert rect_shape(np.array([[427, 640]], np.int32), 640, 32, 0.5) == (448, 672)


SIZES = np.random.default_rng(0).integers(50, 200, (53, 2)).astype(np.int32)


def test_validation_has_every_image_once_and_fits_it() -> None:
    for rect in (True, False):
        plan = in_order(SIZES, 8, 128, 32, 0.5, rect=rect)
        assert sorted(flat(indices(plan))) == list(range(53))
        for batch, shape in zip(indices(plan), plan.shapes, strict=True):
            for h, w in SIZES[batch]:
                assert h * 128 / max(h, w) <= shape[0]
                assert w * 128 / max(h, w) <= shape[1]
    assert in_order(SIZES, 8, 128, 32, 0.5, rect=False).shapes[0] == (128, 128)


def test_rect_training_shuffles_batches_of_like_aspect() -> None:
    plans = [shuffled_rect(SIZES, 8, 128, 32, 0, e) for e in range(3)]
    assert all(sorted(flat(indices(p))) == list(range(53)) for p in plans)
    assert len({tuple(p.shapes) for p in plans}) == 3
    for batch, shape in zip(indices(plans[0]), plans[0].shapes, strict=True):
        assert rect_shape(SIZES[batch], 128, 32) == shape


def test_image_weights_by_hand(tiny_dataset: Path) -> None:
    counts = np.array([[2, 0], [1, 1], [0, 0]])
    # Classes have 3 and 1 boxes: rarity 1/3 and 1, normalised 0.25 and 0.75.
    assert np.allclose(image_weights(counts), [0.5, 1.0, 0])
    assert np.allclose(image_weights(counts, np.array([0.0, 0.5])), [0.5, 0.25 + 0.75 * 0.25, 0])
    assert np.allclose(image_weights(counts, np.ones(2)), [1, 1, 1])
    index = load_index(load_data(tiny_dataset), "train")
    table = class_counts(index)
    assert table.shape == (len(index), index.nc)
    assert [row.sum() for row in table] == [len(index.annotations_of(i)) for i in range(len(index))]
