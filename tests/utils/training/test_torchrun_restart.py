"""Processes that torchrun has started anew find the run they belong to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from utils.config import TrainConfig
from utils.distributed import rank_is_lost
from utils.training.checkpoint import save_checkpoint
from utils.training.torchrun_restart import MARK, mark_folder, resume_after_restart, torchrun_id, unmark_folder

FIRST = {"TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_RESTART_COUNT": "0"}
AGAIN = FIRST | {"TORCHELASTIC_RESTART_COUNT": "1"}
GIVEN = frozenset({"project", "epochs"})


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return TrainConfig(project=str(tmp_path), epochs=7)


def folder(config: TrainConfig, name: str, *, saved: bool = True) -> Path:
    place = Path(config.project) / name
    (place / "weights").mkdir(parents=True)
    if saved:
        save_checkpoint(place / "weights" / "last.pt", {"model": {"w": torch.zeros(1)}})
    return place


def test_a_restart_goes_on_in_the_marked_folder(config):
    other, mine = folder(config, "exp"), folder(config, "exp2")
    mark_folder(other, config, FIRST | {"TORCHELASTIC_RUN_ID": "b"})
    mark_folder(mine, config, FIRST)
    assert resume_after_restart(config, GIVEN, FIRST) == (config, GIVEN)
    assert resume_after_restart(config, GIVEN, {}) == (config, GIVEN)
    found, given = resume_after_restart(config, GIVEN, AGAIN)
    assert (found.resume, given) == (str(mine), {"resume"})
    unmark_folder(mine)
    assert resume_after_restart(config, GIVEN, AGAIN) == (config, GIVEN)
    assert (other / MARK).exists()


def test_before_the_first_checkpoint_the_folder_is_used_anew(config):
    mine = folder(config, "exp", saved=False)
    mark_folder(mine, config, FIRST)
    found, given = resume_after_restart(config, GIVEN, AGAIN)
    assert (found.project, found.name, found.exist_ok, found.resume, given) == (config.project, "exp", True, "", GIVEN)


def test_an_id_that_is_used_again_belongs_to_the_newer_run(config):
    """As it does where a script names the same --rdzv-id every time."""
    mark_folder(folder(config, "exp"), config, FIRST)
    mark_folder(newer := folder(config, "exp2"), config, FIRST)
    assert not (Path(config.project) / "exp" / MARK).exists()
    assert resume_after_restart(config, GIVEN, AGAIN)[0].resume == str(newer)


def test_ids():
    assert torchrun_id({}) == ""
    assert torchrun_id({"TORCHELASTIC_RUN_ID": "x"}) == "x"
    assert torchrun_id({"TORCHELASTIC_RUN_ID": "none"}) == f"none {os.getppid()}"  # as without --rdzv-id


def test_what_a_lost_rank_looks_like():
    assert rank_is_lost(torch.distributed.DistBackendError("NCCL timeout"))
    assert rank_is_lost(RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:545] Connection reset by peer"))
    assert not rank_is_lost(RuntimeError("shape mismatch"))
