"""Fitness and early stopping."""

import math

import pytest

from utils.training.early_stopping import EarlyStopping, fitness


def test_fitness():
    assert fitness(0.5, 0.3) == pytest.approx(0.32)


def test_a_plateau_is_no_gain_but_its_last_epoch_is_kept():
    stop = EarlyStopping(patience=2)
    assert [(stop.update(e, v), stop.should_stop(e)) for e, v in enumerate([0.0, 0.1, 0.1, 0.1])] == [
        (True, False),
        (True, False),
        (True, False),
        (True, True),
    ]
    assert (stop.best, stop.epoch) == (0.1, 1)


def test_worse_epochs_are_not_kept_and_patience_0_never_stops():
    stop = EarlyStopping(patience=0)
    assert [stop.update(e, v) for e, v in enumerate([0.3, 0.2, 0.4])] == [True, False, True]
    assert not stop.should_stop(10_000)


def test_where_nothing_can_be_measured_the_last_epoch_is_the_best_and_patience_does_not_count():
    stop = EarlyStopping(patience=1)
    assert [(stop.update(e, math.nan), stop.should_stop(e)) for e in range(4)] == [(True, False)] * 4
    assert stop.epoch == 3


def test_a_run_that_never_validates_is_not_stopped():
    assert not EarlyStopping(patience=2).should_stop(10_000)
