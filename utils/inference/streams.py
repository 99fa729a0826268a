"""Live sources: cameras and network streams, each read independently.

A thread per stream reads as fast as the stream sends and keeps only the newest frame. A stream that breaks off is reopened after
growing pauses, without affecting the others. No frame is yielded twice.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files.download import without_secrets
from utils.images.video import sane_fps
from utils.inference.frame import SCHEMES, Frame
from utils.inference.stream_check import OPTIONS, follow
from utils.log import LOG


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait for a stream, in seconds."""

    min_pause: float = 0.5
    """before a broken stream is reopened; doubled with each failure"""
    max_pause: float = 30.0
    timeout: float = 10.0
    """of opening a stream and of each frame"""
    give_up: float = 60.0
    """without a frame from any stream until the iteration ends"""


TIMEOUTS = Timeouts()

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}


def check_url(text: str) -> str:
    """Return a valid webcam number or stream URL unchanged.

    Raises:
        UserError: it is neither.
    """
    scheme = text.partition("://")[0].lower()
    if not text.isdecimal() and ("://" not in text or scheme not in SCHEMES):
        shown = without_secrets(text) if "://" in text else text
        raise UserError(f"{shown}: neither a webcam number nor a URL of {', '.join(s + '://' for s in SCHEMES)}")
    if text.isdecimal() and len(text) > 3:  # to OpenCV thousands mean other kinds of sources, and millions overflow
        raise UserError(f"{text}: no such webcam; numbers start at 0")
    if re.search(r"://([^/]*\.)?(youtube\.com|youtu\.be)(/|$)", text.lower()):
        raise UserError(f"{text}: YouTube pages are not supported; save the video to a file and give its path")
    if not text.isprintable():  # OpenCV crashes on other text
        raise UserError(f"{without_secrets(text)!a}: a URL must not contain control characters or invalid UTF-8")
    return text


def is_reachable(url: str, timeout: float) -> bool:
    """Whether the host of a URL accepts a connection within `timeout` seconds; True where this cannot be checked.

    OpenCV opens one stream at a time in a process, so an unreachable host would block the other streams.
    """
    try:
        parts = urlsplit(url)
        place = parts.hostname, parts.port or _PORTS[parts.scheme.lower()]
    except ValueError:
        return True  # FFmpeg accepts other URLs
    if place[0] is None or os.environ.get("http_proxy"):
        return True
    try:
        socket.create_connection(place, timeout).close()
    except (OSError, UnicodeError):
        return False
    return True


class Stream:
    """One live source. `frame` is the newest one that was not taken yet; `changed` is notified when it or `state` changes."""

    def __init__(self, url: str, changed: threading.Condition, *, stride: int, timeouts: Timeouts) -> None:
        """Start reading `url` in a thread."""
        self.name = f"webcam {url}" if url.isdecimal() else without_secrets(url)
        self.frame: tuple[int, float, NDArray[np.uint8]] | None = None
        self.state = "new"  # then "live" and "lost" in turn, and "over" at the end
        self.fps = 0.0
        self.breaks = 0
        self._url, self._changed, self._stride, self._timeouts = url, changed, stride, timeouts
        self._number = 0
        self._finite = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = self._timeouts.min_pause
        while not self._stop.is_set():
            capture = self._connect()
            if capture is not None:
                try:
                    got = self._read(capture)
                finally:
                    capture.release()
                if self._finite and got:
                    break
                pause = self._timeouts.min_pause if got else pause
            self._set_state("lost")
            self._stop.wait(pause)
            pause = min(pause * 2, self._timeouts.max_pause)
        self._set_state("over")

    def _connect(self) -> cv2.VideoCapture | None:
        if self._url.isdecimal():
            capture = cv2.VideoCapture(int(self._url))
        elif not is_reachable(self._url, self._timeouts.timeout):
            return None
        else:
            try:
                url = follow(self._url, self._timeouts.timeout)
            except UserError as error:
                LOG.warning("%s", error)
                self._stop.set()
                return None
            os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", OPTIONS)
            limit = int(self._timeouts.timeout * 1000)
            options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
            capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            capture.release()
            return None
        self.fps = sane_fps(capture.get(cv2.CAP_PROP_FPS))
        self._finite = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
        return capture

    def _read(self, capture: cv2.VideoCapture) -> int:
        """Read until the stream breaks off or ends; return the number of frames."""
        got = 0
        while not self._stop.is_set() and capture.grab():
            got += 1
            if (got - 1) % self._stride:
                continue
            try:
                ok, image = capture.retrieve()
            except cv2.error:  # a frame whose header announces more than memory holds
                continue
            if ok and image is not None and image.size:
                self._offer(image.astype(np.uint8, copy=False))
        return got

    def _offer(self, image: NDArray[np.uint8]) -> None:
        """Replace a frame that was not taken by the newest; a finite stream (a video file) waits instead."""
        with self._changed:
            while self._finite and self.frame is not None and not self._stop.is_set():
                self._changed.wait(0.5)
            self._number += 1
            self.frame = (self._number, time.time(), image)
        self._set_state("live")

    def take(self) -> tuple[int, float, NDArray[np.uint8]] | None:
        """Return the newest frame (number, time, image), or None when there is no new one. `changed` must be held."""
        frame, self.frame = self.frame, None
        if frame is not None:
            self._changed.notify_all()
        return frame

    def _set_state(self, state: str) -> None:
        with self._changed:
            before, self.state = self.state, state
            self._changed.notify_all()
        if self._stop.is_set() or before == state:
            return
        if state == "lost":
            self.breaks += 1
            LOG.warning("%s: %s; retrying", self.name, "cannot be opened" if before == "new" else "broke off")
        elif before == "lost":
            LOG.warning("%s: reconnected", self.name)

    def stop(self) -> None:
        """Ask the thread to stop."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread, at most as long as a read may take; being a daemon, it cannot block the exit."""
        self._thread.join(self._timeouts.timeout + 1)


class Streams:
    """Several live sources, read independently; iteration yields the newest frame of each in turn."""

    live = True

    def __init__(self, urls: Sequence[str], *, stride: int = 1, timeouts: Timeouts = TIMEOUTS) -> None:
        """Open every URL, and wait until one sends frames or all have failed.

        Raises:
            UserError: none can be opened.
        """
        self.notes: list[str] = []
        self._timeouts = timeouts
        self._changed = threading.Condition()
        self._stride = stride
        self._streams = [Stream(url, self._changed, stride=stride, timeouts=timeouts) for url in dict.fromkeys(urls)]
        self.keys = _stream_keys([stream.name for stream in self._streams])
        with self._changed:
            self._changed.wait_for(lambda: "live" in self._states() or "new" not in self._states())
            states = self._states()
        if not {"live", "over"} & states:
            self.close()
            raise UserError("--source: cannot be opened: " + ", ".join(stream.name for stream in self._streams))

    def _states(self) -> set[str]:
        return {stream.state for stream in self._streams}

    @property
    def failures(self) -> dict[str, str]:
        """The streams that are disconnected now."""
        return {stream.name: "no connection" for stream in self._streams if stream.state == "lost"}

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Frame]:
        turn = 0
        while (found := self._next(turn)) is not None:
            turn, (number, taken, image) = found
            stream, key = self._streams[turn], self.keys[turn]
            fps = stream.fps / self._stride
            yield Frame(image, Path(stream.name), key, f"{turn}: {stream.name}", number=number, fps=fps, time=taken)
            turn += 1

    def _next(self, turn: int) -> tuple[int, tuple[int, float, NDArray[np.uint8]]] | None:
        """Wait for a new frame of any stream, starting with stream `turn`; None when all have ended or sent nothing for too long."""
        count = len(self._streams)
        end = time.monotonic() + self._timeouts.give_up
        with self._changed:
            while True:
                for index in ((turn + i) % count for i in range(count)):
                    frame = self._streams[index].take()
                    if frame is not None:
                        return index, frame
                left = end - time.monotonic()
                if left <= 0 or self._states() == {"over"}:
                    return None
                self._changed.wait(min(left, 0.5))  # short, so that Ctrl-C works on every system

    def close(self) -> None:
        """Stop the threads; `notes` then tells which streams were interrupted."""
        for stream in self._streams:
            stream.stop()
        with self._changed:
            self._changed.notify_all()
        for stream in self._streams:
            stream.join()
        self.notes = [f"{stream.name}: broke off or could not be opened {stream.breaks} times" for stream in self._streams if stream.breaks]


def _stream_keys(names: Sequence[str]) -> list[str]:
    """A unique file name for each stream, even where two names differ in special characters only."""
    keys: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", name).strip("_.")[-100:] or "stream"
        count, key = 1, stem
        while key.casefold() in (k.casefold() for k in keys):
            count += 1
            key = f"{stem}-{count}"
        keys.append(key)
    return keys
