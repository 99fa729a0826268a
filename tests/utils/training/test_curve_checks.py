"""What curves say about a run: drawn ones with known shapes, and how often noise alone is taken for a finding."""

from __future__ import annotations

import numpy as np
import pytest

from utils.training.curve_checks import best_above_last, findings, overfitting, still_rising

EPOCHS = np.arange(60)


def noise(seed: int, sd: float = 0.004) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sd, len(EPOCHS))


def test_a_rise_is_its_slope_in_the_last_tenth() -> None:
    assert still_rising(0.2 + 0.003 * EPOCHS) == pytest.approx(0.003)
    assert still_rising(0.2 + 0.003 * EPOCHS + noise(0, 0.0005)) == pytest.approx(0.003, rel=0.2)
    assert still_rising(0.4 * (1 - np.exp(-EPOCHS / 5))) == 0  # by less than 0.2 points in six epochs
    assert still_rising(0.4 - 0.003 * EPOCHS) == 0
    assert still_rising(0.003 * EPOCHS[:9]) == 0


def test_overfitting_starts_where_the_validation_loss_is_lowest() -> None:
    train = 0.1 * np.exp(-EPOCHS / 20)
    val = 0.05 + 1e-5 * (EPOCHS - 25.0) ** 2
    assert overfitting(train, val) == 25
    assert overfitting(train, 0.05 + 0.05 * np.exp(-EPOCHS / 20)) is None
    assert overfitting(train[::-1].copy(), val) is None  # diverging is no overfitting
    assert overfitting(train, val[::-1].copy()[:60] * 0 + 0.05 + 1e-5 * (EPOCHS - 57.0) ** 2) is None  # three epochs are too few


def test_the_best_epoch_above_the_last_ones() -> None:
    peak = 0.4 - 0.0002 * (EPOCHS - 30.0) ** 2 / 10
    assert best_above_last(peak + noise(1, 0.001)) == pytest.approx(0.4 - peak[-5:].mean(), abs=0.002)
    assert best_above_last(np.full(60, 0.4)) == 0
    assert best_above_last(0.003 * EPOCHS) == 0


def test_noise_alone_is_rarely_a_finding() -> None:
    flat = [0.4 + noise(seed) for seed in range(200)]
    assert sum(still_rising(ap) > 0 for ap in flat) <= 6
    # the best of sixty epochs is chosen by its noise, but its neighbours are not
    assert sum(best_above_last(ap) > 0 for ap in flat) <= 20
    falling = 0.1 * np.exp(-EPOCHS / 20)
    assert sum(overfitting(falling, 0.05 + noise(seed, 0.001)) is not None for seed in range(200)) <= 6


def rows(ap: np.ndarray, val: np.ndarray) -> list[dict[str, float]]:
    out = []
    for epoch in range(len(ap)):
        losses = {f"train/{t}_loss": 0.1 * np.exp(-epoch / 20) / 3 for t in ("box", "obj", "cls")}
        losses |= {f"val/{t}_loss": val[epoch] / 3 for t in ("box", "obj", "cls")}
        out.append({"epoch": float(epoch), "metrics/mAP_0.5:0.95": float(ap[epoch])} | losses)
    return out


def test_sentences() -> None:
    found = findings(rows(0.2 + 0.003 * EPOCHS, 0.05 + 1e-5 * (EPOCHS - 25.0) ** 2))
    assert found[0].startswith("AP still rises by 0.30 points an epoch at the end")
    assert found[1].startswith("overfitting since epoch 25: the validation loss rises, to 0.0616 from 0.05,")
    peak = 0.4 - 0.0002 * (EPOCHS - 30.0) ** 2 / 10
    assert findings(rows(peak, 0.05 * np.exp(-EPOCHS / 20))) == [
        "the last epochs are 1.5 points of AP below those around the best, epoch 30"
    ]
    assert findings(rows(0 * EPOCHS.astype(float), 0.05 * np.exp(-EPOCHS / 20))) == []  # --noval, or nothing learned
    assert findings(rows(np.full(60, np.nan), np.full(60, 0.05))) == []
