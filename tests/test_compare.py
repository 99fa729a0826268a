"""compare.py end to end, with processes of its own: a study with every file, killed on the way; its flags; Ray."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import compare
from tests.utils.compare.forked import write_models
from utils.compare import load_study
from utils.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ("--imgsz", "64", "--batch-size", "4", "--workers", "0", "--device", "cpu", "--noplots", "--resamples", "100")
FILES = ("study.yaml", "results.csv", "results.json", "costs.json", "report.html", "table.md", "table.tex", "models/tiny-se.yaml")


@pytest.fixture(scope="module")
def cfgs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_models(tmp_path_factory.mktemp("models"))


def line(cfgs: list[str], data: Path, project: Path, *more: str) -> list[str]:
    own = ("--cfgs", *cfgs, "--data", str(data), "--project", str(project), *FLAGS)
    return [sys.executable, str(ROOT / "compare.py"), *own, *more]


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


def workers(study: Path) -> Iterator[int]:
    """The processes that carry out runs of a study."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"utils.compare.run_worker" in words and str(study).encode() in words:
            yield int(entry.name)


def kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def measured(study: Path) -> dict[str, bytes]:
    files = [study / "results.csv", *study.glob("runs/*/*/*.npz"), *study.glob("runs/*/*/results.csv")]
    return {str(p.relative_to(study)): p.read_bytes() for p in files}


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
def test_a_study_with_a_killed_run_and_all_its_files(cfgs, tiny_dataset, tmp_path):
    command = line(cfgs, tiny_dataset, tmp_path, "--epochs", "2", "--seeds", "1", "--jobs", "2")
    process = start(command, tmp_path / "log")
    study = tmp_path / "study"
    while process.poll() is None and not list(study.glob("runs/*/*/results.csv")):
        time.sleep(0.02)
    for victim in list(workers(study))[:1]:
        kill(victim)
    assert process.wait() == 0, (tmp_path / "log").read_text()
    assert "its process ended with signal 9; resuming from its last checkpoint" in (tmp_path / "log").read_text()
    assert [f for f in FILES if not (study / f).is_file()] == []
    found = load_study(study)
    assert [r.state for r in found.runs] == ["done", "done"]
    cost = found.costs["tiny-se"]
    assert cost.parameters == found.costs["tiny"].parameters + 16  # squeeze to 1 channel and back: 8 + 8
    assert min(cost.gflops, cost.latency_ms, cost.images_per_second, cost.memory_mb, cost.train_memory_mb, cost.train_seconds) > 0
    assert cost.latency_p95_ms >= cost.latency_ms
    assert found.comparisons["tiny-se"].verdict == "no verdict"  # a single seed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--cfgs", "yolov5n", "--seeds", "0"), "--seeds 0: must be >= 1"),
        (("--cfgs", "yolov5n", "--seeds", "1", "2", "1"), "--seeds: 1 is given twice"),
        (("--cfgs", "yolov5n", "--seeds", "-1", "2"), "--seeds -1: a seed must be >= 0"),
        (("--cfgs", "yolov5n", "--seed", "4"), "--seed: not available here: --seeds gives"),
        (("--cfg", "yolov5n"), "--cfg: not available here: --cfgs names all models"),
        (("--cfgs", "yolov5n", "--resume"), "--resume: not available here: repeating the command"),
        (("--cfgs", "yolov5n", "--exist-ok"), "--exist-ok: not available here"),
        (("--cfgs", "yolov5n", "--nosave"), "--nosave: not available here"),
        (("--cfgs", "yolov5n", "--batch-size", "-1"), "--batch-size -1 would give each variant its own"),
        (("--cfgs", "yolov5n", "--jobs", "-2"), "--jobs -2"),
        (("--cfgs", "yolov5n", "--resamples", "3"), "--resamples 3"),
        (("--cfgs", "yolov5n", "--ray-address", "auto"), "--ray-address needs --engine ray"),
        (("--cfgs", "yolov5n", "--control", "reset"), "--control reset re-initialises the start weights"),
        (("--cfgs", "yolov5n", "--momentum", "2"), "momentum: 2.0 is outside 0 to 0.9999"),
        (("--cfgs", "yolov5n", "--seedz", "2"), "unknown argument '--seedz'; did you mean '--seed"),
        ((), "nothing to compare"),
    ],
)  # fmt: skip
def test_flags_that_make_no_sense(flags, message):
    with pytest.raises(UserError) as error:
        compare.main(list(flags))
    assert message in str(error.value)


def test_a_dry_run_prints_the_plan_and_leaves_nothing(cfgs, tiny_dataset, tmp_path, capsys, monkeypatch):
    draft = {"step_seconds": 1.5, "load_seconds": 0.5, "seconds": 0.0}
    monkeypatch.setattr("utils.compare.benchmark._run_workers", lambda lines, _: [draft] * len(lines))
    monkeypatch.setattr("utils.compare.benchmark.cpu_count", lambda: 1)
    compare.main([*line(cfgs, tiny_dataset, tmp_path, "--seeds", "2", "--jobs", "1", "--dry-run")[2:]])
    said = capsys.readouterr().out
    assert "study: 2 variants x 2 seeds (0, 1)" in said
    # 100 epochs of 2 steps, 101 validations of 4 images at 0.4 x 2 s / 4, twice 4 images measured: 400 + 80.8 + 1.6 s
    assert "tiny-se" in said
    assert said.count("8 min 2 s") == 2
    assert "all runs: about 32 min 10 s" in said
    assert not (tmp_path / "study").exists()
    compare.main([*line(cfgs, tiny_dataset, tmp_path, "--seeds", "2", "--folds", "4", "--jobs", "1", "--dry-run")[2:]])
    said = capsys.readouterr().out
    assert "2 variants x 2 seeds (0, 1) x 4 folds" in said
    assert "train 8 images, val 4 images; each run trains on 9 of them, and is measured on the others" in said
    # 100 epochs of 3 steps, 101 validations of 3 images, twice 3 measured: 600 + 60.6 + 1.2 s
    assert said.count("11 min 2 s") == 2


def test_without_ray_there_is_a_hint(monkeypatch):
    from utils.compare.ray_executor import RayExecutor

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -r requirements-ray\.txt"):
        RayExecutor("", {}, jobs=1, threads=1, runs=1, device="cpu")


def disturb(command: list[str], study: Path, log: Path, kills: int, seed: int) -> None:
    """Kill compare.py or one of its runs, whichever the dice say, at random moments; each time repeat the command to continue."""
    dice = random.Random(seed)
    process = start(command, log)
    for _ in range(kills):
        deadline = time.monotonic() + dice.uniform(1, 12)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        victims = list(workers(study))
        if victims and dice.random() < 0.5:
            kill(dice.choice(victims))
        elif process.poll() is None:
            process.kill()
            process.wait()
        if process.poll() is not None:
            process = start(command, log)
    assert process.wait() == 0, log.read_text()


@pytest.mark.slow
def test_twenty_kills_at_random_moments(cfgs, tiny_dataset, tmp_path):
    flags = ("--epochs", "20", "--seeds", "2", "--jobs", "2")
    subprocess.run(line(cfgs, tiny_dataset, tmp_path, "--name", "straight", *flags), check=True, capture_output=True)
    study = tmp_path / "disturbed"
    disturb(line(cfgs, tiny_dataset, tmp_path, "--name", "disturbed", *flags), study, tmp_path / "log", kills=20, seed=0)
    assert measured(study) == measured(tmp_path / "straight")


@pytest.mark.slow
def test_ray_with_its_workers_killed(cfgs, tiny_dataset, tmp_path):
    pytest.importorskip("ray")
    flags = ("--epochs", "60", "--seeds", "2", "--jobs", "2")
    subprocess.run(line(cfgs, tiny_dataset, tmp_path, "--name", "straight", *flags), check=True, capture_output=True)
    study, log = tmp_path / "ray", tmp_path / "log"
    process = start(line(cfgs, tiny_dataset, tmp_path, "--name", "ray", "--engine", "ray", *flags), log)
    killed = 0
    while process.poll() is None and killed < 3:
        time.sleep(0.2)
        parents = [int((Path("/proc") / str(p) / "stat").read_text().rpartition(")")[2].split()[1]) for p in workers(study)]
        if parents and list(study.glob("runs/*/*/weights/last.pt")):
            kill(parents[0])  # Ray's worker: the run's own process notices, saves and ends
            killed += 1
            time.sleep(6)
    assert process.wait() == 0, log.read_text()
    assert killed == 3
    assert measured(study) == measured(tmp_path / "straight")


@pytest.mark.slow
def test_a_factorial_study_killed_and_resumed(tmp_path):
    """Arms from a file on a tiny set of shapes: the cell that lacks is made, and six kills change no byte."""
    counts = ("--train", "12", "--val", "6", "--test", "0", "--size", "64", "--frames", "0")
    subprocess.run([sys.executable, "-m", "utils.data.shapes", str(tmp_path / "shapes"), *counts], check=True, cwd=ROOT)
    write_models(tmp_path)
    arms = {"base": {"cfg": "tiny.yaml"}, "se": {"cfg": "tiny-se.yaml"}, "siou": {"cfg": "tiny.yaml", "hyp": {"box_loss": "siou"}}}
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump({"baseline": "base", "arms": arms, "factors": ["se", "siou"]}))
    own = ("--arms", str(tmp_path / "arms.yaml"), "--data", str(next(tmp_path.glob("shapes/*.yaml"))), "--project", str(tmp_path))
    command = [sys.executable, str(ROOT / "compare.py"), *own, *FLAGS, "--epochs", "6", "--seeds", "2", "--jobs", "2", "--pairs", "all"]
    subprocess.run([*command, "--name", "straight"], check=True, capture_output=True)
    disturb([*command, "--name", "disturbed"], tmp_path / "disturbed", tmp_path / "log", kills=6, seed=1)
    assert measured(tmp_path / "disturbed") == measured(tmp_path / "straight")
    study = load_study(tmp_path / "disturbed")
    assert [v.name for v in study.variants] == ["base", "se", "siou", "se+siou"]
    assert [e.factors for e in study.effects] == [("se",), ("siou",), ("se", "siou")]
    assert study.effects == load_study(tmp_path / "straight").effects
