"""Runs that must not go on: other data, other settings, or somebody at work there. Each is told why, and nothing of the run changes.

And runs that go on elsewhere, with another result: one line says what is not as it was.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch

import train
from tests.faults.tally import Tally, bytes_changed, snapshot
from tests.faults.training import EPOCHS, Training, wait
from utils.files.lock import folder_lock
from utils.training.amp import Precision

CLASSES = "the run was trained on"


def _label(root: Path) -> Path:
    return next(path for path in sorted((root / "labels" / "train").iterdir()) if len(path.read_text().splitlines()) > 1)


def _renamed(root: Path) -> None:
    image, label = sorted((root / "images" / "train").iterdir())[0], sorted((root / "labels" / "train").iterdir())[0]
    image.rename(image.with_stem("other"))
    label.rename(label.with_stem("other"))


def _resized(root: Path) -> None:
    image = sorted((root / "images" / "val").iterdir())[0]
    cv2.imwrite(str(image), np.zeros((64, 72, 3), np.uint8))


def _exchanged(root: Path) -> None:
    image = sorted((root / "images" / "val").iterdir())[0]
    cv2.imwrite(str(image), 255 - cv2.imread(str(image)))


def _flipped(root: Path) -> None:
    image = sorted((root / "images" / "train").iterdir())[0]
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)


def _names(text: str, by: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "data.yaml"
        content = path.read_text()
        assert text in content
        path.write_text(content.replace(text, by, 1))

    return change


def _moved_box(root: Path) -> None:
    path = _label(root)
    path.write_text(re.sub(r"^(\d+) \S+", r"\1 0.5", path.read_text()))


def _lost_box(root: Path) -> None:
    path = _label(root)
    path.write_text("\n".join(path.read_text().splitlines()[1:]))


DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "an image is gone": (
        lambda root: sorted((root / "images" / "train").iterdir())[0].unlink(),
        "train split has changed: 20 images before, 19",
    ),
    "an image has another name": (_renamed, "train split has changed: same number of images and boxes, but image names or sizes differ"),
    "an image has another size": (_resized, "val split has changed: same number of images and boxes, but image names or sizes differ"),
    "an image is another file": (_exchanged, "val split has changed: same number of images and boxes, but image files differ"),
    "an image differs in a bit": (_flipped, "train split has changed: same number of images and boxes, but image files differ"),
    "a box has moved": (_moved_box, "train split has changed: same number of images and boxes, but annotations differ"),
    "a box is gone": (_lost_box, r"train split has changed: \d+ boxes before, \d+ now"),
    "a class has another name": (_names("triangle", "wedge"), CLASSES),
}
"""What is done to a copy of the dataset, and how the refusal names it."""
SETTINGS: dict[tuple[str, ...], str] = {
    ("--batch-size", "2"): "--batch-size was 4 and is 2",
    ("--imgsz", "96"): "--imgsz was 64 and is 96",
    ("--lr0", "0.5"): r"--lr0 was \S+ and is 0.5",
    ("--mosaic", "0.25"): r"--mosaic was \S+ and is 0.25",
    ("--seed", "7"): "--seed was 0 and is 7",
    ("--optimizer", "Adam"): "--optimizer cannot change",
    ("--single-cls",): "--single-cls cannot change",
}

ELSEWHERE: dict[str, tuple[str, Any, str]] = {
    "another number of threads": ("torch.get_num_threads", lambda: 64, r"threads 64 \(\d+ before\)"),
    "fewer instructions": ("torch.backends.cpu.get_cpu_capability", lambda: "SSE", r"processor SSE \(\w+ before\)"),
    "another processor": ("utils.training.setup.processor_name", lambda _: "Abacus", r"device Abacus \(.+ before\)"),
    "another precision": (
        "utils.training.setup.choose_precision",
        lambda _, device: Precision(device, torch.bfloat16),
        r"precision torch.bfloat16 \(torch.float32 before\)",
    ),
    "another version": ("torch.__version__", "1.0", r"torch 1.0 \(\S+ before\)"),
}
"""What differs on the machine on which a run goes on, and how it is said."""


def run(folder: Path, *, short: bool) -> Tally:
    """Train once; then try to go on with each change, and beside somebody else."""
    tally = Tally("refusals")
    training = Training(folder, "--noplots", "--workers", "0")
    if code := training.finish("run"):
        tally.fault(False, f"the undisturbed run ended with {code}: {training.log('run')}")
        return tally
    place = training.run_folder("run")
    resume, before = ["--resume", str(place), "--epochs", str(EPOCHS + 1)], snapshot(place)

    def refused(what: str, argv: list[str], reason: str) -> None:
        log = folder / "run.log"
        log.write_text("")
        code = wait(training.fork(lambda: train.main(argv), "run"))
        said = " ".join(log.read_text().split())
        wrong = f"ended with {code}" if code != 2 else "" if re.search(reason, said) and "Traceback" not in said else "said something else"
        tally.fault(not wrong, f"{what}: {wrong}: {said[-300:]}")
        tally.bytes_changed += bytes_changed(before, place)

    for number, (what, (change, reason)) in enumerate(list(DATA.items())[:: 4 if short else 1]):
        data = shutil.copytree(training.data.parent, folder / f"data{number}") / training.data.name
        change(data.parent)
        refused(what, [*resume, "--data", str(data)], reason)
    for flags, reason in list(SETTINGS.items())[:: 4 if short else 1]:
        refused(" ".join(flags), [*resume, *flags], reason)
    with folder_lock(place):
        before = snapshot(place)  # the lock says who holds it
        for argv in (resume, training.command("run")):
            refused("somebody is at work there", argv, r"is in use by process \d+ on \S+ since .*; wait, stop it, or give another --name")
    for what, (name, value, said) in list(ELSEWHERE.items())[:: 4 if short else 1]:
        place = shutil.copytree(training.run_folder("run"), folder / "runs" / what)
        with mock.patch(name, value):
            code = training.finish(what, "--epochs", str(EPOCHS + 1))
        log = " ".join((folder / f"{what}.log").read_text().split())
        told = re.search(f"other code or machine than the run's: {said}; the result may not be the same to the bit", log)
        tally.fault(code == 0 and bool(told), f"{what}: ended with {code}: {log[:300]}")
    return tally
