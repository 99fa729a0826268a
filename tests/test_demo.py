"""The demo: its commands fit the scripts, and it learns what it promises."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from utils import config
from utils.cli import parse, parse_with
from utils.data.shapes import ShapesConfig

ROOT = Path(__file__).resolve().parent.parent


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """Run make with this interpreter's environment in the place of ``.venv``."""
    own = (f"BIN={Path(sys.executable).parent}", "RUNTIME=Makefile", "DEVELOPMENT=Makefile")
    return subprocess.run(["make", *words, *own], cwd=ROOT, capture_output=True, text=True, check=False)


def test_commands_of_the_demo_fit_the_scripts() -> None:
    done = make("--dry-run", "demo")
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.replace("\\\n", " ").splitlines()]
    calls = {words[1]: words[2:] for words in lines if words and words[0].endswith("/python")}
    settings, _, _ = parse_with(config.TrainConfig, config.Hyp, calls["train.py"])
    assert config.load_hyp(settings.hyp)
    measured, _ = parse(config.ValConfig, calls["val.py"])
    assert measured.data == settings.data == "datasets/demo/data.yaml"
    assert Path(measured.weights[0]) == Path(settings.project) / settings.name / "weights" / "best.pt"
    detected, _ = parse(config.DetectConfig, calls["detect.py"])
    assert detected.source == "datasets/demo/clip.mp4"
    drawn = calls["-m"]
    assert drawn[0] == "utils.data.shapes"
    assert len(parse(ShapesConfig, ["--out", *drawn[1:]])[0].classes) == 4


@pytest.mark.slow
def test_the_demo_learns(tmp_path: Path) -> None:
    done = make("demo", f"DEMO={tmp_path / 'demo'}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "demo" / "val" / "metrics.json").read_text())
    assert metrics["ap50"] >= 0.6
    assert len(list((tmp_path / "demo" / "images").glob("*.jpg"))) == 80
    assert (tmp_path / "demo" / "clip" / "clip.mp4").stat().st_size > 10_000
