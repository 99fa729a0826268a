"""Drawn data: the same bytes for a seed, boxes that are those of the visible pixels, a clip that plays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from utils.config import ROOT
from utils.data import shape_drawing as scenes
from utils.data import shapes
from utils.data.shape_drawing import CLASSES, Shape
from utils.errors import UserError


def shape(kind: str, x: float = 50, y: float = 40, radius: float = 20, angle: float = 0.0) -> Shape:
    return Shape(kind=CLASSES.index(kind), x=x, y=y, radius=radius, angle=angle, squeeze=1, colour=(0, 0, 255), fill="plain")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        shapes.write_dataset(tmp_path / name, {"train": 2, "val": 1}, size=64, seed=seed)
        shapes.write_clip(tmp_path / name / "clip.mp4", frames=3, seed=seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a["images/train/00000.jpg"] != c["images/train/00000.jpg"]
    assert a["images/train/00000.jpg"] != a["images/val/00000.jpg"]


def test_an_image_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    shapes.write_dataset(tmp_path / "few", {"val": 1}, size=64)
    shapes.write_dataset(tmp_path / "more", {"train": 2, "val": 2}, size=64)
    assert contents(tmp_path / "few")["images/val/00000.jpg"] == contents(tmp_path / "more")["images/val/00000.jpg"]


@pytest.mark.parametrize("kind", CLASSES)
def test_box_is_tight_around_a_shape_drawn_on_plain_ground(kind: str) -> None:
    image = np.full((80, 100, 3), 255, np.uint8)
    drawn = shape(kind, angle=0.4)
    own = scenes.paint(image, drawn)
    _, x1, y1, x2, y2 = scenes.boxes_of([drawn], scenes.owner_map([drawn], 80, 100))[0].astype(int)
    red = (image[..., 2] > image[..., 0].astype(int) + 90) & (image[..., 2] > image[..., 1].astype(int) + 90)  # the shadow is grey
    ys, xs = np.nonzero(red)
    assert np.abs(np.array((x1, y1, x2, y2)) - (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).max() <= 1
    assert np.array_equal(own, scenes.owner_map([drawn], 80, 100) == 0)


def test_boxes_of_known_shapes() -> None:
    disc, square = shape("circle"), shape("square", x=48.5)  # pixel centres are whole numbers, so an edge at 24 - 0.5 is one pixel more
    found = scenes.boxes_of([disc], scenes.owner_map([disc], 80, 100))[0]
    assert found[0] == 0
    assert np.abs(found[1:] - (30, 20, 71, 61)).max() <= 1
    covered = scenes.boxes_of([square, disc], scenes.owner_map([square, disc], 80, 100))
    assert covered[0, 0] == CLASSES.index("square")
    assert np.abs(covered[0, 1:] - (32.5, 24, 65.5, 57)).max() <= 1  # its corners look out from behind the disc


def test_a_box_covers_what_is_visible_only() -> None:
    rear, front = shape("square", x=40, y=40), shape("square", x=56, y=40, radius=30)  # x from 24 to 56 and from 32 to 80
    rear_box, front_box = scenes.boxes_of([rear, front], scenes.owner_map([rear, front], 80, 100))
    assert np.abs(rear_box[1:] - (24, 24, 32, 57)).max() <= 1
    assert np.abs(front_box[1:] - (32, 16, 81, 65)).max() <= 1
    assert not scenes.still_visible([rear, front], 80, 100)
    assert scenes.still_visible([front, rear], 80, 100)


def test_a_shape_mostly_outside_the_frame_is_refused() -> None:
    assert scenes.still_visible([shape("circle", x=0)], 80, 100)  # half of it is left
    assert not scenes.still_visible([shape("circle", x=-10)], 80, 100)


@pytest.mark.parametrize("index", range(6))
def test_every_label_belongs_to_a_visible_shape(index: int) -> None:
    image, drawn = shapes.draw(0, "val", index, 96)
    rows = shapes.label_lines(drawn, 96, 96)
    owners = scenes.owner_map(drawn, 96, 96)
    assert image.shape == (96, 96, 3)
    assert len(rows) == len(drawn)
    for i, (one, row) in enumerate(zip(drawn, rows, strict=True)):
        kind, cx, cy, w, h = (float(value) for value in row.split())
        columns, lines = np.flatnonzero((owners == i).any(0)), np.flatnonzero((owners == i).any(1))
        assert kind == one.kind
        assert np.allclose(((cx - w / 2) * 96, (cx + w / 2) * 96), (columns[0], columns[-1] + 1), atol=1e-3)
        assert np.allclose(((cy - h / 2) * 96, (cy + h / 2) * 96), (lines[0], lines[-1] + 1), atol=1e-3)


def test_variety() -> None:
    drawn = [shapes.draw(0, "train", i, 64)[1] for i in range(150)]
    kinds = [s.kind for shown in drawn for s in shown]
    assert min(kinds.count(k) for k in range(len(CLASSES))) > 0.06 * len(kinds)
    assert 0.03 < sum(not shown for shown in drawn) / 150 < 0.15
    assert sum(s.radius < 0.06 * 64 for shown in drawn for s in shown) > 0.2 * len(kinds)


def test_the_yaml_it_writes_names_the_splits_and_the_shipped_one_agrees(tmp_path: Path) -> None:
    written = yaml.safe_load(shapes.write_dataset(tmp_path, {"train": 1, "val": 1, "test": 1}, size=64).read_text())
    shipped = yaml.safe_load((ROOT / "data" / "shapes.yaml").read_text())
    assert written["names"] == shipped["names"] == dict(enumerate(CLASSES))
    assert {k: written[k] for k in ("train", "val", "test")} == {k: shipped[k] for k in ("train", "val", "test")}


def test_chosen_classes_are_drawn_alone_under_their_own_ids(tmp_path: Path) -> None:
    path = shapes.write_dataset(tmp_path, {"train": 12}, size=64, classes=("ring", "heart"))
    assert yaml.safe_load(path.read_text())["names"] == {0: "ring", 1: "heart"}
    labels = "".join(file.read_text() for file in (tmp_path / "labels" / "train").iterdir())
    assert {line.split()[0] for line in labels.splitlines()} == {"0", "1"}
    drawn = [s.kind for i in range(12) for s in shapes.draw(0, "train", i, 64, (5, 6))[1]]
    assert set(drawn) == {5, 6}
    assert len(drawn) == len(labels.splitlines())
    with pytest.raises(UserError, match=r"hart.*ring, heart"):
        shapes.write_dataset(tmp_path, {"train": 1}, classes=("hart",))


def test_clip_has_its_frames_and_its_shapes_move(tmp_path: Path) -> None:
    shapes.write_clip(tmp_path / "clip.mp4", frames=5)
    video = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    frames = [video.read()[1] for _ in range(5)]
    assert not video.read()[0]
    assert video.get(cv2.CAP_PROP_FPS) == 25
    assert frames[0].shape == (240, 320, 3)
    assert np.abs(frames[0].astype(int) - frames[4]).max() > 60
    with pytest.raises(UserError, match="cannot write"):
        shapes.write_clip(tmp_path / "nowhere" / "clip.mp4", frames=1)


def test_command_line(tmp_path: Path) -> None:
    def call(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "utils.data.shapes", *argv], cwd=ROOT, capture_output=True, text=True, check=False)

    done = call(str(tmp_path / "out"), "--train", "2", "--val", "1", "--test", "0", "--size", "64", "--frames", "2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "clip.mp4").is_file()
    assert "test" not in yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    wrong = call(str(tmp_path / "out"), "--sise", "64")
    assert wrong.returncode == 2
    assert "--size" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert "--train 0" in call(str(tmp_path / "out"), "--train", "0").stderr
    (tmp_path / "file").write_text("")
    assert "cannot be written" in call(str(tmp_path / "file"), "--train", "1").stderr
