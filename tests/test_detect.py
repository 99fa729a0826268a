import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import detect
from models import build_model
from models.weights.load import load_model
from utils.errors import UserError
from utils.images.reading import read_image
from utils.images.video import VideoReader, VideoWriter, frame_count

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, shared):
    """Run detect.py with flags; returns what it printed. The run folder is tmp_path/out/exp."""

    def call(*flags: object) -> str:
        given = [str(flag) for flag in flags]
        if "--weights" not in given:
            given += ["--weights", str(shared / "yolov5n.pt")]
        monkeypatch.setattr(sys, "argv", ["detect.py", "--project", str(tmp_path / "out"), "--imgsz", "320", *given])
        detect.main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def images(shared) -> Path:
    return shared / "coco128" / "images" / "train2017"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out" / "exp"


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def clip(path: Path, source: Path, frames: int = 5, fps: float = 12.5) -> Path:
    image = cv2.resize(read_image(source), (320, 240))
    writer = VideoWriter(path, fps, (240, 320))
    for i in range(frames):
        writer.write(np.roll(image, 2 * i, 1))
    writer.close()
    return path


def test_all_outputs_of_images(run, images, tmp_path, out):
    (tmp_path / "list.txt").write_text(f"{images}/000000000641.jpg\n{images}/000000000009.jpg\n")
    flags = ["--save-txt", "--save-conf", "--save-csv", "--save-json", "--save-crop"]
    text = run("--source", tmp_path / "list.txt", *flags)
    assert "image 1/2 " in text
    assert ": 224x320 " in text
    assert f"Results saved to {out}" in text
    found = tree(out)
    assert {"000000000641.jpg", "000000000009.jpg", "predictions.csv", "predictions.json", "labels/000000000641.txt"} <= found
    assert any(name.startswith("crops/bus/000000000641") for name in found)
    rows = json.loads((out / "predictions.json").read_text())
    assert {row["image_id"] for row in rows} == {641, 9}
    labels = sum(len(path.read_text().splitlines()) for path in (out / "labels").iterdir())
    assert labels == len(rows) == len((out / "predictions.csv").read_text().splitlines()) - 1
    drawn, plain = cv2.imread(str(out / "000000000641.jpg")), read_image(images / "000000000641.jpg")
    assert drawn.shape == plain.shape
    assert (np.abs(drawn.astype(int) - plain) > 60).any(), "boxes are on it"


def test_python_and_script_agree_to_the_bit(run, images, out, shared):
    run("--source", images / "000000000641.jpg", "--save-txt", "--save-conf", "--nosave")
    (result,) = load_model(shared / "yolov5n.pt").predict(images / "000000000641.jpg", imgsz=320)
    assert (out / "labels" / "000000000641.txt").read_text() == result.to_txt(conf=True)
    assert tree(out) == {"labels/000000000641.txt"}, "--nosave"


def test_a_video_has_as_many_frames_as_went_in(run, images, tmp_path, out):
    source = clip(tmp_path / "v.mp4", images / "000000000641.jpg")
    text = run("--source", source, "--save-txt")
    assert "video 1/1 (5/5) " in text
    assert frame_count(out / "v.mp4") == 5
    assert VideoReader(out / "v.mp4").fps == pytest.approx(12.5)
    assert tree(out / "labels") == {f"v_{i}.txt" for i in range(1, 6)}


def test_stride_slows_the_frame_rate(run, images, tmp_path, out):
    run("--source", clip(tmp_path / "v.mp4", images / "000000000641.jpg"), "--vid-stride", 2, "--hide-labels", "--line-thickness", 1)
    assert frame_count(out / "v.mp4") == 3
    assert VideoReader(out / "v.mp4").fps == pytest.approx(6.25)


def test_equal_names_in_two_folders(run, images, tmp_path, out):
    for folder, name in (("p", "000000000641.jpg"), ("q", "000000000009.jpg")):
        (tmp_path / "in" / folder).mkdir(parents=True)
        (tmp_path / "in" / folder / "same.jpg").write_bytes((images / name).read_bytes())
    run("--source", f"{tmp_path}/in/**/*.jpg", "--save-txt")
    assert tree(out) == {"p/same.jpg", "q/same.jpg", "labels/p/same.txt", "labels/q/same.txt"}
    assert (out / "labels/p/same.txt").read_text() != (out / "labels/q/same.txt").read_text()


def test_names_of_a_data_yaml_stand_in_for_none(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text("names: [cat, dog]")
    assert detect.names_from(str(path), {0: "class0", 1: "class1"}) == {0: "cat", 1: "dog"}
    assert detect.names_from(str(path), {0: "a"}) == {0: "a"}
    assert detect.names_from("coco128.yaml", {0: "a"}) == {0: "a"}
    with pytest.raises(UserError, match=r"d\.yaml: 2 class names, but the weights have 1 classes"):
        detect.names_from(str(path), {0: "class0"})
    with pytest.raises(UserError, match=r"no file 'coco129.yaml'; did you mean 'coco128.yaml'"):
        detect.names_from("coco129.yaml", {0: "a"})


def test_what_a_list_misses_is_counted(run, images, tmp_path):
    (tmp_path / "list.txt").write_text(f"{images}/000000000641.jpg\nno1.jpg\nno2.jpg\n")
    assert "2 of 3 sources could not be read:" in run("--source", tmp_path / "list.txt")


def test_broken_files_are_reported_and_the_others_go_on(run, images, tmp_path, out):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"no picture")
    (folder / "b.jpg").write_bytes((images / "000000000641.jpg").read_bytes())
    (folder / "c.mp4").write_bytes(b"no video")
    text = run("--source", folder)
    assert "2 of 3 sources could not be read:" in text
    assert f"{folder}/a.jpg: damaged, or not an image" in text
    assert f"{folder}/c.mp4: not a video" in text
    assert tree(out) == {"b.jpg"}


def test_nothing_readable_is_an_error(run, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="no source could be read"):
        run("--source", tmp_path / "a.jpg")
    assert "a.jpg: damaged, or not an image" in capsys.readouterr().out


def test_a_second_run_gets_a_folder_of_its_own_and_exist_ok_replaces(run, images, out):
    image = images / "000000000641.jpg"
    for _ in range(2):
        run("--source", image, "--save-txt")
    assert (out.parent / "exp2" / "labels" / "000000000641.txt").is_file()
    before = (out / "labels" / "000000000641.txt").read_text()
    run("--source", image, "--save-txt", "--exist-ok")
    assert (out / "labels" / "000000000641.txt").read_text() == before
    run("--source", image, "--save-txt", "--exist-ok", "--classes", 79)
    assert not (out / "labels" / "000000000641.txt").exists(), "nothing of that class, so no rows of the earlier run"


def test_filters_ensemble_and_augmentation(run, images, out, shared):
    weights = shared / "yolov5n.pt"
    image = images / "000000000641.jpg"
    text = run("--source", image, "--classes", 5, "--agnostic-nms", "--max-det", 1, "--augment", "--half", "--weights", weights, weights)
    assert ": 224x320 1 bus, " in text


def test_a_rounded_size_is_said(run, images):
    text = run("--source", images / "000000000641.jpg", "--imgsz", 300, "--nosave")
    assert "rounded up to" in text
    assert ": 224x320 " in text


def test_attention_writes_a_sheet_an_image_and_changes_nothing_else(run, images, tmp_path, out):
    clip(tmp_path / "bus.mp4", images / "000000000641.jpg", frames=2)
    (tmp_path / "list.txt").write_text(f"{images}/000000000641.jpg\n{tmp_path}/bus.mp4\n")
    run("--source", tmp_path / "list.txt", "--save-json", "--nosave", "--attention")
    run("--source", tmp_path / "list.txt", "--save-json", "--nosave")
    assert tree(out) == {"predictions.json", "attention/000000000641.jpg", "attention/bus.jpg"}
    assert (out / "predictions.json").read_bytes() == (out.parent / "exp2" / "predictions.json").read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--conf-thres", "1.5"], "--conf-thres must be in 0..1, got 1.5"),
        (["--iou-thres", "-1"], "--iou-thres"),
        (["--vid-stride", "0"], "--vid-stride must be >= 1, got 0"),
        (["--line-thickness", "0"], "--line-thickness"),
        (["--max-det", "0"], "--max-det"),
        (["--imgsz", "0"], "--imgsz must be height and width"),
        (["--imgsz", "320", "320", "320"], "got 320 320 320"),
        (["--conf-tres", "0.5"], "did you mean '--conf-thres'"),
        (["--source", "gone.jpg"], "no such file"),
        (["--weights", "gone.pt"], "gone.pt"),
        (["--classes", "80"], "no class 80"),
        (["--device", "gpu"], "--device"),
        (["--plugins", "gone.py"], "gone.py"),
        (["--attention", "-1"], "--attention must be >= 1, got -1"),
        (["--attention", "--weights", "a.pt", "b.pt"], "--attention explains one model"),
    ],
)
def test_wrong_flags(run, images, tmp_path, flags, message):
    with pytest.raises(UserError) as caught:
        run("--source", images / "000000000641.jpg", *flags)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists(), "no run folder before the flags are right"


def test_models_of_an_ensemble_have_the_same_classes(run, images, shared, monkeypatch):
    monkeypatch.setattr("models.load_model", lambda path, device: build_model("yolov5n", nc=len(Path(path).stem)).eval())
    with pytest.raises(UserError, match="an ensemble needs models of the same classes"):
        run("--source", images / "000000000641.jpg", "--weights", "a.pt", "bb.pt")


def test_view_img_without_a_display(run, images, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match="no display"):
        run("--source", images / "000000000641.jpg", "--view-img")


def test_interrupted_files_leave_no_half_video_and_live_ones_are_kept(run, images, tmp_path, out, monkeypatch):
    source = clip(tmp_path / "v.mp4", images / "000000000641.jpg")
    count = 0

    def interrupt(*_: object) -> None:
        nonlocal count
        count += 1
        if count % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(detect.Tally, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("--source", source)
    assert tree(out) == set()
    monkeypatch.setattr("utils.inference.sources.Files.live", True)
    with pytest.raises(UserError):  # the tally is a dummy here and counts nothing
        run("--source", source)
    assert frame_count(out.parent / "exp2" / "v.mp4") == 2


def test_faults_from_a_shell(tmp_path):
    done = subprocess.run([sys.executable, "detect.py", "--source", "gone.jpg"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --source gone.jpg: no such file")


@pytest.mark.slow
def test_the_whole_clip(run, shared, out):
    run("--source", shared / "bottles.mp4")
    assert frame_count(out / "bottles.mp4") == frame_count(shared / "bottles.mp4") == 1189
    assert VideoReader(out / "bottles.mp4").fps == pytest.approx(29.8333, abs=1e-3)


def test_tiles_find_more_in_a_large_image(run, images, tmp_path, out):
    one = cv2.resize(read_image(images / "000000000641.jpg"), (320, 320))
    cv2.imwrite(str(tmp_path / "large.jpg"), np.tile(one, (3, 3, 1)))
    found = []
    for name, flags in (("exp", []), ("exp2", ["--tile", 320, "--overlap", 0])):
        run("--source", tmp_path / "large.jpg", "--save-txt", "--nosave", *flags)
        labels = tmp_path / "out" / name / "labels" / "large.txt"
        found.append(len(labels.read_text().splitlines()) if labels.is_file() else 0)
    assert found[1] > found[0]
    with pytest.raises(UserError, match="tile must be >= 32"):
        run("--source", tmp_path / "large.jpg", "--tile", 8)
