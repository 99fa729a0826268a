"""Working folders with files that have the names of shipped ones, or of settings that libraries look for there.

What ships is built from what ships, the defaults stay the defaults, pictures are drawn, and a file that is used in place of a shipped one
is named.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

import train
from models.spec.model_spec import ModelSpec
from tests.faults.tally import Tally
from tests.faults.training import Training, wait
from utils.config import ROOT
from utils.log import LOG

PROGRAM = b"open('canary', 'w')\n"
PLANTED = {
    "matplotlibrc": b"text.usetex: True\nsavefig.format: svg\nbackend: module://planted\n",
    "hyp.scratch-low.yaml": b"lr0: 0.5\nmosaic: 0.0\n",
    "hyps/hyp.scratch-low.yaml": b"lr0: 0.5\nmosaic: 0.0\n",
    "data/hyps/hyp.scratch-low.yaml": b"lr0: 0.5\nmosaic: 0.0\n",
    "Detect.yaml": b"!!python/object/apply:os.system ['touch canary']\n",
    "Arial.ttf": b"no font",
    "pytest.ini": b"[pytest]\naddopts = --nonsense\n",
    "pyproject.toml": b"[tool\n",
    ".env": b"ATTUNE_CACHE=/dev/null\n",
    ".netrc": b"machine\n",
    "wandb/settings": b"\xff",
    **{
        f"{name}.py": b"open('canary', 'w')\n"
        for name in ("torch", "yaml", "numpy", "cv2", "utils", "models", "json", "matplotlib", "train")
    },
    **{f"{name}/__init__.py": b"open('canary', 'w')\n" for name in ("scipy", "torchvision", "PIL", "tqdm", "planted")},
}
"""What lies there while trainings and validations run: all of it at once, and each file counts once a script."""


DEFAULT_LR0 = 0.01


def run(folder: Path, *, short: bool) -> Tally:
    """Build each shipped model beside files of every shipped name; then train and validate beside all of `PLANTED`."""
    tally = Tally("shadows")
    names = sorted(path for place in ("models", "models/zoo") for path in (ROOT / place).glob("*.yaml"))
    straight = {path: ModelSpec.from_yaml(path) for path in names[:: 5 if short else 1]}
    planted = folder / "planted"
    planted.mkdir()
    for path in names:
        content = {"nc": 1, "anchors": 3, "backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [[[0, 0, 0], 1, "Detect", ["nc", "anchors"]]]}
        for place in (planted, planted / "zoo", planted / "models"):
            place.mkdir(exist_ok=True)
            (place / path.name).write_text(yaml.safe_dump(content))
    training = Training(folder, "--workers", "0")
    said = _Messages()
    LOG.addHandler(said)
    os.chdir(planted)
    for path, spec in straight.items():
        tally.fault(ModelSpec.from_yaml(path) == spec, f"{path.name} by its path: another model was built")
        said.last = ""
        found = ModelSpec.from_yaml(path.name)
        tally.fault("is used, not the file of that name" in said.last and len(found.rows) == 2, f"{path.name} by its name: {said.last}")
    LOG.removeHandler(said)
    _scripts(training, folder, tally, short=short)
    return tally


class _Messages(logging.Handler):
    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def _scripts(training: Training, folder: Path, tally: Tally, *, short: bool) -> None:
    work = folder / "work"
    for name, content in PLANTED.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(content)
    best = training.run_folder("run") / "weights" / "best.pt"
    flags = ["--weights", str(best), "--data", str(training.data), "--imgsz", "64", "--device", "cpu", "--workers", "0"]

    def validate() -> None:  # a process of its own, which imports everything while it works there
        os.execv(sys.executable, [sys.executable, str(ROOT / "val.py"), *flags, "--project", str(folder / "runs"), "--name", "val"])

    (damaged := folder / "damaged").mkdir()
    (damaged / "matplotlibrc").write_bytes(b"font.size: \xff\n")  # matplotlib itself cannot be imported there
    charts = ("results.png", "confusion_matrix.png", "PR_curve.png")
    for name, script, place, pictures in (
        ("run", lambda: train.main(training.command("run", "--epochs", "1")), work, charts),
        ("val", validate, work, charts[1:]),
        ("val2", validate, damaged, ()),
    ):
        code = _run(training, place, script)
        missing = [file for file in (*pictures, "metrics.json") if not (training.run_folder(name) / file).is_file()]
        wrong = f"ended with {code}: {training.log('run')[-300:]}" if code else f"no {missing}" if missing else ""
        if name == "run" and not wrong and yaml.safe_load((training.run_folder(name) / "hyp.yaml").read_text())["lr0"] != DEFAULT_LR0:
            wrong = "the planted hyper-parameters are used"
        for file in list(PLANTED)[:: 5 if short else 1] if place == work else ["a matplotlibrc that is no UTF-8"]:
            tally.fault(not wrong, f"{name} beside {file}: {wrong}")
    if (work / "canary").exists():
        tally.executed += 1


def _run(training: Training, work: Path, script: Callable[[], object]) -> int:
    (training.folder / "run.log").write_text("")
    return wait(training.fork(script, "run", lambda: os.chdir(work)), seconds=600)
