"""`download:` and the archives behind it: scripts, private URLs, members that leave their folder, bombs."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Entry = tuple[str, Any, str | None]


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    """A zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members:
            out.writestr(name, content)
    return buffer.getvalue()


def special(name: str, mode: int) -> zipfile.ZipInfo:
    """A zip member that is no file."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def tarred(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"", **headers: str) -> bytes:
    """A tar of one member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as out:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.size, entry.pax_headers = kind, link, len(content), headers
        out.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def contents() -> dict[str, tuple[bytes, str]]:
    """Archives, and why each is refused."""
    outside, odd = "is outside", "link or a device"
    bomb = bytes(80 << 20)
    lie = zipped(("a", b"x" * 1000)).replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    return {
        "zip: ..": (zipped(("../precious/file", b"x")), outside),
        "zip: .. within": (zipped(("a/../../../precious/file", b"x")), outside),
        "zip: an absolute path": (zipped(("/etc/cron.d/x", b"x")), outside),
        "zip: a drive": (zipped(("C:/x", b"x")), outside),
        "zip: backslashes": (zipped(("..\\..\\x", b"x")), outside),
        "zip: a control character": (zipped(("a\nb", b"x")), outside),
        "zip: a symbolic link": (zipped((special("link", stat.S_IFLNK | 0o777), b"/etc/passwd")), odd),
        "zip: a device": (zipped((special("device", stat.S_IFBLK | 0o777), b"")), odd),
        "zip: a file below a file": (zipped(("a", b"x"), ("a/b", b"y")), "failed|damaged"),
        "zip: two members of one name": (_twice(), "damaged"),
        "zip: a bomb": (zipped(("a", bomb)), "unpacks to more"),
        "zip: a bomb that lies": (lie, "larger than declared|damaged"),
        "zip: cut off": (zipped(("a", b"x" * 1000))[:-30], "damaged"),
        "tar: ..": (tarred("../precious/file", content=b"x"), outside),
        "tar: an absolute path": (tarred("/etc/cron.d/x", content=b"x"), outside),
        "tar: a symbolic link": (tarred("link", tarfile.SYMTYPE, "/etc"), odd),
        "tar: a hard link": (tarred("link", tarfile.LNKTYPE, "../precious/file"), odd),
        "tar: a device": (tarred("device", tarfile.CHRTYPE), odd),
        "tar: a pipe": (tarred("pipe", tarfile.FIFOTYPE), odd),
        "tar: a bomb": (tarred("a", content=bomb), "unpacks to more"),
        "tar: a bomb in a header": (tarred("a", tarfile.XHDTYPE, content=bomb), "a header claims"),
        "tar: a bomb in a long name": (tarred("a", tarfile.GNUTYPE_LONGNAME, content=bomb), "a header claims"),
        "tar: a size below zero": (tarred("a", size="-512"), "claims -"),
        "no archive": (b"#!/bin/sh\ntouch $ATTUNE_CANARY\n", "damaged"),
    }


def _twice() -> bytes:
    return zipped(("ab", b"x"), ("ac", b"y")).replace(b"ac", b"ab")


def archives(folder: Path, canary: Path) -> Iterator[Entry]:
    """Every attack by way of a data YAML that downloads."""
    from utils.data.config import load_data
    from utils.data.download import fetch
    from utils.files.download import open_url

    def data(name: str, **keys: Any) -> Path:
        (folder / name).mkdir()
        path = folder / name / "data.yaml"
        path.write_text(yaml.safe_dump({"train": "a", "val": "a", "names": ["x"], "path": "set", **keys}))
        return path

    url = "https://example.com/a.zip"

    def unpacked(content: bytes, place: Path, sha256: str | None = None) -> None:
        place.mkdir()
        address = url if content[:2] == b"PK" else "https://example.com/a.tar.gz"
        try:
            fetch(address, place / "set", sha256, place / "data.yaml", opener=lambda _: io.BytesIO(content))
        finally:
            left = list(place.iterdir())
            if left:
                raise AssertionError(f"left behind: {left}")

    for at, address in enumerate(
        (
            f"bash -c 'touch {canary}'",
            f"import os\nos.system('touch {canary}')",
            "http://example.com/a.zip",
            "file:///etc/a.zip",
            "ftp://example.com/a.zip",
            "data:application/zip;base64,UEsFBg==/a.zip",
            f"https://example.com/a.zip; touch {canary}",
            f"https://example.com/$(touch {canary}).sh",
            "https://[::1/a.zip",
            [url, url],
            {"url": url},
        )
    ):
        path = data(f"d{at}", download=address)
        yield f"download: {address!r:.40}", lambda path=path: load_data(path), "is refused"
    for at, host in enumerate(
        ("127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433")
    ):
        path = data(f"h{at}", download=f"https://{host}/a.zip")
        yield f"download: from {host}", lambda path=path: load_data(path), "not on the public internet|failed"
        yield f"fetch: from {host}", lambda host=host: open_url(f"https://{host}/a.zip", public=True), "not on the public internet"
    for at, place in enumerate(("~/.config/autostart", "/tmp/elsewhere", "../../../../elsewhere", ".git/hooks", "set/../../../../x")):
        path = data(f"p{at}", download=url, path=place)
        yield f"download: to {place}", lambda path=path: load_data(path), "refused to"
    yield "download: a digest that differs", lambda: unpacked(b"x", folder / "digest", "0" * 64), "its sha256 is"
    for at, (name, (content, reason)) in enumerate(contents().items()):
        yield f"archive: {name}", lambda content=content, at=at: unpacked(content, folder / f"a{at}"), reason
