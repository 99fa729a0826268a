"""Streams that redirect, and playlists that name other hosts."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from utils.errors import UserError
from utils.files import addresses, download
from utils.inference import stream_check
from utils.inference.stream_check import follow

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"


@pytest.fixture
def site() -> Iterator[tuple[str, dict[str, tuple[int, str]]]]:
    """A server, and what it answers by path: a status with the target of a redirect, or the body."""
    answers: dict[str, tuple[int, str]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers[self.path]
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl" if text.startswith("#EXTM3U") else "video/mp2t")
            if status == 302:
                self.send_header("Location", text)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(text.encode())

        do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's address counts as one on the public internet."""

    def public(address: str) -> bool:
        return address == "127.0.0.1"

    for module in (addresses, download, stream_check):
        monkeypatch.setattr(module, "is_public", public)


def test_redirects_are_followed_here(site: tuple[str, dict[str, tuple[int, str]]]) -> None:
    url, answers = site
    answers |= {"/live": (302, "/real"), "/real": (200, "x")}
    assert follow(f"{url}/live", 5) == f"{url}/real"
    assert follow("rtsp://127.0.0.1/live", 5) == "rtsp://127.0.0.1/live"
    assert follow("http://127.0.0.1:9/live", 1) == "http://127.0.0.1:9/live"  # nobody answers


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    "target", ["http://127.0.0.2/a.ts", "http://10.0.0.1:8080/", "http://[::1]/a.ts", "file:///etc/passwd", "ftp://x/a"]
)
def test_nothing_leads_from_outside_into_a_private_network(site: tuple[str, dict[str, tuple[int, str]]], target: str) -> None:
    url, answers = site
    key = f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:1,\na.ts\n'
    answers |= {"/moved": (302, target), "/list": (200, PLAYLIST.format(target)), "/key": (200, key)}
    answers |= {"/nested": (200, PLAYLIST.format("inner.m3u8")), "/inner.m3u8": (200, PLAYLIST.format(target))}
    for path in ("/moved", "/list", "/key", "/nested"):
        with pytest.raises(UserError, match=r"redirects? |[Rr]edirection|private network|names (file|ftp)"):
            follow(url + path, 5)


@pytest.mark.usefixtures("outside")
def test_a_playlist_of_its_own_server(site: tuple[str, dict[str, tuple[int, str]]]) -> None:
    url, answers = site
    answers |= {"/a.m3u8": (200, PLAYLIST.format("a.m3u8"))}  # refers to itself
    assert follow(f"{url}/a.m3u8", 5) == f"{url}/a.m3u8"
