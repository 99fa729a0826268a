"""Steps that do not fit into memory give what they would have given."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from tests.harm import ERRORS, small_memory
from tests.trainees import Noise, differing, new_trainee, state_of, train
from utils.distributed import Ranks
from utils.errors import UserError
from utils.training.engine import Trainee
from utils.training.events import Events
from utils.training.out_of_memory import out_of_memory


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    trainee = new_trainee()
    train(trainee)
    return state_of(trainee)


@pytest.mark.parametrize(("call", "row", "backward"), [(1, 0, False), (5, 3, False), (5, 2, True), (12, 8, False), (9, 0, True)])
def test_one_failure_anywhere_changes_no_bit(expected, tmp_path, call, row, backward):
    """The calls past the 4th fall into steps of several batches, so other gradients wait meanwhile."""
    trainee = new_trainee(events=Events(tmp_path / "events.jsonl"))
    with small_memory(trainee, row, calls=(call,), backward=backward):
        train(trainee)
    assert differing(state_of(trainee), expected) == []
    assert (trainee.fitting.recompute, trainee.fitting.parts) == (True, 1)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(x["event"], x["where"]) for x in lines] == [("out of memory", f"epoch {(call - 1) // 6}, batch {(call - 1) % 6}")]


def test_parts_give_the_gradients_of_the_whole_batch(expected):
    """With batch norms that keep their statistics nothing but the order of sums differs."""

    def frozen() -> Trainee:
        trainee = new_trainee(frozen=frozenset(range(9)))
        for module in trainee.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return trainee

    straight, trainee = frozen(), frozen()
    train(straight)
    with small_memory(trainee, 3, images=1):
        losses = train(trainee, loader=Noise())
    assert trainee.fitting.parts == 4
    assert differing(state_of(trainee), state_of(straight), 1e-5) == []
    assert all(torch.isfinite(torch.tensor(list(terms.values()))).all() for terms in losses)


def test_parts_feed_batch_norm_once_a_batch():
    trainee, straight = new_trainee(steps=1), new_trainee(steps=1)
    with small_memory(trainee, 3, images=2):
        train(trainee, epochs=1, loader=Noise(1))
    train(straight, epochs=1, loader=Noise(1))
    assert trainee.fitting.parts == 2
    found, expected = trainee.model.state_dict(), straight.model.state_dict()
    counts = [k for k in found if k.endswith("num_batches_tracked")]
    assert {int(found[k]) for k in counts} == {1}
    torch.testing.assert_close(found["model.0.bn.running_mean"], expected["model.0.bn.running_mean"], rtol=1e-5, atol=1e-7)


def test_what_never_fits_ends_with_advice():
    trainee = new_trainee()
    before = trainee.model.state_dict()["model.3.bn.running_mean"].clone()
    with (
        small_memory(trainee, 4, images=0),
        pytest.raises(UserError, match=r"out of memory in epoch 0, batch 0, even image by image .*--imgsz"),
    ):
        train(trainee)
    assert torch.equal(trainee.model.state_dict()["model.3.bn.running_mean"], before)


def test_one_rank_of_several_does_not_try_again():
    trainee = new_trainee(ranks=Ranks(1, 2, 1))
    with small_memory(trainee, 4), pytest.raises(UserError, match=r"out of memory in epoch 0, batch 0, on rank 1 .*lower --batch-size"):
        train(trainee)


def test_other_errors_pass():
    assert all(map(out_of_memory, ERRORS))
    assert not out_of_memory(RuntimeError("shape mismatch"))
    assert not out_of_memory(ValueError("out of memory"))
    trainee = new_trainee()
    trainee.layers[0].register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        train(trainee)
