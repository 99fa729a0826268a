"""Names of classes, files, folders and runs that are no text, or mean something to a terminal, a spreadsheet, a font or a formula.

Training, resuming, validating and detecting go through, and no file that they write holds a control character.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import yaml

import detect
import train
import val
from tests.faults.tally import Tally
from tests.faults.training import Training, wait

CLASSES = (
    *("\ud800x", "\udcff", "a\nb", "c\r\nd", "\x1b]0;t\x07", "\x9b6n", "$\\frac{$", "n" * 300, "=1+1", "\u202eabc", "", "e\u0301" * 400),
    *("\x00z", "\U0001f600", "../../x", "CON", "a/b", "%s%n", "\u2028", "\ufeff"),
)
FILES = (
    *(b"i\xfe", b"a\nb", b"c\r", b"\x1b[2J", "\u202e".encode(), b"=x", b"p$q", "\x9bz".encode(), b"-rf", b" ", b"%s%n", b"..x"),
    *("\ufeff".encode(), b"a,b", b'"q"', b"{x}"),
)
FOLDER, PROJECT = b"d\xff\n\x1b[31m", b"r\xff\x1b[31m\nx"


def run(folder: Path, *, short: bool) -> Tally:
    """All names at once through each script; each name counts once a script."""
    tally = Tally("names")
    training = Training(folder, "--noplots")
    data = _dataset(folder / os.fsdecode(FOLDER))
    runs = folder / os.fsdecode(PROJECT)
    best = runs / "exp" / "weights" / "best.pt"
    common = ["--imgsz", "64", "--device", "cpu"]

    def main() -> None:
        images = ["--source", str(data.parent / "images" / "val"), "--conf-thres", "0", "--max-det", "3", "--attention"]
        files = ["--save-txt", "--save-csv", "--save-json", "--save-crop"]
        sys.argv[1:] = ["--weights", str(best), *images, *files, *common, "--project", str(runs / "detect")]
        detect.main()

    start = [
        "--cfg",
        str(training.cfg),
        "--data",
        str(data),
        "--epochs",
        "1",
        "--keep-resume",
        "--batch-size",
        "4",
        "--amp",
        "off",
        "--workers",
        "0",
    ]
    scripts: dict[str, Callable[[], None]] = {
        "train": lambda: train.main([*start, *common, "--project", str(runs)]),
        "resume": lambda: train.main(["--resume", str(runs / "exp"), "--epochs", "2"]),
        "val": lambda: val.main(
            [
                *common,
                "--weights",
                str(best),
                "--data",
                str(data),
                "--workers",
                "0",
                "--save-txt",
                "--save-json",
                "--project",
                str(runs / "val"),
            ]
        ),
        "detect": main,
    }
    for name, script in list(scripts.items())[:: 3 if short else 1]:
        code = wait(training.fork(script, "run"))
        wrong = f"ended with {code}: {training.log('run')}" if code else _control_characters(runs)
        for thing in (*CLASSES, *FILES, FOLDER, PROJECT):
            tally.fault(not wrong, f"{name}: {thing!a:.20}: {wrong}")
    return tally


def _dataset(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for number, name in enumerate(map(os.fsdecode, FILES)):
            image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            (folder / "images" / split / f"{name}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
            boxes = [f"{(number + more) % len(CLASSES)} .5 .5 .4 .4\n" for more in range(2)]
            (folder / "labels" / split / f"{name}.txt").write_text("".join(boxes) + "99 1 1 1 1\n")
    (folder / "data.yaml").write_text(yaml.safe_dump({"path": ".", "train": "images/train", "val": "images/val", "names": list(CLASSES)}))
    return folder / "data.yaml"


def _control_characters(folder: Path) -> str:
    """The first text file that is no UTF-8, or holds what is not printable."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".csv", ".txt", ".json", ".jsonl", ".yaml"):
            try:
                text = path.read_bytes().decode()
            except UnicodeDecodeError:
                return f"{path.name!a} is no UTF-8"
            if odd := sorted({c for c in text if not c.isprintable() and c not in ("\r\n" if path.suffix == ".csv" else "\n")}):
                return f"{path.name!a} holds {odd!a}"
    return ""
