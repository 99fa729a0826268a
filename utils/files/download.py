"""Fetching one file over http(s) into the cache folder, for as long as it is needed."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import re
import socket
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utils.errors import UserError

MAX_BYTES = 4 << 30
TIMEOUT = 30.0
_CHUNK = 1 << 20


def cache_folder() -> Path:
    """``$ATTUNE_CACHE``, else ``$XDG_CACHE_HOME/attune``, else ``~/.cache/attune``."""
    own = os.environ.get("ATTUNE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attune"


@contextlib.contextmanager
def fetched(url: str, *, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> Iterator[Path]:
    """Fetch the file behind an http(s) address; it is removed at the end of the context.

    The address may lie in the user's own network, since the user gave it; a redirect may not lead there from outside.

    Raises:
        UserError: not reachable, refused, larger than `max_bytes`, or cut off.
    """
    try:
        name = file_name(url)
    except ValueError as error:  # the brackets of an IPv6 address that is none
        raise UserError(f"{without_secrets(url)}: not an address ({error})") from error
    folder = cache_folder() / "fetched"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file = Path(place, name)
        try:
            _fetch(url, file, max_bytes, timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, UserError):
                raise
            reason = getattr(error, "reason", None) or error
            raise UserError(f"{without_secrets(url)}: cannot be fetched ({reason})") from error
        yield file


def file_name(url: str) -> str:
    """The last part of the address's path, without what a file name should not hold."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[-100:] or "file"


def without_secrets(url: str) -> str:
    """The address without user name, password and query, fit for logs and file names."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _fetch(url: str, file: Path, max_bytes: int, timeout: float) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "attune"})  # noqa: S310  the scheme was checked by the caller
    opener = urllib.request.OpenerDirector()
    kinds = ("ProxyHandler", "HTTPHandler", "HTTPSHandler", "HTTPDefaultErrorHandler", "HTTPErrorProcessor")  # no file:, no ftp:
    for handler in (*(getattr(urllib.request, kind)() for kind in kinds), _Redirects()):
        opener.add_handler(handler)
    with opener.open(request, timeout=timeout) as answer, file.open("wb") as out:
        announced = int(answer.headers.get("Content-Length") or 0)
        if announced > max_bytes or _copy(answer, out, max_bytes) > max_bytes:
            raise UserError(f"{without_secrets(url)}: larger than the limit of {max_bytes >> 20} MiB; fetch it by hand and give its path")
        if out.tell() < announced:
            raise UserError(f"{without_secrets(url)}: the transfer broke off after {out.tell()} of {announced} bytes")


def _copy(answer: Any, out: Any, max_bytes: int) -> int:
    size = 0
    while size <= max_bytes and (chunk := answer.read(_CHUNK)):
        out.write(chunk)
        size += len(chunk)
    return size


class _Redirects(urllib.request.HTTPRedirectHandler):
    """At most five, to http(s) only, and never from the open network into a private one."""

    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        target = urllib.parse.urlsplit(newurl)
        if target.scheme not in ("http", "https"):
            raise UserError(f"{without_secrets(req.full_url)}: redirects to {target.scheme}://, which is refused")
        if not _private(req.host) and _private(target.netloc):
            raise UserError(f"{without_secrets(req.full_url)}: redirects into a private network ({target.hostname}), which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _private(netloc: str) -> bool:
    """Whether a host's name leads to an address that is not of the open network; unknown names count as private."""
    host = urllib.parse.urlsplit(f"//{netloc}").hostname
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return True
    return any(not ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_global for entry in found)
