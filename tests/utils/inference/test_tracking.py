"""Tracks: objects on known paths keep their numbers, in what detect.py writes too."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import detect
from models import load_model
from utils.errors import UserError
from utils.images.video import VideoReader, VideoWriter
from utils.inference.frame import Frame
from utils.inference.predictor import Predictor
from utils.inference.results import Results
from utils.inference.sources import open_source
from utils.inference.tracking import Tracks

IMAGE = np.zeros((240, 320, 3), np.uint8)


def frame(number: int, key: str = "v") -> Frame:
    return Frame(IMAGE, Path(f"{key}.mp4"), key, key, number=number, fps=25.0, position=(number - 1) / 25)


def results(*rows: tuple[float, ...]) -> Results:
    """Rows of centre x, centre y, side, confidence and class."""
    found = np.array(rows, np.float32).reshape(-1, 5)
    xyxy = np.column_stack((found[:, :2] - found[:, 2:3] / 2, found[:, :2] + found[:, 2:3] / 2))
    return Results(IMAGE, Path("v.mp4"), {0: "cat", 1: "dog"}, xyxy, found[:, 3], found[:, 4].astype(np.int64))


def followed(tracks: Tracks, steps: list[list[tuple[float, ...]]]) -> list[list[int]]:
    return [tracks.add(frame(i), results(*rows)).ids.tolist() for i, rows in enumerate(steps, 1)]


@pytest.fixture
def tracks() -> Tracks:
    pytest.importorskip("trackers", exc_type=ImportError)
    return Tracks(0.5)


def test_objects_on_crossing_paths_keep_their_numbers(tracks: Tracks) -> None:
    steps = [[(20 + 6 * t, 60, 40, 0.9, 0), (300 - 6 * t, 90, 40, 0.8, 0)] for t in range(45)]
    assert followed(tracks, steps) == [[-1, -1]] + [[1, 2]] * 44
    assert tracks.found == {"v": [0, 0]}


def test_an_object_that_is_away_for_some_frames_comes_back_as_itself(tracks: Tracks) -> None:
    seen = [[(20 + 6 * t, 60, 40, 0.9, 0)] for t in range(30)]
    assert followed(tracks, [*seen[:15], *[[]] * 5, *seen[20:]])[1:] == [[1]] * 14 + [[]] * 5 + [[1]] * 10


def test_after_a_second_it_is_another(tracks: Tracks) -> None:
    still = [[(50, 60, 40, 0.9, 0)]]
    assert followed(tracks, [*still * 5, *[[]] * 27, *still * 3])[-3:] == [[-1], [2], [2]]


def test_a_faint_box_continues_a_track_and_begins_none(tracks: Tracks) -> None:
    both = [(50, 60, 40, 0.9, 0)]
    faint = [(50, 60, 40, 0.2, 0), (250, 60, 40, 0.2, 0)]
    assert followed(tracks, [both, both, faint, faint, both]) == [[-1], [1], [1], [1], [1]]


def test_classes_and_videos_have_tracks_of_their_own(tracks: Tracks) -> None:
    rows = [(50, 60, 40, 0.9, 0), (52, 60, 44, 0.8, 1)]
    assert followed(tracks, [rows] * 3)[2] == [1, 2]
    for number in (1, 2):
        other = tracks.add(frame(number, "w"), results(*rows[1:]))
    assert other.ids.tolist() == [1]
    assert tracks.found == {"v": [0, 1], "w": [1]}


def test_numbers_are_written_and_drawn() -> None:
    found = results((50, 60, 40, 0.9, 0), (250, 60, 40, 0.8, 1))
    tracked = dataclasses.replace(found, ids=np.array([7, -1]))
    assert tracked.to_txt(conf=True) == "0 0.15625 0.25 0.125 0.166667 0.9 7\n1 0.78125 0.25 0.125 0.166667 0.8 -1\n"
    assert [entry.get("track_id") for entry in tracked.to_coco()] == [7, None]
    assert not np.array_equal(tracked.plot(), found.plot())


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(UserError, match="pip install trackers"):
        Tracks(0.25)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path) -> Callable[..., None]:
    def call(*flags: object) -> None:
        given = ["--weights", shared / "yolov5n.pt", "--project", tmp_path / "out", "--imgsz", 320, "--track", *flags]
        monkeypatch.setattr(sys, "argv", ["detect.py", *map(str, given)])
        detect.main()

    return call


def test_separate_images_are_refused(run: Callable[..., None], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE)
    with pytest.raises(UserError, match=r"--track: .*a\.png is a single image"):
        run("--source", tmp_path)
    assert not (tmp_path / "out").exists()


def bottle_clip(path: Path, shared: Path) -> list[dict[str, float]]:
    """Two bottles pass each other; one is away for four frames, both are for two. Returns the left edges in each frame."""
    still: NDArray[Any] = next(image for _, image in VideoReader(shared / "bottles.mp4").frames())
    bottle, ground = still[100:325, 50:130], np.tile(still[100:325, 130:131], (1, 320, 1))
    writer, paths = VideoWriter(path, 25.0, (450, 320)), []
    for t in range(32):
        lefts = {} if t in (12, 13) else {"upper": 10 + 6 * t} | ({} if 18 <= t < 22 else {"lower": 230 - 6 * t})
        canvas = np.vstack((ground, ground))
        for name, left in lefts.items():
            top = 0 if name == "upper" else 225
            canvas[top : top + 225, left : left + 80] = bottle
        writer.write(canvas)
        paths.append(lefts)
    writer.close()
    return paths


def test_a_clip_with_known_paths(run: Callable[..., None], tmp_path: Path, shared: Path) -> None:
    pytest.importorskip("trackers", exc_type=ImportError)
    paths = bottle_clip(tmp_path / "clip.mp4", shared)
    run("--source", tmp_path / "clip.mp4", "--classes", 39, "--save-txt", "--save-csv", "--save-json")
    out = tmp_path / "out" / "exp"
    assert sum(1 for _ in VideoReader(out / "clip.mp4").frames()) == len(paths)
    numbers: dict[str, set[int]] = {"upper": set(), "lower": set()}
    written = 0
    for number, lefts in enumerate(paths, 1):
        label = out / "labels" / f"clip_{number}.txt"
        rows = [line.split() for line in label.read_text().splitlines()] if label.exists() else []
        assert len(rows) == len(lefts)
        for _, x, y, *_, track in rows:
            name = "upper" if float(y) < 0.5 else "lower"
            assert abs(float(x) * 320 - lefts[name] - 40) < 15
            if number > 1:
                numbers[name].add(int(track))
        written += len(rows)
    assert sorted(map(tuple, numbers.values())) == [(1,), (2,)]
    table = list(csv.reader((out / "predictions.csv").read_text().splitlines()))
    assert table[0] == ["Image Name", "Prediction", "Confidence", "Frame", "Track"]
    assert len(table) - 1 == written == len(json.loads((out / "predictions.json").read_text()))
    assert [row[3:] for row in table[1:3]] == [["1", ""], ["1", ""]]


@pytest.mark.slow
def test_bottles_that_stand_still_keep_their_numbers_while_others_are_taken(tracks: Tracks, shared: Path) -> None:
    predictor = Predictor(model=load_model(shared / "yolov5n.pt"), imgsz=(320, 320), conf=0.1, classes=[39])
    numbers: dict[int, set[int]] = {315: set(), 541: set()}  # by the centre, in pixels
    for one in itertools.islice(open_source(str(shared / "bottles.mp4")), 1, 400):
        found = tracks.add(one, predictor(one.image, one.path))
        centres = found.xyxy[:, [0, 2]].mean(1)
        for centre, known in numbers.items():
            known.update(found.ids[np.abs(centres - centre) < 20].tolist())
    assert [len(known - {-1}) for known in numbers.values()] == [1, 1]
