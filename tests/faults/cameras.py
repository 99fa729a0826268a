"""A server on the loopback interface whose cameras misbehave, each in its own way."""

from __future__ import annotations

import http.server
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar

import cv2
import numpy as np

BITS = 16
HEIGHT, WIDTH = 48, 16 * BITS


def frame(number: int, scale: int = 1) -> bytes:
    """A JPEG that shows its number: a bright bar for each bit that is set."""
    bars = [255 if number >> bit & 1 else 0 for bit in range(BITS)]
    image = np.repeat(np.array(bars, np.uint8), WIDTH // BITS * scale)[None].repeat(HEIGHT * scale, 0)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()


def number_of(image: np.ndarray) -> int:
    """Read the number of a frame off its bars."""
    bars = np.array_split(image[image.shape[0] // 2].mean(-1), BITS)
    return sum((float(np.median(bar)) > 127) << bit for bit, bar in enumerate(bars))


def part(data: bytes, length: int | None = None) -> bytes:
    """A part of a motion JPEG."""
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data) if length is None else length, data)


class Camera(http.server.BaseHTTPRequestHandler):
    """Serves ``/<behaviour>``; `visits` counts the connections of each."""

    visits: ClassVar[Counter[str]] = Counter()
    closing: ClassVar[threading.Event] = threading.Event()
    flaps: ClassVar[int] = 20

    def do_GET(self) -> None:
        """Behave as the path says."""
        name = self.path[1:].partition("?")[0]
        self.visits[name] += 1
        behave: Callable[[], None] = getattr(self, f"do_{name.partition('-')[0]}")
        with suppress(OSError):  # the other side went away
            behave()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _begin(self, kind: str = "multipart/x-mixed-replace; boundary=frame") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def _send(self, frames: Iterator[bytes], pause: float = 0.04) -> None:
        self._begin()
        for data in frames:
            if self.closing.wait(pause):
                return
            self.wfile.write(data)

    def _numbers(self, first: int = 1) -> Iterator[int]:
        yield from range(first, 1 << BITS)

    def do_good(self) -> None:
        """A camera that works."""
        self._send(part(frame(n)) for n in self._numbers())

    def do_flapping(self) -> None:
        """Drops after eight frames, `flaps` times; then it works."""
        last = 9 if self.visits["flapping"] <= self.flaps else 1 << BITS
        self._send((part(frame(n)) for n in range(1, last)), 0.01)

    def do_dying(self) -> None:
        """Works for half a second, and never again."""
        if self.visits["dying"] > 1:
            self.send_error(503)
            return
        self._send(part(frame(n)) for n in range(1, 13))

    def do_missing(self) -> None:
        self.send_error(404)

    def do_failing(self) -> None:
        self.send_error(500)

    def do_silent(self) -> None:
        """Accepts and says nothing."""
        self.closing.wait(60)

    def do_dripping(self) -> None:
        """A header that never ends, in small pieces."""
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not self.closing.wait(0.02):
            self.wfile.write(b"X-More: and more\r\n")

    def do_slow(self) -> None:
        """Three frames a second."""
        self._send((part(frame(n)) for n in self._numbers()), 0.3)

    def do_stalling(self) -> None:
        """Stops sending after some frames, and holds the line."""
        self._send(part(frame(n)) for n in range(1, 8))
        self.closing.wait(60)

    def do_resetting(self) -> None:
        """Breaks the connection off hard."""
        self._send(part(frame(n)) for n in range(1, 9))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def do_garbage(self) -> None:
        noise = np.random.default_rng(0).bytes(3000)
        self._send(part(noise) for _ in self._numbers())

    def do_halves(self) -> None:
        """Every other frame is cut off."""
        self._send(part(frame(n)[: None if n % 2 else 200]) for n in self._numbers())

    def do_sizes(self) -> None:
        """The size changes every five frames."""
        self._send(part(frame(n, 1 + n // 5 % 2)) for n in self._numbers())

    def do_negative(self) -> None:
        self._send(part(frame(n), -5) for n in self._numbers())

    def do_lying(self) -> None:
        """A frame, then one that is said to have two gigabytes."""
        self._send(iter([part(frame(1)), part(b"", 2_000_000_000)]))
        while not self.closing.wait(0.001):
            self.wfile.write(bytes(4096))

    def do_endless(self) -> None:
        """A frame, then one of unknown length that does not end."""
        self._send(iter([part(frame(1)), b"--frame\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8"]))
        while not self.closing.wait(0.001):
            self.wfile.write(b"z" * 4096)

    def do_empty(self) -> None:
        """Parts without content."""
        self._send(part(b"") for _ in self._numbers())

    def do_leading(self) -> None:
        """Leads to a file of this machine."""
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd")
        self.end_headers()

    def do_circling(self) -> None:
        """Leads to itself."""
        self.send_response(302)
        self.send_header("Location", self.path)
        self.end_headers()

    def do_page(self) -> None:
        self._begin("text/html")
        self.wfile.write(b"<html>Please log in</html>" * 500)

    def do_closing(self) -> None:
        """Closes at once."""


@contextmanager
def cameras() -> Iterator[str]:
    """Serve them; the address without the behaviour."""
    Camera.visits.clear()
    Camera.closing.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        Camera.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
        time.sleep(0.05)
