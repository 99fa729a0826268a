"""Live sources: cameras and network streams, each with a life of its own.

A thread a stream reads as fast as the stream sends and keeps the newest frame only. A stream that breaks off is opened
again, after pauses that grow; the others never notice. No frame is handed out twice.
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
from utils.log import LOG


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long, in seconds, a stream is waited for."""

    first_pause: float = 0.5
    """before a broken stream is opened again; doubled with each failure"""
    longest_pause: float = 30.0
    timeout: float = 10.0
    """for opening a stream and for each frame"""
    give_up: float = 60.0
    """without a frame of any stream, before the iteration ends"""


PATIENCE = Patience()

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}


def check_address(text: str) -> str:
    """Return a webcam number or stream address as it is.

    Raises:
        UserError: neither.
    """
    scheme = text.partition("://")[0].lower()
    if not text.isdecimal() and ("://" not in text or scheme not in SCHEMES):
        shown = without_secrets(text) if "://" in text else text
        raise UserError(f"{shown}: neither a webcam number nor an address of {', '.join(s + '://' for s in SCHEMES)}")
    if text.isdecimal() and len(text) > 3:  # OpenCV takes thousands for other kinds of sources, and cannot hold millions
        raise UserError(f"{text}: there is no webcam of that number; the first is 0")
    if re.search(r"://([^/]*\.)?(youtube\.com|youtu\.be)(/|$)", text.lower()):
        raise UserError(f"{text}: YouTube pages are not read; save the video to a file and give its path")
    if not text.isprintable():  # OpenCV crashes on what is not text
        raise UserError(f"{without_secrets(text)!a}: an address has no control characters and no broken UTF-8")
    return text


def answers(address: str, timeout: float) -> bool:
    """Whether the host of an address takes a connection within `timeout` seconds; True where that is not for us to find out.

    OpenCV opens one stream at a time in a process, so waiting for a host that is gone is not left to it.
    """
    try:
        parts = urlsplit(address)
        place = parts.hostname, parts.port or _PORTS[parts.scheme.lower()]
    except ValueError:
        return True  # FFmpeg has its own opinion of what is an address
    if place[0] is None or os.environ.get("http_proxy"):
        return True
    try:
        socket.create_connection(place, timeout).close()
    except (OSError, UnicodeError):
        return False
    return True


class Stream:
    """One live source. `frame` is the newest one not taken yet; `changed` is notified when it or `state` changes."""

    def __init__(self, address: str, changed: threading.Condition, *, stride: int, patience: Patience) -> None:
        """Start to read `address` in a thread."""
        self.name = f"webcam {address}" if address.isdecimal() else without_secrets(address)
        self.frame: tuple[int, float, NDArray[np.uint8]] | None = None
        self.state = "new"  # then "live" and "lost" in turn, and "over" at the end
        self.fps = 0.0
        self.breaks = 0
        self._address, self._changed, self._stride, self._patience = address, changed, stride, patience
        self._number = 0
        self._finite = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = self._patience.first_pause
        while not self._stop.is_set():
            capture = self._connect()
            if capture is not None:
                try:
                    got = self._read(capture)
                finally:
                    capture.release()
                if self._finite and got:
                    break
                pause = self._patience.first_pause if got else pause
            self._become("lost")
            self._stop.wait(pause)
            pause = min(pause * 2, self._patience.longest_pause)
        self._become("over")

    def _connect(self) -> cv2.VideoCapture | None:
        if self._address.isdecimal():
            capture = cv2.VideoCapture(int(self._address))
        elif not answers(self._address, self._patience.timeout):
            return None
        else:
            limit = int(self._patience.timeout * 1000)
            options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
            capture = cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            capture.release()
            return None
        self.fps = sane_fps(capture.get(cv2.CAP_PROP_FPS))
        self._finite = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
        return capture

    def _read(self, capture: cv2.VideoCapture) -> int:
        """Read until the stream breaks off or ends; returns the number of frames."""
        got = 0
        while not self._stop.is_set() and capture.grab():
            got += 1
            if (got - 1) % self._stride:
                continue
            try:
                ok, image = capture.retrieve()
            except cv2.error:  # a frame whose header promises more than memory holds
                continue
            if ok and image is not None and image.size:
                self._offer(image.astype(np.uint8, copy=False))
        return got

    def _offer(self, image: NDArray[np.uint8]) -> None:
        """Put the newest frame in place of one that nobody took; a stream with an end (a video file) waits instead."""
        with self._changed:
            while self._finite and self.frame is not None and not self._stop.is_set():
                self._changed.wait(0.5)
            self._number += 1
            self.frame = (self._number, time.time(), image)
        self._become("live")

    def take(self) -> tuple[int, float, NDArray[np.uint8]] | None:
        """Hand the newest frame out: (number, time, image), or None when there is no new one. `changed` must be held."""
        frame, self.frame = self.frame, None
        if frame is not None:
            self._changed.notify_all()
        return frame

    def _become(self, state: str) -> None:
        with self._changed:
            before, self.state = self.state, state
            self._changed.notify_all()
        if self._stop.is_set() or before == state:
            return
        if state == "lost":
            self.breaks += 1
            LOG.warning("%s: %s; trying again", self.name, "cannot be opened" if before == "new" else "broke off")
        elif before == "lost":
            LOG.warning("%s: is back", self.name)

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread, no longer than a read may take; being a daemon, it cannot hold the program."""
        self._thread.join(self._patience.timeout + 1)


class Streams:
    """Several live sources, read independently; iteration takes the newest frame of each in turn."""

    live = True

    def __init__(self, addresses: Sequence[str], *, stride: int = 1, patience: Patience = PATIENCE) -> None:
        """Open every address, and wait until one sends or all have failed.

        Raises:
            UserError: none can be opened.
        """
        self.notes: list[str] = []
        self._patience = patience
        self._changed = threading.Condition()
        self._stride = stride
        self._streams = [Stream(a, self._changed, stride=stride, patience=patience) for a in dict.fromkeys(addresses)]
        self.keys = _stream_keys([stream.name for stream in self._streams])
        with self._changed:
            self._changed.wait_for(self._decided)
            states = [stream.state for stream in self._streams]
        if not any(state in ("live", "over") for state in states):
            self.close()
            raise UserError("--source: cannot be opened: " + ", ".join(stream.name for stream in self._streams))

    def _decided(self) -> bool:
        states = [stream.state for stream in self._streams]
        return "live" in states or "new" not in states

    @property
    def failures(self) -> dict[str, str]:
        """The streams that are dead now."""
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
        """Wait for a new frame of any stream, asking stream `turn` first; None when all are over or silent for too long."""
        count = len(self._streams)
        end = time.monotonic() + self._patience.give_up
        with self._changed:
            while True:
                for index in ((turn + i) % count for i in range(count)):
                    frame = self._streams[index].take()
                    if frame is not None:
                        return index, frame
                left = end - time.monotonic()
                if left <= 0 or all(stream.state == "over" for stream in self._streams):
                    return None
                self._changed.wait(min(left, 0.5))  # short, so that Ctrl-C is noticed on every system

    def close(self) -> None:
        """End the threads; what broke off on the way is said in `notes`."""
        for stream in self._streams:
            stream.stop()
        with self._changed:
            self._changed.notify_all()
        for stream in self._streams:
            stream.join()
        self.notes = [f"{stream.name}: broke off or could not be opened {stream.breaks} times" for stream in self._streams if stream.breaks]


def _stream_keys(names: Sequence[str]) -> list[str]:
    """A file name for each stream, of its own even where two names differ in special characters only."""
    keys: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", name).strip("_.")[-100:] or "stream"
        count, key = 1, stem
        while key.casefold() in (k.casefold() for k in keys):
            count += 1
            key = f"{stem}-{count}"
        keys.append(key)
    return keys
