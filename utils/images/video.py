"""Video files: read every frame that can be decoded, and write playable files."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files.safe_open import open_regular
from utils.images import letterbox

Image = NDArray[np.uint8]
FALLBACK_FPS = 30.0
MIN_FPS, MAX_FPS = 0.01, 1000.0
COMMON_FPS = 120.0
"""Above it, a header may state the unit of its time stamps in place of a rate, as browsers' recordings do: the frames decide."""
MAX_GAP = 60.0
"""Seconds that a time stamp may lie after the one before; beyond it, it is taken to be damaged."""
_EVEN = 0.9
"""Share of even intervals above which a gap in a video without a count of its frames is taken for lost frames."""
_PEEKED, _HEAD_BYTES = 32, 64 << 10
MIN_SIDE, MAX_SIDE = 16, 8190  # what the MPEG-4 encoder takes


class VideoError(UserError):
    """A video that cannot be read or written."""


def sane_fps(fps: float) -> float:
    """Return the frame rate, or 30 where a file or camera states an invalid one."""
    return fps if math.isfinite(fps) and MIN_FPS <= fps <= MAX_FPS else FALLBACK_FPS


def _opencv_path(path: Path) -> str:
    """Return the path for OpenCV: absolute, since FFmpeg takes ``a:b.mp4`` for a protocol, and valid UTF-8."""
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError as error:  # OpenCV would crash on it
        raise VideoError(f"{path}: the name is not valid UTF-8; rename the file or folder") from error
    return text


class VideoReader:
    """The frames of a video file, upright.

    Attributes:
        fps: frames per second; 30 where the file does not state it. Frames need not be evenly spaced: see `time`.
        total: number of frames, an estimate where the container has no count; 0 where the duration is unknown too.
        counted: whether the container has a count: otherwise lost frames and pauses of a recording look alike.
        time: seconds from the start of the video to the frame read last; never decreases.
        read: frames decoded, or skipped by the stride, so far.
        skipped: frames that could not be decoded; complete once the iteration has ended. Without a count, 0 where the rate varies.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            VideoError: missing, empty, or not a video.
        """
        try:
            open_regular(path).close()  # FFmpeg would block on a pipe
        except OSError as error:
            raise VideoError(f"{path}: cannot be read ({error.strerror})") from error
        self._capture = cv2.VideoCapture(_opencv_path(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise VideoError(f"{path}: not a video that can be opened (truncated, empty, or an unknown format)")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        stated, total = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        rate = _measured_fps(path) if stated > COMMON_FPS else stated
        self.fps = sane_fps(rate)
        self._stamped = self.fps == rate
        self.total = int(total) if 0 < total < 2**31 else 0
        self.counted = _has_count(path)
        if not self.counted and stated > 0:  # OpenCV has multiplied the duration by the stated rate
            self.total = round(self.total / stated * self.fps)
        self.time, self._even = 0.0, 0
        self.read = self.skipped = 0

    def frames(self, stride: int = 1) -> Iterator[tuple[int, Image]]:
        """Yield (number from 1, (H, W, 3) BGR image) of every `stride`-th frame; the size may change between frames."""
        number = 0
        while self._capture.grab():
            number += 1
            self._advance(first=number == 1)
            if (number - 1) % stride:
                self.read += 1
                continue
            try:
                ok, image = self._capture.retrieve()
            except cv2.error:  # a frame whose header states more than memory can hold
                ok, image = False, None
            if not ok or image is None or not image.size:
                self.skipped += 1
                continue
            self.read += 1
            yield number, image.astype(np.uint8, copy=False)
        if self.counted or self._even >= _EVEN * (number - 1):
            self.skipped += max(self.total - number, 0)

    def _advance(self, *, first: bool) -> None:
        """Read the time stamp of the frame just grabbed; one that is invalid is replaced by the next of an even rate."""
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._stamped and self.time < stamp <= self.time + MAX_GAP:
            self._even += abs((stamp - self.time) * self.fps - 1) < 0.1
            self.time = stamp
        elif not first:
            self._even += 1
            self.time += 1 / self.fps

    def close(self) -> None:
        """Release the decoder."""
        self._capture.release()


def _measured_fps(path: Path) -> float:
    """The frame rate by the time stamps of the first frames; 0 where they tell nothing."""
    capture = cv2.VideoCapture(_opencv_path(path), cv2.CAP_FFMPEG)
    stamps = [capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 for _ in range(_PEEKED) if capture.grab()]
    capture.release()
    intervals = [interval for interval in np.diff(stamps).tolist() if interval > 0]
    return 1 / float(np.median(intervals)) if intervals else 0.0


def _has_count(path: Path) -> bool:
    """Whether a video's container counts its frames: AVI does, and MP4 where it is not in fragments."""
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    return head[:4] == b"RIFF" or (head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free") and b"mvex" not in head)


class VideoWriter:
    """Writes a playable .mp4: H.264 where this OpenCV can encode it, MPEG-4 otherwise. A .webm is VP8, which every browser plays.

    The file has a temporary name in the same folder until it is complete.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """Start a video.

        Args:
            path: the file to write; its suffix is .mp4 or .webm.
            fps: frames per second.
            size: (height, width) in pixels; a side is padded to an even number of at least 16.

        Raises:
            VideoError: the file cannot be written.
        """
        shrink = min(1.0, MAX_SIDE / max(size))
        self.path, self._part = path, path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")  # of a name of any length
        self.size = (max(round(size[0] * shrink), 1), max(round(size[1] * shrink), 1))
        self._padded = tuple(max(side + side % 2, MIN_SIDE) for side in self.size)
        self.frames = 0
        try:
            codes = ("VP80",) if path.suffix == ".webm" else ("avc1", "mp4v") if h264_works(path.parent) else ("mp4v",)
        except OSError as error:
            raise VideoError(f"{path}: cannot be written ({error.strerror or error})") from error
        for code in codes:
            fourcc = cv2.VideoWriter.fourcc(*code)
            with _silenced():  # FFmpeg has other names for some codecs, and says so
                self._writer = cv2.VideoWriter(_opencv_path(self._part), cv2.CAP_FFMPEG, fourcc, fps, self._padded[::-1])
            if self._writer.isOpened():
                return
        raise VideoError(f"{path}: the video cannot be written; check that the folder is writable and the disk not full")

    def write(self, image: Image) -> None:
        """Append a (H, W, 3) uint8 BGR frame; one of another size is letterboxed."""
        if image.shape[:2] != self.size:
            image = letterbox.apply(image, letterbox.fit(image.shape[:2], self.size))
        bottom, right = self._padded[0] - self.size[0], self._padded[1] - self.size[1]
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
        self._writer.write(image)
        self.frames += 1

    def close(self) -> None:
        """Finish the file, check that it has every frame, and rename it.

        Raises:
            VideoError: frames are missing, as on a full disk; the file is removed.
        """
        self._writer.release()
        written = frame_count(self._part)
        if written < self.frames:  # one more is possible: Ctrl-C between a frame and its count
            self.discard()
            raise VideoError(f"{self.path}: only {written} of {self.frames} frames could be written (is the disk full?)")
        try:
            self._part.replace(self.path)
        except OSError:  # a folder has its name
            self._part.unlink()
            raise

    def discard(self) -> None:
        """Remove the file."""
        self._writer.release()
        self._part.unlink(missing_ok=True)


def frame_count(path: Path) -> int:
    """Return the number of frames that a video's header states; 0 for other files."""
    capture = cv2.VideoCapture(_opencv_path(path), cv2.CAP_FFMPEG)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    return max(count, 0)


@functools.cache
def h264_works(folder: Path) -> bool:
    """Whether this build of OpenCV can encode H.264; tried once, on a small temporary file in `folder`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".probe") as place, _silenced():
        path = Path(place, "probe.mp4")
        writer = cv2.VideoWriter(_opencv_path(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"avc1"), 25.0, (64, 64))
        for _ in range(4 if writer.isOpened() else 0):
            writer.write(np.zeros((64, 64, 3), np.uint8))
        writer.release()
        return frame_count(path) == 4


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Silence the encoder's messages, which C code writes to stderr."""
    keep, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(keep, 2)
        os.close(keep)
        os.close(null)
