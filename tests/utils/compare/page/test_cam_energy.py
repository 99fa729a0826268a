"""LayerCAM energy of several seeds: on common images only, and with an interval that counts both seeds and images."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from utils.compare.page.cam_energy import compare_energy

UNIFORM = np.full(40, 0.2)


def maps(level: float, seeds: int = 3, key: int = 0) -> dict[int, NDArray[np.float64]]:
    """Shares of 40 images, hard and easy alike for all variants, that vary by 0.01 from seed to seed."""
    images, random = np.random.default_rng(9).normal(0, 0.1, 40), np.random.default_rng(key)
    return {s: np.stack([level + images + random.normal(0, 0.01) + random.normal(0, 0.02, 40), UNIFORM]) for s in range(seeds)}


def test_the_difference_is_paired_and_on_common_images() -> None:
    shares = {"base": maps(0.4), "up": maps(0.5, key=1), "same": maps(0.4, key=2)}
    shares["up"][1][:, 3] = math.nan
    shares["same"][0][0, 7] = math.nan
    common = np.delete(np.arange(40), [3, 7])
    found, uniform = compare_energy(shares, "base", ())
    assert (found["up"].images, found["up"].seeds, found["base"].difference) == (38, 3, None)
    means = {name: np.mean([own[s][0, common] for s in range(3)]) for name, own in shares.items()}
    assert found["up"].share == pytest.approx(means["up"])
    up, same = found["up"].difference, found["same"].difference
    assert up
    assert same
    assert up.mean == pytest.approx(means["up"] - means["base"])
    assert 0 < up.low < 0.1 < up.high < 0.2  # the images' own spread of 0.1 is common to both and drops out
    assert same.low < 0 < same.high
    assert up.error_seeds > 0
    assert up.error_images > 0
    assert uniform == pytest.approx(0.2)


def test_a_variant_without_energy_does_not_empty_the_images_of_the_others() -> None:
    shares = {"base": maps(0.4), "up": maps(0.5, key=1), "dark": {s: np.stack([UNIFORM * math.nan, UNIFORM]) for s in range(3)}}
    found, _ = compare_energy(shares, "base", ())
    assert found["up"].images == 40
    assert math.isnan(found["dark"].share)
    assert found["dark"].difference is None


def test_with_one_seed_there_is_no_interval_and_without_any_map_nothing() -> None:
    found, _ = compare_energy({"base": maps(0.4, 1), "up": maps(0.5, 1)}, "base", ())
    assert (found["up"].images, found["up"].difference) == (40, None)
    assert compare_energy({}, "base", ())[0] == {}


def test_frames_of_one_video_count_as_one() -> None:
    shares = {"base": maps(0.4), "up": maps(0.5, key=1)}
    shares["up"] = {s: values + np.repeat(np.random.default_rng(3).normal(0, 0.1, 8), 5) for s, values in shares["up"].items()}
    alone, grouped = (compare_energy(shares, "base", groups)[0]["up"].difference for groups in ((), np.repeat(range(8), 5).tolist()))
    assert alone
    assert grouped
    assert grouped.error_images > 1.3 * alone.error_images
