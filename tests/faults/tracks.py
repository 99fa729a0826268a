"""Videos that are odd, or change while they are read, through detect.py with --track, --tile and --vid-stride.

Where a video can be read, every frame is in all outputs alike, with a number for each track; otherwise one error says why.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import re
import sys
import warnings
from collections import Counter
from pathlib import Path
from unittest import mock

import torch
import yaml

import detect
from models import build_model
from models.detector import Detector
from tests.faults.cameras import cameras
from tests.faults.odd_videos import Attack, attacks
from tests.faults.tally import Tally, bytes_changed, snapshot
from tests.tiny_model import TINY
from utils.errors import UserError
from utils.images.video import VideoReader
from utils.inference.streams import Streams, Timeouts
from utils.log import LOG

TRACK = ["--track"] if importlib.util.find_spec("trackers") else []
"""Without the package trackers the same videos go through detection alone."""

TRACEBACK = "traceback:"


def run(folder: Path, *, short: bool) -> Tally:
    """Try every attack, or every fifth."""
    tally = Tally("tracks")
    LOG.setLevel(logging.CRITICAL)
    warnings.simplefilter("error", RuntimeWarning)  # a division by zero would end as a box without a place
    cfg = folder / "tiny.yaml"
    cfg.write_text(yaml.safe_dump(TINY))
    model = _sees_much(build_model(cfg, nc=2))
    quick = Timeouts(min_pause=0.05, max_pause=0.2, timeout=5.0, give_up=2.0)
    defaults = Streams.__init__.__kwdefaults__
    loaded, silent = mock.patch("models.load_model", return_value=model), mock.patch("detect.start_log")
    with cameras() as site, loaded, silent, mock.patch.dict(defaults, timeouts=quick):
        for number, attack in enumerate(attacks(site)):
            if not (short and number % 5):
                _try(attack, folder / str(number), tally)
    return tally


def _sees_much(model: Detector) -> Detector:
    """An untrained detector that finds something everywhere."""
    with torch.no_grad():
        for conv in model.head.m:  # type: ignore[union-attr]
            conv.bias.view(-1, 5 + model.nc)[:, 4:] += 6
    return model.eval()


def _try(attack: Attack, root: Path, tally: Tally) -> None:
    """Make what the attack needs, detect, and compare what came with what is expected."""
    given, out, precious = root / "given", root / "out" / "exp", root / "precious"
    for place in (given, out.parent, precious):
        place.mkdir(parents=True)
    (precious / "file").write_bytes(b"precious")
    source = attack.make(given)
    if attack.before:
        out.mkdir()
        attack.before(out)
    watched = precious if attack.during else given
    before, kept = snapshot(watched), snapshot(precious)
    flags = [*TRACK, "--imgsz", "64", "--max-det", "6", "--device", "cpu", "--save-txt", "--save-csv", "--save-json", *attack.flags]
    frames, said = _detect([*flags, "--source", str(source or given), "--project", str(out.parent), "--exist-ok"], attack, given)
    tally.bytes_changed += bytes_changed(before, watched) + bytes_changed(kept, precious)
    if isinstance(attack.expected, str):
        wrong = "" if re.search(attack.expected, said) and not said.startswith(TRACEBACK) else f"expected {attack.expected!r}"
    else:
        least, most = attack.expected
        wrong = said or ("" if least <= frames <= most else f"{frames} frames") or _differing(out)
    if left := [p.name for p in out.rglob(".*") if p.is_file()] if out.is_dir() else []:
        wrong += f"; left behind: {left}"
    tally.fault(not wrong, f"{attack.name}: {wrong} (said {said[:300]!r})")


def _detect(argv: list[str], attack: Attack, given: Path) -> tuple[int, str]:
    """Run detect.py; return the number of frames that were detected in, and its error."""
    frames, add = 0, detect.Tally.add

    def counted(tally: detect.Tally, *arguments: object) -> None:
        nonlocal frames
        frames += 1
        add(tally, *arguments)  # type: ignore[arg-type]
        if frames == 2 and attack.during:
            attack.during(given)
        if frames == attack.stop:
            raise KeyboardInterrupt

    sys.argv[1:] = argv
    with mock.patch.object(detect.Tally, "add", counted):
        try:
            detect.main()
        except UserError as error:
            return frames, str(error)
        except Exception as error:  # noqa: BLE001  a traceback is what is looked for
            return frames, f"{TRACEBACK} {type(error).__name__}: {error}"
    return frames, ""


def _differing(out: Path) -> str:
    """How the table, the labels and the JSON file differ, and which video does not play."""
    rows = list(csv.reader((out / "predictions.csv").open(encoding="utf-8", newline="")))[1:]
    lines = [line.split() for path in (out / "labels").rglob("*.txt") for line in path.read_text().splitlines()]
    entries = json.loads((out / "predictions.json").read_text())
    if not len(rows) == len(lines) == len(entries) > 0:
        return f"{len(rows)} rows, {len(lines)} labels, {len(entries)} entries"
    if not all(0 <= float(value) <= 1 for line in lines for value in line[1:5]):
        return "a box outside of the image"
    tracks = Counter((row[0], row[3], row[4]) for row in rows if len(row) > 3 and row[4])
    if tracks and max(tracks.values()) > 1:
        return f"a track twice in a frame: {tracks.most_common(1)}"
    numbered = sum(line[5] != "-1" for line in lines) if TRACK else 0
    if not tracks.total() == numbered == sum("track_id" in entry for entry in entries):
        return "tracks differ between the files"
    bad = [path.name for path in out.rglob("*.mp4") if not sum(1 for _ in VideoReader(path).frames())]
    return f"{bad} do not play" if bad else ""
