import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.images.video import FALLBACK_FPS, VideoError, VideoReader, VideoWriter, frame_count, sane_fps


def grey(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def write(path: Path, frames: list[np.ndarray], fps: float = 25.0) -> Path:
    writer = VideoWriter(path, fps, frames[0].shape[:2])
    for frame in frames:
        writer.write(frame)
    writer.close()
    return path


def brightness(path: Path, stride: int = 1) -> list[tuple[int, int]]:
    reader = VideoReader(path)
    found = [(number, round(float(image.mean()) / 10) * 10) for number, image in reader.frames(stride)]
    reader.close()
    return found


def test_frames_come_back_in_order_with_their_rate(tmp_path):
    path = write(tmp_path / "a.mp4", [grey(v) for v in (10, 60, 110, 160, 210)], fps=12.5)
    reader = VideoReader(path)
    assert (reader.total, reader.fps) == (5, 12.5)
    assert brightness(path) == [(1, 10), (2, 60), (3, 110), (4, 160), (5, 210)]
    assert not list(tmp_path.glob(".*")), "no temporary file stays"


def test_stride_takes_the_first_and_every_kth_frame_after_it(tmp_path):
    path = write(tmp_path / "a.mp4", [grey(v) for v in (10, 60, 110, 160, 210)])
    assert brightness(path, 2) == [(1, 10), (3, 110), (5, 210)]
    reader = VideoReader(path)
    list(reader.frames(2))
    assert (reader.read, reader.skipped) == (5, 0)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (37, 51), (16, 200), (8300, 20)])
def test_odd_tiny_and_huge_sizes_can_be_written(tmp_path, size):
    path = write(tmp_path / "a.mp4", [grey(v, *size) for v in (50, 100)])
    assert frame_count(path) == 2
    _, image = next(VideoReader(path).frames())
    assert abs(float(image.mean()) - 50) < 8, "padding repeats the border"


def test_one_frame_is_a_video(tmp_path):
    assert frame_count(write(tmp_path / "a.mp4", [grey(90)])) == 1


def test_a_frame_of_another_size_is_fitted_and_counts(tmp_path):
    path = write(tmp_path / "a.mp4", [grey(200), grey(200, 96, 32), grey(200, 24, 32)])
    images = [image for _, image in VideoReader(path).frames()]
    assert [image.shape for image in images] == [(48, 64, 3)] * 3
    assert images[1][:, 28:36].mean() > 180 > 130 > images[1][:, :16].mean(), "the tall frame keeps its aspect between grey bars"
    assert images[2].mean() > 180, "the small one of the same aspect fills the picture"


@pytest.mark.parametrize("fps", [23.976, 29.97, 29.8333 / 7, 0.5, 120.0])
def test_the_frame_rate_is_kept(tmp_path, fps):
    assert VideoReader(write(tmp_path / "a.mp4", [grey(9)] * 4, fps)).fps == pytest.approx(fps, rel=2e-3)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), 90000.0])
def test_an_impossible_frame_rate_becomes_30(fps):
    assert sane_fps(fps) == FALLBACK_FPS == 30


@pytest.mark.parametrize("content", [b"", b"no video at all", None])
def test_what_is_no_video_is_refused(tmp_path, content, capfd):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.mp4: (not a video|cannot be read)"):
        VideoReader(path)


def test_a_cut_off_video_yields_what_it_holds_and_counts_the_rest(tmp_path, capfd):
    rng = np.random.default_rng(0)
    whole = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(20):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    reader = VideoReader(cut)
    found = len(list(reader.frames()))
    assert 5 <= found <= 12
    assert reader.total == 20
    assert reader.read + reader.skipped == 20


def test_frames_lost_on_the_way_to_the_disk_are_noticed(tmp_path, monkeypatch):
    writer = VideoWriter(tmp_path / "a.mp4", 25, (48, 64))
    for _ in range(3):
        writer.write(grey(1))
    writer.frames += 1  # as if one write had been swallowed
    with pytest.raises(VideoError, match="only 3 of 4 frames"):
        writer.close()
    assert not list(tmp_path.iterdir())


def test_discard_leaves_nothing(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", 25, (48, 64))
    writer.write(grey(1))
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_an_earlier_video_stays_until_the_new_one_is_whole(tmp_path):
    path = write(tmp_path / "a.mp4", [grey(9)] * 2)
    writer = VideoWriter(path, 25, (48, 64))
    for _ in range(5):
        writer.write(grey(1))
    assert frame_count(path) == 2
    writer.close()
    assert frame_count(path) == 5


def test_a_rotated_video_comes_upright(tmp_path):
    path = write(tmp_path / "a.mp4", [grey(v) for v in (50, 100, 150)])
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 4 + 4 * 5 + 8 + 4 * 2  # version, times, id, duration; reserved, layer, volume: then the matrix
    unit = (1 << 16).to_bytes(4, "big")
    assert data[at : at + 4] == unit, "the identity's first entry"
    turn = b"\0\0\0\0" + unit + b"\0\0\0\0" + (-(1 << 16)).to_bytes(4, "big", signed=True) + b"\0" * 12
    turned = tmp_path / "b.mp4"
    turned.write_bytes(data[:at] + turn + data[at + len(turn) :])
    assert [image.shape for _, image in VideoReader(turned).frames()] == [(64, 48, 3)] * 3


def test_a_name_that_is_no_text_is_refused_before_opencv_crashes_on_it(tmp_path):
    path = tmp_path / "a\udcff.mp4"
    path.write_bytes(b"x")
    with pytest.raises(VideoError, match="not valid UTF-8"):
        VideoReader(path)
    (tmp_path / "b\udcff").mkdir()
    with pytest.raises(VideoError, match="not valid UTF-8"):
        VideoWriter(tmp_path / "b\udcff" / "a.mp4", 25, (48, 64))


def test_folders_that_cannot_be_written_into(tmp_path):
    with pytest.raises(VideoError, match=r"a\.mp4: cannot be written \(No such file or directory\)"):
        VideoWriter(tmp_path / "none" / "a.mp4", 25, (32, 32))


def test_a_pipe_is_no_video(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match=r"a\.mp4: cannot be read \(not a file\)"):
        VideoReader(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("name", "frames", "seconds", "fps"),
    [("browser.webm", 61, 1.98, 30.3), ("camera.ts", 60, 3.9, 30.0)],  # the first states 1000 frames a second
)
def test_a_video_without_an_even_rate_is_read_by_its_time_stamps(shared, name, frames, seconds, fps):
    path = shared.parent / "cases" / "vfr_video" / name
    if not path.is_file():
        pytest.skip(f"no file {path}")
    reader = VideoReader(path)
    stamps = [reader.time for _ in reader.frames()]
    assert (len(stamps), reader.read, reader.skipped) == (frames, frames, 0), "the stated rate times the duration is no number of frames"
    assert stamps[0] == 0
    assert stamps == sorted(stamps)
    assert stamps[-1] == pytest.approx(seconds, abs=0.01)
    assert reader.fps == pytest.approx(fps, abs=0.1)


def test_a_cut_off_video_without_a_count_is_measured_by_its_duration(tmp_path, capfd):
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(tmp_path / "a.mkv"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(40):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    reader = VideoReader(tmp_path / "cut.mkv")
    found = len(list(reader.frames()))
    assert 15 <= found <= 22
    assert reader.read + reader.skipped == pytest.approx(40, abs=1)
