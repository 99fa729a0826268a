"""Handing runs over: what a process is told, and what Ray is asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.utils.compare.forked import ForkExecutor, settings, study_of, write_models
from utils.compare import load_study
from utils.compare import main as study_main
from utils.compare.executors import LocalExecutor, Task, command
from utils.compare.ray_executor import RayExecutor
from utils.errors import UserError


def test_a_zero_is_handed_over_and_what_is_off_is_not():
    flags = {"workers": 0, "save_interval": 0.0, "save_period": -1, "noplots": False, "cache": ""}
    line = command(Task(Path("s"), "v", 0), flags, "cpu")
    assert line[-5:] == ["--follow", "--workers=0", "--save-interval=0.0", "--save-period=-1", "--device=cpu"]
    assert command(Task(Path("s"), "v", 0), {"noplots": True}, "")[-2:] == ["--follow", "--noplots"]


def test_no_room_for_a_log_is_told(tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(UserError, match=r"v, seed 0: its process cannot be started \(File exists: .*logs\); repeat the command"):
        LocalExecutor(1, {}, ["cpu"]).start(Task(tmp_path, "v", 0))


class Ray:
    """Writes down what it is asked for."""

    def __init__(self, gpus: int) -> None:
        self.asked: dict[str, Any] = {}
        self.given: tuple[Any, ...] = ()
        self._resources = {"CPU": 4.0, "GPU": float(gpus)}

    def init(self, **_: Any) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return self._resources

    def remote(self, *given: Any) -> Any:
        self.given = given
        return self

    def options(self, **asked: Any) -> Any:
        self.asked = asked
        return SimpleNamespace(remote=self.remote)


@pytest.mark.parametrize(("gpus", "device", "asked", "told"), [(2, "", 1, "0"), (2, "cpu", 0, "cpu"), (0, "", 0, "cpu"), (1, "1", 1, "0")])
def test_ray_takes_the_clusters_gpus_and_finds_the_study_from_any_folder(monkeypatch, tmp_path, gpus, device, asked, told):
    ray = Ray(gpus)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.chdir(tmp_path)
    engine = RayExecutor("auto", {"workers": 0}, jobs=2, threads=2, runs=3, device=device)
    engine.start(Task(Path("study"), "v", 1))
    assert (ray.asked["num_cpus"], ray.asked["num_gpus"]) == (2, asked)
    assert ray.given == (Task(tmp_path / "study", "v", 1), {"workers": 0}, told)


@pytest.mark.slow
def test_a_tuned_factorial_study_on_ray_is_the_same(tiny_dataset, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    write_models(tmp_path)
    arms = {"base": {"cfg": "tiny.yaml"}, "se": {"cfg": "tiny-se.yaml"}, "siou": {"cfg": "tiny.yaml", "hyp": {"box_loss": "siou"}}}
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump({"arms": arms, "factors": ["se", "siou"]}))
    monkeypatch.setattr(study_main, "LocalExecutor", ForkExecutor)
    monkeypatch.setattr(study_main, "measure_costs", lambda *_: None)
    monkeypatch.setattr(study_main, "write_report", lambda _: None)
    more = {"arms": str(tmp_path / "arms.yaml"), "tune": 2, "epochs": 1, "seeds": (1,)}
    for engine in ("local", "ray"):
        study_of(settings((), tiny_dataset, tmp_path / engine, engine=engine, **more))
    local, ray = (load_study(tmp_path / engine / "study") for engine in ("local", "ray"))
    assert [r.state for r in ray.runs] == ["done"] * 4
    assert [v.name for v in ray.variants] == ["base", "se", "siou", "se+siou"]
    assert [v.tuned for v in ray.variants] == [v.tuned for v in local.variants]
    assert all(v.tuned and len(v.tuned.scores) == 2 for v in ray.variants)
    assert (ray.folder / "results.csv").read_bytes() == (local.folder / "results.csv").read_bytes()
