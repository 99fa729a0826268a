"""Broken videos: the others are processed, every frame comes out or is reported, and what is written plays."""

from __future__ import annotations

import logging
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from tests.faults.tally import Tally, bytes_changed, snapshot
from utils.images.video import FALLBACK_FPS, VideoError, VideoWriter, frame_count
from utils.inference.sources import open_source
from utils.log import LOG

FRAMES = 30
SIZE = (48, 64)

Count = tuple[int, int] | str
"""Least and most frames that come out, or what the failure must say."""


def run(folder: Path, *, short: bool) -> Tally:
    """Put each broken video between two good ones, then all into one folder; then let the writing of a video fail."""
    tally = Tally("videos")
    LOG.setLevel(logging.CRITICAL)
    cases = _cases(folder)
    for number, (name, make, expected) in enumerate(cases):  # a number: OpenCV itself crashes on folders that are not UTF-8
        _between_good_ones(folder / f"one-{number}", name, make, expected, tally)
    if not short:
        _all_together(folder / "all", cases, tally)
    _writing(folder / "written", tally)
    return tally


def make_clip(path: Path, code: str, size: tuple[int, int] = SIZE, frames: int = FRAMES) -> bytes:
    """A video of noise that moves, so that every frame takes some bytes."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 25, size[::-1])
    ground = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    for number in range(frames):
        writer.write(np.roll(ground, 2 * number, 1))
    writer.release()
    return path.read_bytes()


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    """The bytes with numbers written over some of them."""
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def zeros(data: bytes, first: float, last: float) -> bytes:
    start, end = int(len(data) * first), int(len(data) * last)
    return data[:start] + bytes(end - start) + data[end:]


def flipped(data: bytes, count: int) -> bytes:
    changed = bytearray(data)
    for at in np.random.default_rng(1).integers(len(data) // 4, len(data) * 3 // 4, count):
        changed[at] ^= 0xFF
    return bytes(changed)


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _cases(folder: Path) -> list[tuple[str, Callable[[Path], object], Count]]:
    mp4, avi, mkv = (make_clip(folder / f"whole.{s}", code) for s, code in (("mp4", "mp4v"), ("avi", "MJPG"), ("mkv", "mp4v")))
    joined = (("ts", "mp4v"), ("mpg", "mpg1"), ("mkv", "MJPG"))
    streams = {s: make_clip(folder / f"a.{s}", code) + make_clip(folder / f"b.{s}", code, (72, 40)) for s, code in joined}
    rate, total = avi.index(b"strh") + 28, avi.index(b"avih") + 24
    scale = mp4.index(b"mdhd") + 16
    no_video = "not a video that can be opened"
    cases: list[tuple[str, bytes, Count]] = [
        ("cut-0.5.mp4", mp4[: len(mp4) // 2], no_video),
        ("cut-0.3.avi", avi[: len(avi) * 3 // 10], (5, 12)),
        ("cut-0.9.avi", avi[: len(avi) * 9 // 10], (20, 29)),
        ("cut-0.5.mkv", mkv[: len(mkv) // 2], (8, 22)),
        ("cut-0.01.mkv", mkv[:60], no_video),
        ("zeros.mp4", zeros(mp4, 0.3, 0.5), (1, 30)),
        ("zeros.avi", zeros(avi, 0.3, 0.5), (15, 30)),
        ("zeros.mkv", zeros(mkv, 0.3, 0.5), (5, 30)),
        ("flips.mp4", flipped(mp4, 40), (1, 30)),
        ("flips.avi", flipped(avi, 40), (15, 30)),
        ("flips.mkv", flipped(mkv, 40), (5, 30)),
        ("rate-0.avi", patched(avi, rate, "<II", 1, 0), (30, 30)),
        ("rate-0-of-0.avi", patched(avi, rate, "<II", 0, 0), (30, 30)),
        ("rate-mad.avi", patched(avi, rate, "<II", 1, 2**31 - 1), (30, 30)),
        ("rate-0.mp4", patched(mp4, scale, ">I", 0), (1, 30)),
        ("total-lies.avi", patched(avi, total, "<I", 10**9), (30, 30)),
        *((f"size-changes.{suffix}", data, (FRAMES, 2 * FRAMES)) for suffix, data in streams.items()),
        ("empty.mp4", b"", no_video),
        ("text.mp4", b"<html>404</html>" * 50, no_video),
        ("playlist.mp4", b"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n", no_video),
        ("wrong-suffix.avi", mp4, (30, 30)),
        ("one-frame.mp4", make_clip(folder / "one.mp4", "mp4v", frames=1), (1, 1)),
    ]
    return [
        *((name, content(data), expected) for name, data, expected in cases),
        ("pipe.mp4", os.mkfifo, "not a file"),
        ("dangling.mp4", lambda path: path.symlink_to("nowhere"), "No such file"),
        ("loop.mp4", lambda path: path.symlink_to(path.name), "symbolic links"),
        ("device.mp4", lambda path: path.symlink_to("/dev/zero"), "not a file"),
        (os.fsdecode(b"not-utf8-\xff.mp4"), content(mp4), "not valid UTF-8"),
    ]


def _between_good_ones(root: Path, name: str, make: Callable[[Path], object], expected: Count, tally: Tally) -> None:
    root.mkdir()
    make_clip(root / "a.mp4", "mp4v")
    make_clip(root / "z.avi", "MJPG")
    make(root / name)
    _process(root, {name: expected}, tally, name)


def _all_together(root: Path, cases: list[tuple[str, Callable[[Path], object], Count]], tally: Tally) -> None:
    root.mkdir()
    make_clip(root / "a.mp4", "mp4v")
    make_clip(root / "z.avi", "MJPG")
    for name, make, _ in cases:
        make(root / name)
    _process(root, {name: expected for name, _, expected in cases}, tally, "all together")


def _process(root: Path, odd: dict[str, Count], tally: Tally, what: str) -> None:
    """Read a folder as detection does, writing each video again, and account for every frame."""
    before = snapshot(root)
    out = root.with_name(f"{root.name}-out")
    out.mkdir()
    source = open_source(str(root))
    came: dict[str, int] = {}
    writers: dict[str, VideoWriter] = {}
    sane = True
    for frame in source:
        name = frame.path.name
        came[name] = came.get(name, 0) + 1
        sane &= frame.fps == FALLBACK_FPS or 0.01 <= frame.fps <= 1000
        if name not in writers:
            writers[name] = VideoWriter(out / f"{len(writers)}.mp4", frame.fps, frame.image.shape[:2])
        writers[name].write(frame.image)
    for writer in writers.values():
        writer.close()
    whole = all(frame_count(writer.path) >= came[name] for name, writer in writers.items())
    clean = sorted(p.name for p in out.iterdir()) == sorted(f"{n}.mp4" for n in range(len(writers)))
    wrong = [name for name, expected in odd.items() if not _accounted(root / name, expected, came, source)]
    good = came.pop("a.mp4", 0) == came.pop("z.avi", 0) == FRAMES
    said = f"frames {came}, failures {source.failures}, notes {source.notes}"
    ok = not wrong and good and sane and whole and clean
    tally.fault(ok, f"{what!a}: wrong {wrong}, others {good}, rates {sane}, output {whole} and {clean}; {said}")
    source.close()
    tally.bytes_changed += bytes_changed(before, root)


def _accounted(path: Path, expected: Count, came: dict[str, int], source: object) -> bool:
    """Whether the frames that came out and those reported as lost are those that went in."""
    failures, notes = source.failures, source.notes  # type: ignore[attr-defined]
    if isinstance(expected, str):
        return path.name not in came and bool(re.search(expected, failures.get(str(path), "")))
    if not expected[0] <= came.get(path.name, 0) <= expected[1] or str(path) in failures:
        return False
    lost = [re.search(r": (\d+) of (\d+) frames could not be decoded", note) for note in notes if note.startswith(f"{path}: ")]
    announced = frame_count(path)
    if lost and lost[0]:
        return came[path.name] + int(lost[0][1]) == int(lost[0][2]) == max(announced, came[path.name])
    return came[path.name] >= announced


def _writing(root: Path, tally: Tally) -> None:
    """Videos that cannot be written whole: an error, no file under the final name, none left over."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    root.mkdir()
    writer = VideoWriter(root / "short.mp4", 25, SIZE)
    for _ in range(4):
        writer.write(frame)
    tally.fault(not (root / "short.mp4").exists(), "a video has its final name before it is whole")
    with mock.patch("utils.images.video.frame_count", return_value=2):
        tally.fault(_refuses(writer.close) and not list(root.iterdir()), f"a video that is short of frames: left {list(root.iterdir())}")
    writer = VideoWriter(root / "given-up.mp4", 25, SIZE)
    writer.write(frame)
    writer.discard()
    tally.fault(not list(root.iterdir()), f"a video given up: left {list(root.iterdir())}")
    tally.fault(_refuses(lambda: VideoWriter(root / "no" / "folder.mp4", 25, SIZE)), "a folder that is not there")
    (root / "old.mp4").write_bytes(b"of an earlier run")
    writer = VideoWriter(root / "old.mp4", 25, SIZE)
    writer.write(frame)
    kept = (root / "old.mp4").read_bytes() == b"of an earlier run"
    writer.close()
    tally.fault(kept and frame_count(root / "old.mp4") == 1, "the earlier video stays until the new one is whole")


def _refuses(action: Callable[[], object]) -> bool:
    try:
        action()
    except VideoError:
        return True
    return False
