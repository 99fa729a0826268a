"""The HTTP client: open a URL, or download one file into the cache folder for as long as it is needed."""

from __future__ import annotations

import contextlib
import functools
import http.client
import re
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from utils.errors import UserError
from utils.files.addresses import PublicFirst, is_public, resolve
from utils.files.cache_folder import cache_folder

MAX_BYTES = 4 << 30
TIMEOUT = 30.0
_CHUNK = 1 << 20
_GRACE, _MIN_SPEED = 60.0, 10_000.0  # seconds; bytes per second


@contextlib.contextmanager
def downloaded(url: str, *, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> Iterator[Path]:
    """Download the file of an http(s) URL; it is removed at the end of the context.

    The URL may be in a private network, since the user gave it; a redirect may not lead there from outside.

    Raises:
        UserError: unreachable, refused, larger than `max_bytes`, or cut off.
    """
    try:
        name = file_name(url)
    except ValueError as error:  # the brackets of an invalid IPv6 address
        raise UserError(f"{without_secrets(url)}: invalid URL ({error})") from error
    folder = cache_folder() / "fetched"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file = Path(place, name)
        try:
            answer: Any
            with open_url(url, timeout=timeout) as answer, file.open("wb") as out:
                announced = int(answer.headers.get("Content-Length") or 0)
                for chunk in chunks(answer) if announced <= max_bytes else ():
                    out.write(chunk)
                    if out.tell() > max_bytes:
                        break
                size = out.tell()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, UserError):
                raise
            reason = getattr(error, "reason", None) or error
            raise UserError(f"{without_secrets(url)}: download failed ({reason})") from error
        if max(announced, size) > max_bytes:
            raise UserError(f"{without_secrets(url)}: larger than {max_bytes >> 20} MiB; download it manually and give its path")
        if size < announced:
            raise UserError(f"{without_secrets(url)}: the transfer ended after {size} of {announced} bytes")
        yield file


def file_name(url: str) -> str:
    """Return the last part of a URL's path, without characters unfit for a file name."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[-100:] or "file"


def without_secrets(url: str) -> str:
    """Return a URL without user name, password and query, for logs and file names."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def open_url(url: str, *, timeout: float = TIMEOUT, public: bool = False, method: str = "GET") -> IO[bytes]:
    """Open an http(s) URL for reading; at most five redirects, each checked, never from the public internet into a private network.

    Args:
        public: refuse all but https on the public internet, for URLs of untrusted files.
        method: "GET", or "HEAD" for what a GET would answer without its body.

    Raises:
        UserError: refused.
        OSError: of the network.
    """
    if public:
        _require_public(url)
    hosts = PublicFirst(public=public)
    request = urllib.request.Request(url, headers={"User-Agent": "attune"}, method=method)  # noqa: S310 - the opener has no file: and no ftp:
    opener = urllib.request.OpenerDirector()
    kinds = ("ProxyHandler", "HTTPDefaultErrorHandler", "HTTPErrorProcessor")
    direct = not urllib.request.getproxies()  # a proxy finds the host, and is itself in a private network
    secure = [_Https(hosts), _Http(hosts)] if direct else [urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()]
    for handler in (*(getattr(urllib.request, kind)() for kind in kinds), *secure, _Redirects(public=public)):
        opener.add_handler(handler)
    watch = threading.Timer(_GRACE, hosts.abort)  # whatever the server sends, a byte at a time
    watch.daemon = True
    watch.start()
    try:
        return opener.open(request, timeout=timeout)
    finally:
        watch.cancel()


def chunks(source: Any) -> Iterator[bytes]:
    """Yield what an open URL sends.

    Raises:
        OSError: it sends less than 10 kB a second, beyond the first minute: else a server could hold a command for ever.
    """
    begun, count = time.monotonic(), 0
    while chunk := source.read1(_CHUNK):
        count += len(chunk)
        if (seconds := time.monotonic() - begun) > _GRACE + count / _MIN_SPEED:
            raise OSError(f"too slow: {count} bytes in {seconds:.0f} s")
        yield chunk


class _Http(urllib.request.HTTPHandler):
    """Connects where `PublicFirst` allows it."""

    def __init__(self, hosts: PublicFirst) -> None:
        super().__init__()
        self._hosts = hosts

    def http_open(self, req: urllib.request.Request) -> Any:
        """Open an http URL."""
        return self.do_open(functools.partial(_connection, http.client.HTTPConnection, self._hosts), req)


class _Https(urllib.request.HTTPSHandler):
    """Connects where `PublicFirst` allows it."""

    def __init__(self, hosts: PublicFirst) -> None:
        super().__init__()
        self._hosts = hosts

    def https_open(self, req: urllib.request.Request) -> Any:
        """Open an https URL."""
        return self.do_open(functools.partial(_connection, http.client.HTTPSConnection, self._hosts), req)


def _connection(kind: Any, hosts: PublicFirst, host: str, **settings: Any) -> http.client.HTTPConnection:
    connection: http.client.HTTPConnection = kind(host, **settings)
    connection._create_connection = hosts.connect  # type: ignore[attr-defined]
    return connection


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def __init__(self, *, public: bool) -> None:
        self._public = public

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        source, target = without_secrets(req.full_url), urllib.parse.urlsplit(newurl)
        allowed = ("https",) if self._public else ("http", "https")
        if target.scheme not in allowed:
            raise UserError(f"{source}: refused: it redirects to {target.scheme}://, which is not {' or '.join(allowed)}")
        if self._public:
            _require_public(newurl)
        elif not _is_private(req.host) and _is_private(target.netloc):
            raise UserError(f"{source}: refused: it redirects into a private network ({target.hostname})")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_public(url: str) -> None:
    netloc = urllib.parse.urlsplit(url).netloc
    if not netloc or _is_private(netloc, unknown=False):  # an unknown name may be known to a proxy
        raise UserError(f"{url}: refused: {netloc or 'it'} is not on the public internet")


def _is_private(netloc: str, *, unknown: bool = True) -> bool:
    """Whether a host's name resolves to an address outside the public internet; `unknown` for a name that cannot be resolved."""
    host = urllib.parse.urlsplit(f"//{netloc}").hostname
    try:
        found = resolve(host or "", 0)
    except OSError:
        return unknown
    return not all(map(is_public, found))
