"""Two processes against one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from models import build_model
from tests.tiny_model import TINY
from utils.config import ROOT, Hyp
from utils.distributed import SINGLE, Ranks, gather, join, ranks_from, replicate, share, sum_over_ranks
from utils.errors import UserError
from utils.training.losses.loss import DetectionLoss

MODEL = TINY | {"nc": 3}


def gradients(images: torch.Tensor, targets: torch.Tensor, ranks: Ranks) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Of the model with seed 0 and batch norms in eval, averaged over the ranks."""
    model = build_model(MODEL)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    parallel = replicate(model, torch.device("cpu"), ranks)
    total, terms = DetectionLoss(model.head, Hyp(), 64, 3, ranks=ranks)(parallel(images), targets)
    total.backward()
    return [p.grad for p in model.parameters()], terms


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Four images with 9, 0, 1 and 4 targets: the ranks' shares differ in matches."""
    generator = torch.Generator().manual_seed(3)
    targets = torch.rand(14, 6, generator=generator) * 0.5 + 0.2
    targets[:, 0] = torch.tensor([0] * 9 + [2] + [3] * 4)
    targets[:, 1] = torch.arange(14) % 3
    return torch.rand(4, 3, 64, 64, generator=generator), targets


def work(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    ranks = Ranks(rank, 2, rank)
    images, targets = batch()
    mine = targets[(targets[:, 0] // 2) == rank] - torch.tensor([2.0 * rank, 0, 0, 0, 0, 0])
    grads, terms = gradients(images[rank * 2 : rank * 2 + 2], mine, ranks)
    summed = sum_over_ranks([float(terms[t]) for t in ("box", "obj", "cls")], torch.device("cpu"), ranks)
    value = torch.full((2,), float(rank))
    share([value], ranks)
    torch.save({"grads": grads, "terms": summed, "gathered": gather(rank * 10, ranks), "shared": value}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_gradients_of_two_ranks_are_those_of_one(tmp_path):
    start_processes(work, (str(tmp_path),), nprocs=2, start_method="fork")
    grads, terms = gradients(*batch(), SINGLE)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["gathered"] == [0, 10]
        assert found["shared"].tolist() == [0, 0]
        assert found["terms"] == pytest.approx([float(terms[t]) for t in ("box", "obj", "cls")], rel=1e-5)
        for mine, expected in zip(found["grads"], grads, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)
    assert max(float(g.abs().max()) for g in grads) > 0.01


def test_ranks_from_the_environment():
    assert ranks_from({}) == SINGLE
    assert ranks_from({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Ranks(3, 4, 1)
    assert ranks_from({"RANK": "3", "WORLD_SIZE": "4"}) == Ranks(3, 4, 3)
    assert ranks_from({"WORLD_SIZE": "1"}) == ranks_from({"RANK": "0"}) == SINGLE  # as some clusters set them


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"WORLD_SIZE": "2"}, "no RANK, WORLD_SIZE=2: not one of several"),
        ({"RANK": "1"}, "RANK=1, no WORLD_SIZE: not one of several"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2, WORLD_SIZE=2: not one of several"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0, WORLD_SIZE=0: not one of several"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x', not a number"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK is '-1'"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK is ''"),
        ({"RANK": "1", "WORLD_SIZE": "\u0662"}, "WORLD_SIZE is '.u0662'"),
        ({"RANK": "9" * 5000, "WORLD_SIZE": "2"}, "RANK is '999"),
    ],
)
def test_an_environment_that_makes_no_sense(environment: dict[str, str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        ranks_from(environment)


@pytest.mark.parametrize(
    ("address", "reason"),
    [({}, r"at \(no MASTER_ADDR\):\(no MASTER_PORT\)"), ({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "x"}, "at 127.0.0.1:x")],
)
def test_an_address_at_which_no_other_process_can_be(address: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", **address}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"rank 1 of 2 cannot join the others {reason}"):
        join(torch.device("cpu"))


@pytest.mark.slow
def test_torchrun_trains(tiny_dataset, tmp_path):
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text(yaml.safe_dump(MODEL))
    flags = ["--cfg", cfg, "--data", tiny_dataset, "--imgsz", "64", "--batch-size", "4", "--workers", "1", "--epochs", "2", "--noplots"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "train.py",
        *flags,
        "--project",
        tmp_path,
    ]
    done = subprocess.run(
        list(map(str, command)), check=False, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "exp" / "results.csv").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "exp" / "metrics.json").read_text())["images"] == 4
