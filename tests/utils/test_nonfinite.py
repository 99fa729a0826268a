"""Steps that are not finite: skipped without a trace, then undone, then given up."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable

import pytest
import torch

from tests.trainees import Noise, differing, new_trainee, state_of, train
from utils.engine import Trainee
from utils.errors import UserError
from utils.events import Events
from utils.nonfinite import Guard, sound

NAN, INF = math.nan, math.inf


class Spoilt(Noise):
    """Does something before the given batches of an epoch 0."""

    def __init__(self, spoil: dict[int, Callable[[], object]]) -> None:
        super().__init__()
        self.spoil = spoil

    def epoch(self, epoch, start=0):
        for number, batch in enumerate(super().epoch(epoch, start), start):
            if epoch == 0 and number in self.spoil:
                changed = self.spoil[number]()
                yield batch if changed is None else changed(batch)
            else:
                yield batch


def spoil_labels(batch):
    targets = batch.targets.clone()
    targets[0, 2:] = torch.tensor([0.5, 0.5, INF, NAN])
    targets[1] = NAN
    return type(batch)(batch.images, targets, batch.indices, batch.paths)


def factor(trainee: Trainee, value: float) -> Callable[[], None]:
    """Multiply the next loss."""
    criterion = trainee.criterion

    def once() -> None:
        def call(*arguments):
            trainee.criterion = criterion
            total, terms = criterion(*arguments)
            return total * value, terms

        trainee.criterion = call

    return once


def test_a_skipped_step_leaves_no_trace(tmp_path):
    trainee = new_trainee(events=Events(tmp_path / "events.jsonl"))
    states = []
    watch = lambda: states.append(state_of(trainee))  # noqa: E731
    spoilt = factor(trainee, NAN)
    train(trainee, 1, Spoilt({2: lambda: (watch(), spoilt())[1], 3: watch}))
    assert differing(*states) == []
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (event["event"], event["what"], event["where"]) == ("step skipped", "loss", "epoch 0, batch 2")
    assert event["files"] == ["0_2_0.jpg", "0_2_1.jpg", "0_2_2.jpg", "0_2_3.jpg"]
    assert sound(trainee)


def test_a_bad_batch_does_not_show_in_the_mean_loss():
    good, bad = new_trainee(), new_trainee()
    a = train(good, 1)[0]
    b = train(bad, 1, Spoilt({3: factor(bad, NAN)}))[0]
    assert all(math.isfinite(v) and v == pytest.approx(a[k], rel=0.1) for k, v in b.items())


def poison(trainee: Trainee, where: str) -> None:
    with torch.no_grad():
        if where == "weight":
            next(trainee.model.parameters()).view(-1)[3] = NAN
        elif where == "class weight":  # which a batch without objects never looks at
            trainee.layers[-1].m[0].bias[7] = INF
        elif where == "statistics":
            trainee.layers[3].bn.running_var[1] = INF
        elif where == "momentum":
            next(iter(trainee.optimizer.state.values()))["momentum_buffer"].view(-1)[0] = NAN
        else:
            next(iter(trainee.ema.module.state_dict().values())).view(-1)[0] = NAN


def with_checkpoint(trainee: Trainee) -> list[tuple[int, int]]:
    """Give the trainee a checkpoint of now; the list takes the times it is gone back to."""
    model, ema, optimizer = (copy.deepcopy(x.state_dict()) for x in (trainee.model, trainee.ema.module, trainee.optimizer))
    times = []

    def back() -> tuple[int, int]:
        trainee.model.load_state_dict(model)
        trainee.ema.module.load_state_dict(ema)
        trainee.optimizer.load_state_dict(copy.deepcopy(optimizer))
        times.append((0, 0))
        return 0, 0

    trainee.guard.roll_back = back
    return times


@pytest.mark.parametrize("where", ["weight", "class weight", "statistics", "momentum"])
def test_lasting_damage_is_undone_at_once(where, caplog):
    trainee = new_trainee()
    train(trainee, 1)
    times = with_checkpoint(trainee)
    train(trainee, 1, Spoilt({2: lambda: poison(trainee, where)}))
    assert len(times) == 1
    assert sound(trainee)
    assert "back to the weights of epoch 0, batch 0" in caplog.text


@pytest.mark.parametrize("where", ["weight", "statistics", "momentum", "average"])
def test_nothing_bad_is_there_to_be_saved(where):
    trainee = new_trainee()
    train(trainee, 1)
    times = with_checkpoint(trainee)
    poison(trainee, where)
    assert not sound(trainee)
    trainee.guard.inspect(trainee, 0)
    assert len(times) == 1
    assert sound(trainee)
    trainee.guard.inspect(trainee, 0)
    assert len(times) == 1


def test_three_in_a_row_go_back_and_the_third_time_is_the_end():
    trainee = new_trainee()
    times = with_checkpoint(trainee)
    train(trainee, 1, Spoilt({1: factor(trainee, INF), 2: factor(trainee, NAN), 4: factor(trainee, NAN), 5: factor(trainee, -INF)}))
    assert times == []
    train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in (0, 1, 2)}))
    assert len(times) == 1
    train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in (0, 1, 2)}))
    assert len(times) == 2
    with pytest.raises(UserError, match=r"going back to the checkpoint 2 times did not help.*0_2_0\.jpg"):
        train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in (0, 1, 2)}))
    assert sound(trainee)


def test_without_a_checkpoint_the_third_is_the_end():
    trainee = new_trainee()
    before = state_of(trainee)
    with pytest.raises(UserError, match=r"the loss is not finite in epoch 0, batch 2, and there is no checkpoint.*lower --lr0.*0_2_0\.jpg"):
        train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in range(6)}))
    assert differing(state_of(trainee), before) == []


def test_labels_that_are_no_numbers():
    trainee = new_trainee()
    train(trainee, 1, Spoilt({2: lambda: spoil_labels}))
    assert sound(trainee)


def test_an_infinite_gradient_of_a_finite_loss():
    trainee = new_trainee(guard=Guard())
    weight = next(trainee.model.parameters())
    handles = []
    spoil = {1: lambda: handles.append(weight.register_hook(lambda g: g * INF)), 2: lambda: handles.pop().remove()}
    train(trainee, 1, Spoilt(spoil))
    assert (sound(trainee), trainee.guard.in_a_row) == (True, 0)


def test_a_loss_scale_that_is_too_high_is_no_fault():
    trainee = new_trainee()
    trainee.scaler = torch.amp.GradScaler("cpu", init_scale=3e38, enabled=True)
    train(trainee, 1)
    assert trainee.scaler.get_scale() < 3e38
    assert (sound(trainee), trainee.guard.in_a_row) == (True, 0)
