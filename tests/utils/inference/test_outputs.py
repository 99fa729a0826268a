import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.errors import UserError
from utils.images.video import VideoReader, frame_count
from utils.inference.frame import Frame
from utils.inference.outputs import OutputOptions, Outputs, folder_name
from utils.inference.results import Results

IMAGE = np.full((40, 60, 3), 90, np.uint8)
ALL = OutputOptions(txt=True, csv=True, json=True, crops=True, conf=True)
BOX = (10, 10, 20, 20, 0.5, 0)


def frame(key="a", path="a.jpg", number=0, fps=0.0, time=0.0, image=IMAGE) -> Frame:
    position = (number - 1) / fps if fps and not time else 0.0
    return Frame(image, Path(path), key, "title", number=number, fps=fps, time=time, position=position)


def results(*rows, names=None) -> Results:
    found = np.array(rows, np.float32).reshape(-1, 6)
    return Results(IMAGE, Path("a.jpg"), names or {0: "cat"}, found[:, :4], found[:, 4], found[:, 5].astype(np.int64))


def cells(folder: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO((folder / "predictions.csv").read_text(), newline="")))


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_all_files_of_an_image(tmp_path):
    with Outputs(tmp_path, ALL) as outputs:
        outputs.add(frame(), results(BOX, (30, 10, 40, 20, 0.4, 0)), IMAGE)
    assert tree(tmp_path) == ["a.jpg", "crops/cat/a.2.jpg", "crops/cat/a.jpg", "labels/a.txt", "predictions.csv", "predictions.json"]
    assert (tmp_path / "labels/a.txt").read_text() == "0 0.25 0.375 0.166667 0.25 0.5\n0 0.583333 0.375 0.166667 0.25 0.4\n"
    rows = cells(tmp_path)
    assert rows == [["Image Name", "Prediction", "Confidence"], ["a.jpg", "cat", "0.50"], ["a.jpg", "cat", "0.40"]]
    found = json.loads((tmp_path / "predictions.json").read_text())
    assert found[0] == {"image_id": "a", "category_id": 0, "bbox": [10.0, 10.0, 10.0, 10.0], "score": 0.5, "file_name": "a.jpg"}
    assert outputs.labels == 1


def test_coco_reads_the_json(tmp_path, capsys):
    from pycocotools.coco import COCO

    with Outputs(tmp_path, OutputOptions(json=True, images=False)) as outputs:
        outputs.add(frame(key="12"), results(BOX), None)
    truth = COCO()
    truth.dataset = {"images": [{"id": 12}], "annotations": [], "categories": [{"id": 0}]}
    truth.createIndex()
    assert truth.loadRes(str(tmp_path / "predictions.json")).anns[1]["area"] == 100


def test_no_detection_means_no_label_file_and_an_old_one_goes(tmp_path):
    with Outputs(tmp_path, OutputOptions(txt=True)) as outputs:
        outputs.add(frame(), results(BOX), IMAGE)
    assert (tmp_path / "labels/a.txt").exists()
    with Outputs(tmp_path, OutputOptions(txt=True)) as outputs:
        outputs.add(frame(), results(), IMAGE)
        outputs.add(frame("b"), results(BOX), IMAGE)
    assert tree(tmp_path / "labels") == ["b.txt"]


def test_a_second_run_into_the_folder_replaces_and_never_appends(tmp_path):
    for _ in range(2):
        with Outputs(tmp_path, ALL) as outputs:
            outputs.add(frame(), results(BOX), IMAGE)
    assert len((tmp_path / "labels/a.txt").read_text().splitlines()) == 1
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 2
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 1
    assert tree(tmp_path / "crops") == ["cat/a.jpg"]


def test_video_frames(tmp_path):
    with Outputs(tmp_path, OutputOptions(txt=True)) as outputs:
        for number in (1, 3, 5):
            outputs.add(frame("sub/v", "v.avi", number // 2 + 1, fps=7.5), results(BOX), IMAGE)
        outputs.add(frame("w", "w.avi", 1, fps=10.0), results(), IMAGE)
        assert frame_count(tmp_path / "sub/v.mp4") == 3, "the first video is whole when the second begins"
    assert tree(tmp_path) == ["labels/sub/v_1.txt", "labels/sub/v_2.txt", "labels/sub/v_3.txt", "sub/v.mp4", "w.mp4"]
    assert VideoReader(tmp_path / "sub/v.mp4").fps == 7.5


def test_live_videos_grow_side_by_side_and_keep_the_clock(tmp_path):
    with Outputs(tmp_path, OutputOptions()) as outputs:
        for i in range(3):
            outputs.add(frame("cam", "cam", i + 1, fps=10.0, time=100 + i * 0.5), results(), IMAGE)
            outputs.add(frame("fast", "fast", i + 1, fps=10.0, time=100 + i * 0.1), results(), IMAGE)
    assert frame_count(tmp_path / "cam.mp4") == 11, "one second at 10 frames a second, and the last frame"
    assert frame_count(tmp_path / "fast.mp4") == 3


def test_the_frames_of_a_file_are_shown_for_as_long_as_in_the_source(tmp_path):
    positions = [5.0, 5.1, 5.2, 5.7, 5.71, 5.72, 5.73, 5.74, 5.8]
    with Outputs(tmp_path, OutputOptions()) as outputs:
        for number, position in enumerate(positions, 1):
            image = np.full((48, 64, 3), 20 * number, np.uint8)
            outputs.add(Frame(image, Path("v.ts"), "v", "title", number=number, fps=10.0, position=position), results(), image)
    shown = [round(float(image.mean()) / 20) for _, image in VideoReader(tmp_path / "v.mp4").frames()]
    assert shown[:8] == [1, 2, 3, 3, 3, 3, 3, 4], "0.5 seconds without a frame are five times the frame before"
    assert len(shown) == 10, "four frames within 0.04 seconds do not make the video longer by as many"


def test_a_long_silence_is_cut_short(tmp_path):
    with Outputs(tmp_path, OutputOptions()) as outputs:
        outputs.add(frame("cam", "cam", 1, fps=5.0, time=100), results(), IMAGE)
        outputs.add(frame("cam", "cam", 2, fps=5.0, time=9999), results(), IMAGE)
    assert frame_count(tmp_path / "cam.mp4") == 10 * 5 + 1


def test_an_error_leaves_no_half_video(tmp_path):
    outputs = Outputs(tmp_path, OutputOptions())
    outputs.add(frame("v", "v.avi", 1, fps=10.0), results(), IMAGE)
    (part,) = tree(tmp_path)
    assert part.startswith(".")
    outputs.__exit__(ZeroDivisionError, None, None)
    assert tree(tmp_path) == []


def test_a_video_that_cannot_take_its_name_leaves_the_others_whole(tmp_path):
    (tmp_path / "v.mp4").mkdir()
    outputs = Outputs(tmp_path, OutputOptions(json=True))
    for name in ("u", "v", "w"):
        outputs.add(frame(name, name, 1, fps=10.0, time=100), results(), IMAGE)
    with pytest.raises(UserError, match="cannot be written"):
        outputs.close()
    assert tree(tmp_path) == ["predictions.json", "u.mp4", "w.mp4"]
    assert json.loads((tmp_path / "predictions.json").read_text()) == []


def test_a_frame_in_many_minutes_is_a_video_too(tmp_path):
    with Outputs(tmp_path, OutputOptions()) as outputs:
        for number, position in ((1, 0.0), (2, 144.0)):
            outputs.add(Frame(IMAGE, Path("v"), "v", "v", number=number, fps=1 / 144, position=position), results(), IMAGE)
    assert frame_count(tmp_path / "v.mp4") == 2


def test_a_format_that_cannot_be_written_becomes_jpg(tmp_path):
    with Outputs(tmp_path, OutputOptions()) as outputs:
        outputs.add(frame("a", "a.dng"), results(), IMAGE)
        outputs.add(frame("b", "b.PNG"), results(), IMAGE)
    assert tree(tmp_path) == ["a.jpg", "b.PNG"]
    assert np.array_equal(cv2.imread(str(tmp_path / "b.PNG")), IMAGE)


def test_cells_are_no_formulas(tmp_path):
    with Outputs(tmp_path, OutputOptions(csv=True)) as outputs:
        for name in ('=HYPERLINK("x")', "+1", "-1", "@a", "\tx", 'say "hi", you'):
            outputs.add(frame("=a", "=a.jpg"), results(BOX, names={0: name}), None)
    rows = cells(tmp_path)[1:]
    assert [row[1] for row in rows] == ['\'=HYPERLINK("x")', "'+1", "'-1", "'@a", "'\\tx", 'say "hi", you']
    assert {row[0] for row in rows} == {"'=a.jpg"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cat"),
        ("traffic light", "traffic light"),
        ("Öl-Kanne_2", "Öl-Kanne_2"),
        ("../../etc", "_.._etc_7"),
        ("..", "class7"),
        ("", "class7"),
        ("a/b", "a_b_7"),
        ("a\\b", "a_b_7"),
        ("a\0b", "a_b_7"),
        ("x" * 300, "x" * 80 + "_7"),
    ],
)
def test_class_names_cannot_leave_the_crops_folder(name, expected):
    assert folder_name(name, 7) == expected


def test_a_full_or_locked_disk_is_one_message(tmp_path):
    (tmp_path / "labels").write_text("a file in the way")
    with pytest.raises(UserError, match="cannot be written"), Outputs(tmp_path, OutputOptions(txt=True)) as outputs:
        outputs.add(frame(), results(BOX), IMAGE)
