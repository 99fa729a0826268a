import http.server
import os
import threading
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from utils.errors import UserError
from utils.files import download as fetch
from utils.files.download import downloaded, file_name, without_secrets
from utils.inference.sources import open_source


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, headers, body = self.answers().get(self.path.partition("?")[0], (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def answers(self) -> dict[str, tuple[int, dict[str, str], bytes]]:
        return {
            "/a.jpg": (200, {}, b"x" * 3000),
            "/short.jpg": (200, {"Content-Length": "100"}, b"x"),
            "/huge.jpg": (200, {"Content-Length": str(10**13)}, b"x"),
            "/moved.jpg": (302, {"Location": "/a.jpg"}, b""),
            "/file.jpg": (302, {"Location": "file:///etc/passwd"}, b""),
            "/loop.jpg": (302, {"Location": "/loop.jpg"}, b""),
        }

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def direct(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ATTUNE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("page", ["a.jpg", "moved.jpg"])
def test_a_file_lies_in_the_cache_while_it_is_needed(site, tmp_path, page):
    with downloaded(f"{site}/{page}?token=1") as file:
        assert file.read_bytes() == b"x" * 3000
        assert file.is_relative_to(tmp_path / "cache")
        assert file.name == page
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("none.jpg", "download failed .*Not Found"),
        ("short.jpg", "download failed|ended after 1 of 100 bytes"),
        ("huge.jpg", "larger than"),
        ("file.jpg", "file:.* is not allowed|redirects to file://"),
        ("loop.jpg", "download failed"),
    ],
)
def test_what_cannot_be_fetched(site, tmp_path, page, message):
    with pytest.raises(UserError, match=message), downloaded(f"{site}/{page}"):
        pass
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_a_body_without_length_is_cut_at_the_limit(site):
    with pytest.raises(UserError, match="larger than"), downloaded(f"{site}/a.jpg", max_bytes=2999):
        pass
    with downloaded(f"{site}/a.jpg", max_bytes=3000) as file:
        assert file.stat().st_size == 3000


def test_no_server(site):
    with pytest.raises(UserError, match="download failed"), downloaded("http://127.0.0.1:9/a.jpg"):
        pass


def test_a_redirect_from_outside_into_a_private_network_is_refused(site, monkeypatch):
    private = fetch._is_private
    monkeypatch.setattr(fetch, "_is_private", lambda host: not host.startswith("127.") and private(host))
    monkeypatch.setattr(Handler, "answers", lambda self: {"/in.jpg": (302, {"Location": "http://10.0.0.1/x.jpg"}, b"")})
    with pytest.raises(UserError, match="private network"), downloaded(f"{site}/in.jpg"):
        pass


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("127.0.0.1:80", True),
        ("10.1.2.3", True),
        ("[::1]:8080", True),
        ("169.254.169.254", True),
        ("8.8.8.8", False),
        ("[2001:4860::1]", False),
    ],
)
def test_private_addresses(host, private):
    assert fetch._is_private(host) is private


def test_an_address_of_an_image_is_a_source(site, tmp_path, monkeypatch):
    _, data = cv2.imencode(".png", np.full((4, 6, 3), 9, np.uint8))
    monkeypatch.setattr(Handler, "answers", lambda self: {"/x.png": (200, {}, data.tobytes())})
    source = open_source(f"{site}/x.png?size=1")
    (frame,) = source
    assert frame.image.shape == (4, 6, 3)
    assert frame.key == "x"
    source.close()
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_names_and_secrets():
    assert file_name("http://x/a/b%20c.jpg?token=1#top") == "b_c.jpg"
    assert file_name("http://x/..%2f..%2fetc%2fpasswd") == "passwd"
    assert file_name("http://x/") == "file"
    assert without_secrets("rtsp://me:secret@10.0.0.5:554/live?key=1") == "rtsp://10.0.0.5:554/live"
    assert without_secrets("http://x?key=1") == "http://x"


def test_a_server_that_drips_does_not_hold_the_command(monkeypatch):
    class Dripping:
        def read1(self, _: int) -> bytes:
            return b"x"

    clock = iter(range(0, 1000, 30))
    monkeypatch.setattr(fetch.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(OSError, match="too slow: 3 bytes in 90 s"):
        list(fetch.chunks(Dripping()))
