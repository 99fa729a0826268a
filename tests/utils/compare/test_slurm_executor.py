"""The SLURM engine, with submitit's local executor in the place of a cluster."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.utils.compare.forked import FAILING_BLOCKS, settings, study_of, write_models, write_variant
from utils.compare import load_study, slurm_executor
from utils.compare.checksummed_json import read_json
from utils.compare.executors import Exit, Task
from utils.compare.slurm_executor import SlurmExecutor
from utils.errors import UserError

needs_submitit = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="no submitit")


def engine(study: Path, *options: str) -> SlurmExecutor:
    return SlurmExecutor(study, {}, jobs=0, threads=1, runs=4, device="cpu", options=options or ("cluster=local",))


def all_ended(executor: SlurmExecutor, count: int) -> list[Exit]:
    found: list[Exit] = []
    limit = time.monotonic() + 300
    while len(found) < count and time.monotonic() < limit:
        found += executor.wait(0.5)
    return sorted(found, key=lambda ended: ended.task.seed)


@pytest.mark.slow
@needs_submitit
def test_tasks_are_jobs_and_their_exit_status_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def line(task: Task, flags: object, device: str) -> list[str]:
        return [sys.executable, "-c", f"print('{task.variant} on {device}'); raise SystemExit({task.seed})"]

    monkeypatch.setattr(slurm_executor, "command", line)
    executor = engine(tmp_path)
    tasks = [Task(tmp_path, "base", seed) for seed in (0, 2)]
    for task in tasks:
        executor.start(task)
    assert all_ended(executor, 2) == [Exit(tasks[0], 0), Exit(tasks[1], 2)]
    assert tasks[0].log.read_text() == "base on cpu\n"
    assert set(read_json(tmp_path / "slurm.json") or {}) == {"runs/base/seed0", "runs/base/seed2"}
    executor.stop()


@needs_submitit
def test_a_job_that_is_there_already_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        """A job of an earlier command."""

        def __init__(self, folder: Path, job_id: str) -> None:
            assert (folder.parent, folder.name) == (tmp_path / "logs", "slurm-abc")
            self.job_id = job_id
            self.state = "RUNNING" if job_id == "7_1" else "COMPLETED"

        def done(self) -> bool:
            return True

    executor: Any = engine(tmp_path)
    executor._kind = Found
    forged = {"runs/b/seed0": "../../x/7_1", "runs/c/seed0": 3, "runs/d/seed0": "slurm-abc/7; scancel"}
    executor._known = {"runs/a/seed0": "slurm-abc/7_1", "runs/e/seed0": "slurm-abc/7_2", **forged}
    for name in "abcde":
        executor.start(Task(tmp_path, name, 0))
    assert [task.variant for task in executor._waiting] == ["b", "c", "d", "e"]
    executor._waiting.clear()
    assert executor.wait(0) == [Exit(Task(tmp_path, "a", 0), -9)]  # what it did is in its run folder


@needs_submitit
def test_options_and_machines_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--engine slurm: no sbatch on this machine; run the command where jobs are submitted"):
        engine(tmp_path, "partition=gpu")
    with pytest.raises(UserError, match="expected NAME=VALUE, such as partition=gpu"):
        engine(tmp_path, "gpu")
    with pytest.raises(UserError, match="cluster=moon: must be slurm or local"):
        engine(tmp_path, "cluster=moon")
    with pytest.raises(UserError, match=r"--slurm: .*colour"):
        engine(tmp_path, "cluster=local", "colour=red")


def test_without_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"submitit is not installed; pip install -r requirements-slurm\.txt"):
        engine(tmp_path)


@pytest.mark.slow
@needs_submitit
def test_a_study_as_jobs_gives_the_same_results(tmp_path: Path, tiny_dataset: Path) -> None:
    cfgs = write_models(tmp_path)
    cfgs.append(write_variant(tmp_path, "crash", cfgs[0], "Crash"))
    for engine_name, own in (("local", {}), ("slurm", {"engine": "slurm", "slurm": ("cluster=local",)})):
        more: dict[str, Any] = {"seeds": (2,), "epochs": 1, "plugins": (FAILING_BLOCKS,), "stop_hopeless": 1.0}
        study_of(settings(cfgs, tiny_dataset, tmp_path / engine_name, jobs=1, **more, **own))
        states = [run.state for run in load_study(tmp_path / engine_name / "study").runs if run.variant == "crash"]
        assert states == ["failed", "stopped"]
    results = [(tmp_path / name / "study" / "results.csv").read_bytes() for name in ("local", "slurm")]
    assert results[0] == results[1]
