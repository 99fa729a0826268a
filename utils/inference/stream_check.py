"""Where an http(s) stream leads, checked before FFmpeg opens it, which follows redirects and playlists to any host."""

from __future__ import annotations

import http.client
import re
import urllib.error
from urllib.parse import urljoin, urlsplit

from utils.errors import UserError
from utils.files.addresses import is_public, resolve
from utils.files.download import open_url, without_secrets

OPTIONS = "rtsp_transport;tcp|max_redirects;0"
"""For OpenCV's FFmpeg: its own default, and no redirects but those followed here."""
_HEAD = 1 << 16
_MAX_PLAYLISTS = 8


def follow(url: str, timeout: float) -> str:
    """Return the URL that a stream redirects to, by the rules of downloads; the URL itself where its server does not answer this client.

    An HLS playlist on the public internet may name hosts on the public internet only, in up to 8 playlists that refer to each other.

    Raises:
        UserError: it redirects or refers into a private network, or to something other than http(s).
    """
    if urlsplit(url).scheme.lower() not in ("http", "https"):
        return url
    final, waiting, seen = "", [url], 0
    while waiting and seen < _MAX_PLAYLISTS:
        seen += 1
        try:
            place, more = _opened(waiting.pop(), timeout)
        except UserError:
            raise
        except urllib.error.HTTPError as error:
            if 300 <= error.code < 400:
                raise UserError(f"{without_secrets(url)}: refused: {' '.join(str(error.msg).split())}") from error
            if not final:
                return url  # a password is asked for, perhaps: FFmpeg says what is wrong
        except (OSError, http.client.HTTPException, ValueError):
            if not final:
                return url
        else:
            final = final or place
            waiting += more
    return final


def _opened(url: str, timeout: float) -> tuple[str, list[str]]:
    """The URL after all redirects, and the further playlists that it names where it is one.

    What looks like no playlist is asked for its head only: some cameras take one connection, and some streams come once.
    """
    listed = urlsplit(url).path.lower().endswith(".m3u8")
    with open_url(url, timeout=timeout, method="GET" if listed else "HEAD") as answer:
        place, kind = str(answer.geturl()), str(answer.headers.get("Content-Type"))  # type: ignore[attr-defined]
        if listed:
            text = answer.read1(_HEAD).decode(errors="replace")  # type: ignore[attr-defined]
            return place, [entry for entry in _entries(text, place) if urlsplit(entry).path.lower().endswith(".m3u8")]
    if "mpegurl" not in kind.lower() and not urlsplit(place).path.lower().endswith(".m3u8"):
        return place, []
    with open_url(place, timeout=timeout) as answer:
        return place, _entries(answer.read1(_HEAD).decode(errors="replace"), place)  # type: ignore[attr-defined]


def _entries(text: str, place: str) -> list[str]:
    """The URLs that a playlist at `place` names.

    Raises:
        UserError: one of them leads elsewhere.
    """
    lines = [line.strip() for line in text.splitlines()]
    named = [line for line in lines if line and not line.startswith("#")] + re.findall(r'URI="([^"]*)"', text)
    found = list(dict.fromkeys(urljoin(place, entry) for entry in named))
    home = urlsplit(place)
    for entry in found:
        parts = urlsplit(entry)
        if parts.scheme not in ("http", "https"):
            raise UserError(f"{without_secrets(place)}: refused: its playlist names {parts.scheme or 'no'}://")
        if parts.netloc != home.netloc and _is_outside(home.hostname) and not _is_outside(parts.hostname):
            raise UserError(f"{without_secrets(place)}: refused: its playlist leads into a private network ({parts.hostname})")
    return found


def _is_outside(host: str | None) -> bool:
    try:
        return all(map(is_public, resolve(host or "", 0)))
    except OSError:
        return False
