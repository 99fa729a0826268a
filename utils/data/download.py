"""Fetching a data set: one https archive, checked, unpacked beside its place, and moved there whole.

This is the one thing outside run folder and cache that Attune ever writes: the data set's own root, and only where that
does not exist yet and the data YAML has a ``download:``. Scripts, other schemes and private addresses are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import os
import re
import shutil
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from utils.data.archive import SUFFIXES, unpack
from utils.errors import UserError
from utils.log import LOG

Opener = Callable[[str], IO[bytes]]
_CHUNK = 1 << 20
LEAST_FREE = 1 << 28
"""Bytes of the disk that a download leaves alone."""


def fetch(url: Any, root: Path, sha256: Any, where: Path, *, opener: Opener | None = None) -> None:
    """Download the archive at `url` and unpack it as the folder `root`.

    Args:
        sha256: expected digest of the archive in hex, or None.
        where: the YAML that asks for it, for messages.
        opener: opens an address for reading; None takes the network.

    Raises:
        UserError: the address is refused, `root` already holds something, the transfer fails, the digest differs, or the archive
            holds anything but files and folders below its root or is larger than it may be. Nothing is left behind.
    """
    url = _checked_url(url, where)
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256)):
        raise UserError(f"{where}: sha256: {sha256!r} is not 64 hexadecimal digits (quote them)")
    _check_place(root, where)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{where}: {root} is there but lacks the validation images; complete it, or move it away to have it downloaded")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=".download-") as folder:
            archive = Path(folder) / f"archive{_suffix(url)}"
            LOG.info("downloading %s to %s", url, root)
            _transfer(url, archive, sha256, opener or open_url)
            content = Path(folder) / "content"
            content.mkdir()
            unpack(archive, content)
            _place(content, root)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise UserError(f"{where}: download of {url} failed ({error}); fetch it by hand and unpack it as {root}") from error


def open_url(url: str) -> IO[bytes]:
    """Open an https address of the public internet; every redirection is checked the same way.

    Raises:
        UserError: the address is not public.
        OSError: the network's.
    """
    opener = urllib.request.build_opener(_CheckedRedirects())
    _check_host(url)
    request = urllib.request.Request(url, headers={"User-Agent": "attune"})  # noqa: S310 - https, see _checked_url
    return opener.open(request, timeout=60)


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise UserError(f"{req.full_url} redirects to {newurl}, which is not https")
        _check_host(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_host(url: str) -> None:
    host = urllib.parse.urlsplit(url).hostname or ""
    addresses: set[str] = set()
    with contextlib.suppress(OSError, UnicodeError):  # unknown here: a proxy may know it, else opening it says why
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, 443)}
    if not host or any(not ipaddress.ip_address(address.partition("%")[0]).is_global for address in addresses):
        raise UserError(f"{url}: refused, {host or 'it'} is not an address of the public internet")


def _checked_url(url: Any, where: Path) -> str:
    text = str(url).strip()
    if not text.startswith("https://") or any(c.isspace() for c in text) or not _suffix(text):
        shown = text if len(text) < 60 else f"{text[:57]}..."
        raise UserError(
            f"{where}: download: {shown!r} is refused: only the https:// address of one archive ({', '.join(SUFFIXES)}) is followed, and "
            "scripts are never run; fetch the data set by hand"
        )
    return text


def _check_place(root: Path, where: Path) -> None:
    """A data YAML of a stranger chooses where its archive goes: near itself, and nowhere that programs look for settings.

    Raises:
        UserError: elsewhere.
    """
    place, beside = Path(os.path.realpath(root)), where.parent.absolute()
    near = (beside.parent if beside.parent != beside.parent.parent else beside, Path.cwd())
    homes = [home for home in map(Path, map(os.path.realpath, near)) if home != home.parent]  # below / is everything
    below = [place.relative_to(home).parts for home in homes if place.is_relative_to(home)]
    if not any(parts and not any(part.startswith(".") for part in parts) for parts in below):
        allowed = " and ".join(map(str, dict.fromkeys(homes))) or "a folder that holds the YAML"
        raise UserError(
            f"{where}: download: refused to {root}: only folders below {allowed} are made, and no hidden ones; fetch the data set by hand"
        )


def _suffix(url: str) -> str:
    try:
        path = urllib.parse.urlsplit(url).path.lower()
    except ValueError:  # the brackets of an IPv6 address that is none
        return ""
    return next((suffix for suffix in SUFFIXES if path.endswith(suffix)), "")


def _transfer(url: str, target: Path, sha256: str | None, opener: Opener) -> None:
    digest = hashlib.sha256()
    with opener(url) as source, target.open("wb") as out:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            out.write(chunk)
            if shutil.disk_usage(target.parent).free < LEAST_FREE:
                raise UserError(f"{url}: the disk is nearly full after {out.tell() >> 20} MiB of it; nothing was unpacked")
    if sha256 and digest.hexdigest() != sha256.lower():
        raise UserError(f"{url}: its sha256 is {digest.hexdigest()}, not {sha256.lower()} as the data YAML says; nothing was unpacked")


def _place(content: Path, root: Path) -> None:
    """Move what was unpacked to `root`; the one folder that many archives put everything into is left out."""
    entries = [entry for entry in content.iterdir() if entry.name != "__MACOSX"]
    inner = entries[0] if len(entries) == 1 and entries[0].is_dir() and entries[0].name not in ("images", "train", "val") else content
    if root.is_dir() and any(root.iterdir()):
        return  # another process of the same training was faster
    shutil.rmtree(content / "__MACOSX", ignore_errors=True)
    inner.replace(root)
