import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError
from utils.images.video import VideoWriter
from utils.inference.sources import Files, find_media, open_source, output_keys


def picture(path: Path, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((20, 30, 3), value, np.uint8))
    return path


def clip(path: Path, frames: int = 4, fps: float = 10) -> Path:
    writer = VideoWriter(path, fps, (32, 32))
    for i in range(frames):
        writer.write(np.full((32, 32, 3), 40 * i, np.uint8))
    writer.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", ".hidden.jpg", "sub/c.jpg"):
        picture(tmp_path / name)
    clip(tmp_path / "aa.mp4")
    (tmp_path / "notes.md").write_text("x")
    return tmp_path


def names(source) -> list[str]:
    return [frame.path.name for frame in source]


def test_folder_is_sorted_images_first_and_not_recursive(folder):
    assert [p.name for p in find_media(str(folder))] == ["a.png", "b.jpg", "aa.mp4"]


def test_frames_say_where_they_come_from(folder):
    source = open_source(str(folder), vid_stride=2)
    frames = list(source)
    assert [(f.path.name, f.key, f.number, f.fps) for f in frames] == [
        ("a.png", "a", 0, 0.0),
        ("b.jpg", "b", 0, 0.0),
        ("aa.mp4", "aa", 1, 5.0),
        ("aa.mp4", "aa", 3, 5.0),
    ]
    assert frames[1].title == f"image 2/3 {folder}/b.jpg"
    assert frames[3].title == f"video 3/3 (3/4) {folder}/aa.mp4"
    assert frames[0].image.shape == (20, 30, 3)
    assert not source.failures
    assert not source.live


def test_a_number_of_frames_that_is_estimated_is_called_so_and_never_passed(tmp_path, shared):
    path = shared.parent / "cases" / "vfr_video" / "browser.webm"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    titles = [frame.title for frame in open_source(str(path))]
    assert titles[0] == f"video 1/1 (1/~60) {path}"
    assert titles[-1] == f"video 1/1 (61/~61) {path}"


def test_globs(folder):
    assert [p.name for p in find_media(f"{folder}/*.jpg")] == ["b.jpg"]
    assert [p.name for p in find_media(f"{folder}/**/*.jpg")] == ["b.jpg", "c.jpg"]
    assert [p.name for p in find_media(f"{folder}/[ab].*")] == ["a.png", "b.jpg"]
    with pytest.raises(UserError, match=r"no image or video matches"):
        find_media(f"{folder}/*.tif")


def test_a_name_with_brackets_that_exists_is_no_pattern(tmp_path):
    path = picture(tmp_path / "x[1]*.png")
    assert find_media(str(path)) == [path]


def test_list_takes_files_folders_and_globs_also_beside_itself(folder, monkeypatch):
    monkeypatch.chdir(folder / "sub")
    lines = ["\ufeff# my pictures", "", f"{folder}/b.jpg", "sub", f"{folder}/*.png", "gone.jpg", f"{folder}/b.jpg"]
    (folder / "list.txt").write_text("\r\n".join(lines), encoding="utf-8")
    source = open_source(str(folder / "list.txt"))
    assert names(source) == ["b.jpg", "c.jpg", "a.png"]
    assert source.failures == {"gone.jpg": "no such file or folder"}


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"gone.jpg\n", b"\xff\xfe\x00broken"])
def test_list_of_nothing(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"list\.txt: "):
        open_source(str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--source is empty"),
        ("bb.jpg", "no such file or folder; did you mean 'b.jpg'?"),
        ("nowhere/b.jpg", "there is no folder"),
        ("notes.md", "not an image or video by its suffix"),
        ("list.txt", "no such file or folder"),
        ("empty", "no image or video in this folder"),
        ("deep", "use 'deep/**/*.jpg'"),
        ("file:///etc/passwd", "file:// is not supported"),
        ("ftp://x/y.jpg", "ftp:// is not supported"),
        ("https://www.youtube.com/watch?v=1", "YouTube"),
        ("x" * 5000, "--source xxx"),
        ("~nobody-here/a.jpg", "--source ~nobody"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(folder, monkeypatch, text, message):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "deep" / "er").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        open_source(text)
    assert message in str(caught.value)


def test_unreadable_files_are_named_and_the_others_go_on(folder):
    (folder / "aaa.jpg").write_bytes(b"not a picture")
    (folder / "ab.mp4").write_bytes(b"not a video")
    (folder / "b0.jpg").write_bytes(b"")
    source = open_source(str(folder))
    assert names(source) == ["a.png", "b.jpg", *["aa.mp4"] * 4]
    assert [Path(p).name for p in source.failures] == ["aaa.jpg", "b0.jpg", "ab.mp4"]
    assert not any(reason.startswith("/") for reason in source.failures.values()), "the reason does not repeat the path"


def test_a_file_that_vanishes_is_a_failure(folder):
    source = open_source(str(folder))
    (folder / "b.jpg").unlink()
    assert names(source)[:2] == ["a.png", "aa.mp4"]
    assert list(source.failures) == [str(folder / "b.jpg")]


@pytest.mark.parametrize(
    ("files", "keys"),
    [
        (["p/a.jpg", "p/b.jpg"], ["a", "b"]),
        (["p/a.jpg", "q/b.jpg"], ["a", "b"]),
        (["p/a.jpg", "q/a.jpg", "q/r/b.jpg"], ["p/a", "q/a", "q/r/b"]),
        (["p/a.jpg", "p/q/a.jpg"], ["a", "q/a"]),
        (["p/a.jpg", "p/a.png", "p/A.bmp"], ["a", "a_png", "A_bmp"]),
        (["p/a.jpg", "p/a.png", "p/a_png.jpg"], ["a", "a_png", "a_png_jpg"]),
        (["p/clip_3.jpg", "p/clip_x.jpg", "p/clip.mp4"], ["clip_3_jpg", "clip_x", "clip"]),
        (["p/crops/a.jpg", "p/q/a.jpg"], ["images/crops/a", "images/q/a"]),
        (["p/a.b.jpg", "p/a.c.jpg"], ["a.b", "a.c"]),
    ],
)
def test_every_file_has_an_output_name_of_its_own(files, keys):
    assert output_keys([Path(f) for f in files]) == keys


def test_a_video_with_too_few_frames_is_noted(tmp_path, capfd):
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(10):
        writer.write(np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = Files([path])
    read = len(list(source))
    assert not source.failures
    assert source.notes == [f"{path}: {10 - read} of 10 frames could not be decoded and were skipped"]


def test_size_changing_in_mid_stream_is_passed_on(tmp_path):
    # A raw MJPEG stream in an .avi written by hand would need an index; two animated GIF frames differ in size only on a canvas.
    # So: concatenated MPEG transport streams of two sizes, as a broadcast switches format.
    parts = []
    for i, size in enumerate(((64, 48), (96, 80))):
        part = tmp_path / f"{i}.ts"
        writer = cv2.VideoWriter(str(part), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 10, size)
        for _ in range(6):
            writer.write(np.full((size[1], size[0], 3), 120, np.uint8))
        writer.release()
        parts.append(part.read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    shapes = [frame.image.shape[:2] for frame in open_source(str(tmp_path / "both.ts"))]
    assert shapes[0] == (48, 64)
    assert len(shapes) >= 10


def test_an_animated_gif_is_played(tmp_path):
    frames = [Image.new("L", (32, 24), value) for value in (20, 120, 220)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=200)
    found = list(open_source(str(tmp_path / "a.gif")))
    assert [(frame.number, round(float(frame.image.mean()), -1), frame.fps) for frame in found] == [(1, 20, 5), (2, 120, 5), (3, 220, 5)]


@pytest.mark.parametrize("name", ["list.txt", "cams.streams", "a.jpg", "a.mp4"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    picture(tmp_path / "b.jpg")
    if name.startswith("a"):
        source = open_source(str(tmp_path))
        assert names(source) == ["b.jpg"]
        assert source.failures == {str(tmp_path / name): "cannot be read (not a file)"}
    else:
        with pytest.raises(UserError, match="not a file"):
            open_source(str(tmp_path / name))
