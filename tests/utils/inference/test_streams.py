"""Streams from a server on the loopback interface; every wait is bounded."""

import http.server
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar

import cv2
import numpy as np
import pytest

from utils.errors import UserError
from utils.inference.sources import open_source
from utils.inference.streams import Streams, Timeouts, _stream_keys, check_url, is_reachable

QUICK = Timeouts(min_pause=0.05, max_pause=0.1, timeout=1.0, give_up=1.5)


class Camera(http.server.BaseHTTPRequestHandler):
    """``/live`` sends motion JPEG, ``/flap`` drops after 3 frames, ``/once`` serves one connection only; a frame's grey is its number."""

    served: ClassVar[Counter[str]] = Counter()
    frames: ClassVar[Counter[str]] = Counter()
    closing: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self.served[self.path] += 1
        if self.path not in ("/live", "/flap", "/once") or (self.path == "/once" and self.served["/once"] > 1):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        sent = 0
        while not self.closing.is_set() and (self.path == "/live" or sent < 3):
            self.frames[self.path] += 1
            sent += 1
            _, data = cv2.imencode(".jpg", np.full((48, 64, 3), self.frames[self.path] % 200, np.uint8))
            try:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data.tobytes()))
            except OSError:
                return
            time.sleep(0.02)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Camera.served.clear()
    Camera.frames.clear()
    Camera.closing.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Camera.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


def take(source: Streams, enough: Callable[[Counter[str]], bool] = lambda _: False) -> list[tuple[str, int, int]]:
    """(key, number, grey) of the frames until there are `enough` of each key, or none come any more."""
    found: list[tuple[str, int, int]] = []
    hangs = time.monotonic() + 60
    for frame in source:
        found.append((frame.key, frame.number, round(float(frame.image.mean()))))
        if enough(Counter(key for key, _, _ in found)):
            break
        assert time.monotonic() < hangs, "never enough"
    return found


def test_the_newest_frame_and_none_twice(site, capfd):
    start, numbers = time.time(), []
    source = Streams([f"{site}/live"], timeouts=QUICK)
    for frame in source:
        assert start <= frame.time <= time.time()
        numbers.append(frame.number)
        if len(numbers) == 6:
            break
        while source._streams[0]._number < frame.number + 3:  # a network slower than the camera
            time.sleep(0.01)
    source.close()
    assert all(b - a >= 3 for a, b in itertools.pairwise(numbers)), "frames in between were passed over, so it does not lag"
    assert not any(t.name.startswith("http://127") and t.is_alive() for t in threading.enumerate())


def test_a_flapping_and_a_dead_stream_do_not_stop_the_third(site, capfd):
    source = Streams([f"{site}/flap", f"{site}/live", f"{site}/gone"], timeouts=QUICK)
    flap, live, gone = source.keys

    def enough(count: Counter[str]) -> bool:
        """More of the flapping one than one connection's worth: it was opened again."""
        return count[live] > 20 and count[flap] > 3 and Camera.served["/flap"] > 2 and f"{site}/gone" in source.failures

    found = take(source, enough)
    source.close()
    assert gone not in {key for key, _, _ in found}
    assert any("gone: broke off or could not be opened" in note for note in source.notes)
    assert len({(key, number) for key, number, _ in found}) == len(found)


def test_it_ends_when_nothing_comes_any_more(site, capfd):
    source = Streams([f"{site}/once"], timeouts=QUICK)
    found = take(source)
    assert 1 <= len(found) <= 3
    assert source.failures == {f"{site}/once": "no connection"}
    source.close()


def test_no_stream_at_all_is_an_error(site, capfd):
    with pytest.raises(UserError, match=r"cannot be opened: .*/gone"):
        Streams([f"{site}/gone"], timeouts=QUICK)


def test_a_streams_file_and_the_stride(site, tmp_path, capfd):
    (tmp_path / "cams.streams").write_text(f"# two\n{site}/live\n\n{site}/flap\n")
    source = open_source(str(tmp_path / "cams.streams"), vid_stride=3)
    assert isinstance(source, Streams)
    assert len(source) == 2
    found = take(source, lambda count: any(key.endswith("live") and frames > 3 for key, frames in count.items()))
    greys = [grey for key, _, grey in found if key.endswith("live")]
    source.close()
    assert all((b - a) % 3 == 0 for a, b in itertools.pairwise(greys)), "only every third frame is decoded"


def test_a_missing_webcam_is_an_error(capfd):
    with pytest.raises(UserError, match="webcam 97"):
        open_source("97")


@pytest.mark.parametrize(
    "url", ["cam", "9" * 20, "file:///etc/passwd", "ftp://me:secret@x/y", "concat:a|b", "-1", "http://x/\udcff", "http://x/\x1b[2J"]
)
def test_invalid_urls(url):
    with pytest.raises(UserError) as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


def test_keys_are_file_names_without_secrets():
    names = ["webcam 0", "rtsp://10.0.0.5:554/live", "rtsp://10.0.0.5:554_live", "http://x/../.."]
    assert _stream_keys(names) == ["webcam_0", "rtsp_10.0.0.5_554_live", "rtsp_10.0.0.5_554_live-2", "http_x"]


def test_a_host_is_asked_before_it_is_waited_for(site, monkeypatch):
    monkeypatch.delenv("http_proxy", raising=False)
    assert is_reachable(f"{site}/live", 1.0)
    with socket.socket() as taken:  # a port that nobody listens on
        taken.bind(("127.0.0.1", 0))
        refused = f"127.0.0.1:{taken.getsockname()[1]}"
        for scheme in ("http", "rtsp", "rtmp"):
            assert not is_reachable(f"{scheme}://me:secret@{refused}/x", 1.0)
        assert is_reachable("http://[broken/x", 1.0), "FFmpeg has the last word"
        assert not is_reachable("http://" + "a" * 300 + "/x", 1.0)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
        assert is_reachable(f"http://{refused}/x", 1.0), "not for us to find out"


def test_a_frame_that_memory_cannot_hold_is_passed_over(site, monkeypatch, capfd):
    count = itertools.count()
    capture = cv2.VideoCapture

    class Failing:
        def __init__(self, *arguments):
            self._inner = capture(*arguments)

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def retrieve(self):
            if next(count) % 2:
                raise cv2.error("out of memory")
            return self._inner.retrieve()

    monkeypatch.setattr(cv2, "VideoCapture", Failing)
    source = Streams([f"{site}/live"], timeouts=QUICK)
    assert len(take(source, lambda count: count.total() == 4)) == 4
    assert not source.failures
    source.close()
