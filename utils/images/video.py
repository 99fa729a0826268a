"""Video files: read every frame that can be decoded, and write playable files."""

from __future__ import annotations

import contextlib
import functools
import math
import os
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
        fps: frames per second; 30 where the file does not state it.
        total: number of frames the file states; 0 where it does not.
        read: frames decoded, or skipped by the stride, so far.
        skipped: frames that could not be decoded; complete once the iteration has ended.
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
        self.fps = sane_fps(self._capture.get(cv2.CAP_PROP_FPS))
        total = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(total) if 0 < total < 2**31 else 0
        self.read = self.skipped = 0

    def frames(self, stride: int = 1) -> Iterator[tuple[int, Image]]:
        """Yield (number from 1, (H, W, 3) BGR image) of every `stride`-th frame; the size may change between frames."""
        number = 0
        while self._capture.grab():
            number += 1
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
        self.skipped += max(self.total - number, 0)

    def close(self) -> None:
        """Release the decoder."""
        self._capture.release()


class VideoWriter:
    """Writes a playable .mp4: H.264 where this OpenCV can encode it, MPEG-4 otherwise.

    The file has a temporary name in the same folder until it is complete.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """Start a video.

        Args:
            path: the file to write; its suffix is .mp4.
            fps: frames per second.
            size: (height, width) in pixels; a side is padded to an even number of at least 16.

        Raises:
            VideoError: the file cannot be written.
        """
        shrink = min(1.0, MAX_SIDE / max(size))
        self.path, self._part = path, path.with_name(f".{path.stem}.part.mp4")
        self.size = (max(round(size[0] * shrink), 1), max(round(size[1] * shrink), 1))
        self._padded = tuple(max(side + side % 2, MIN_SIDE) for side in self.size)
        self.frames = 0
        try:
            codes = ("avc1", "mp4v") if h264_works(path.parent) else ("mp4v",)
        except OSError as error:
            raise VideoError(f"{path}: cannot be written ({error.strerror or error})") from error
        for code in codes:
            fourcc = cv2.VideoWriter.fourcc(*code)
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
        self._part.replace(self.path)

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
