"""Download a dataset: one https archive, checked, unpacked beside its target, and moved there in one step.

This is the only write outside run folder and cache: the dataset's root, and only where it does not exist yet and the data YAML has a
``download:``. Scripts, other schemes and private networks are refused.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import tempfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from utils.data.archive import SUFFIXES, unpack
from utils.errors import UserError
from utils.files.download import chunks, open_url
from utils.log import LOG

Opener = Callable[[str], IO[bytes]]
MIN_FREE_BYTES = 1 << 28
"""Disk space that a download leaves free."""


def fetch(url: Any, root: Path, sha256: Any, where: Path, *, opener: Opener | None = None) -> None:
    """Download the archive at `url` and unpack it as the folder `root`.

    Args:
        sha256: expected digest of the archive in hex, or None.
        where: the YAML that asks for it, for messages.
        opener: opens a URL for reading; None takes the network.

    Raises:
        UserError: the URL is refused, `root` is not empty, the transfer fails, the digest differs, or the archive is refused. Nothing is
            left behind.
    """
    url = _checked_url(url, where)
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256)):
        raise UserError(f"{where}: sha256: {sha256!r} is not 64 hexadecimal digits (quote them)")
    _check_root(root, where)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{where}: {root} exists but lacks the validation images; complete it or move it away")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=".download-") as folder:
            archive = Path(folder) / f"archive{_suffix(url)}"
            LOG.info("downloading %s to %s", url, root)
            digest = hashlib.sha256()
            with opener(url) if opener else open_url(url, timeout=60, public=True) as source, archive.open("wb") as out:
                for chunk in chunks(source):
                    digest.update(chunk)
                    out.write(chunk)
                    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
                        raise UserError(f"{url}: the disk is nearly full after {out.tell() >> 20} MiB; nothing was unpacked")
            if sha256 and digest.hexdigest() != sha256.lower():
                raise UserError(f"{url}: its sha256 is {digest.hexdigest()}, expected {sha256.lower()} (data YAML); nothing was unpacked")
            content = Path(folder) / "content"
            content.mkdir()
            unpack(archive, content)
            shutil.rmtree(content / "__MACOSX", ignore_errors=True)
            entries = list(content.iterdir())
            if len(entries) == 1 and entries[0].is_dir() and entries[0].name not in ("images", "train", "val"):
                content = entries[0]  # the single folder that many archives put everything into
            if not (root.is_dir() and any(root.iterdir())):  # else another rank was faster
                content.replace(root)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise UserError(f"{where}: download of {url} failed ({error}); download it manually and unpack it as {root}") from error


def _checked_url(url: Any, where: Path) -> str:
    text = str(url).strip()
    if not text.startswith("https://") or any(c.isspace() for c in text) or not _suffix(text):
        shown = text if len(text) < 60 else f"{text[:57]}..."
        raise UserError(
            f"{where}: download: {shown!r} is refused: it must be the https:// URL of one archive ({', '.join(SUFFIXES)}), and "
            "scripts are never run; download the dataset manually"
        )
    return text


def _check_root(root: Path, where: Path) -> None:
    """Refuse a root that an untrusted data YAML must not choose: only folders near it, and no hidden ones, which hold settings.

    Raises:
        UserError: refused.
    """
    place, beside = Path(os.path.realpath(root)), where.parent.absolute()
    near = (beside.parent if beside.parent != beside.parent.parent else beside, Path.cwd())
    homes = [home for home in map(Path, map(os.path.realpath, near)) if home != home.parent]  # everything is below /
    below = [place.relative_to(home).parts for home in homes if place.is_relative_to(home)]
    if not any(parts and not any(part.startswith(".") for part in parts) for parts in below):
        allowed = " and ".join(map(str, dict.fromkeys(homes))) or "a folder that holds the YAML"
        raise UserError(
            f"{where}: download: refused to {root}: only folders below {allowed}, and no hidden ones, are allowed; download the dataset "
            "manually"
        )


def _suffix(url: str) -> str:
    try:
        path = urllib.parse.urlsplit(url).path.lower()
    except ValueError:  # the brackets of an invalid IPv6 address
        return ""
    return next((suffix for suffix in SUFFIXES if path.endswith(suffix)), "")
