"""Steps that do not fit into memory give what they would have given."""

from __future__ import annotations

import json

import pytest
import torch

from tests.step_faults import ERRORS, small_memory
from tests.tiny_training import differing, new_state, state_of, train
from utils.distributed import Ranks
from utils.errors import UserError
from utils.training.events import Events
from utils.training.out_of_memory import is_out_of_memory


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    state = new_state()
    train(state)
    return state_of(state)


@pytest.mark.parametrize(("call", "row", "backward"), [(1, 0, False), (5, 3, False), (5, 2, True), (12, 8, False), (9, 0, True)])
def test_one_failure_anywhere_changes_no_bit(expected, tmp_path, call, row, backward):
    """The calls past the 4th fall into steps of several batches, so gradients are accumulated meanwhile."""
    state = new_state(events=Events(tmp_path / "events.jsonl"))
    with small_memory(state, row, calls=(call,), backward=backward):
        train(state)
    assert differing(state_of(state), expected) == []
    assert state.recompute
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(x["event"], x["where"]) for x in lines] == [("out of memory", f"epoch {(call - 1) // 6}, batch {(call - 1) % 6}")]


def test_what_never_fits_ends_with_advice():
    state = new_state()
    before = state.model.state_dict()["model.3.bn.running_mean"].clone()
    with (
        small_memory(state, 4, images=0),
        pytest.raises(UserError, match=r"out of memory in epoch 0, batch 0, even with recomputed activations .*lower --batch-size"),
    ):
        train(state)
    assert torch.equal(state.model.state_dict()["model.3.bn.running_mean"], before)


def test_one_rank_of_several_does_not_try_again():
    state = new_state(ranks=Ranks(1, 2, 1))
    with small_memory(state, 4), pytest.raises(UserError, match=r"out of memory in epoch 0, batch 0, on rank 1 .*lower --batch-size"):
        train(state)


def test_other_errors_pass():
    assert all(map(is_out_of_memory, ERRORS))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
    state = new_state()
    state.layers[0].register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        train(state)
