"""`download:` follows one https archive; everything else is refused, and nothing is left of what fails."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.faults.hostile_archives import zipped
from utils.data import archive as archive_module
from utils.data import download
from utils.data.archive import unpack
from utils.data.config import load_data
from utils.data.download import fetch
from utils.errors import UserError
from utils.files.download import _Redirects, open_url

URL = "https://example.com/sets/shapes.zip"
YAML = Path("data.yaml")


@pytest.fixture(autouse=True)
def beside_the_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tarred(*members: tuple[str, bytes | None], kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as out:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, link, len(content or b"")
            out.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()


def serving(content: bytes) -> Callable[[str], io.BytesIO]:
    return lambda _: io.BytesIO(content)


def png() -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((20, 20, 3), np.uint8))[1])


def test_one_top_folder_is_left_out(tmp_path: Path) -> None:
    content = zipped(("shapes/images/a.png", png()), ("shapes/labels/a.txt", b"0"), ("__MACOSX/x", b""))
    fetch(URL, tmp_path / "datasets/set", hashlib.sha256(content).hexdigest().upper(), YAML, opener=serving(content))
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*")) == ["datasets/set/images/a.png", "datasets/set/labels/a.txt"]
    assert [p.name for p in (tmp_path / "datasets").iterdir()] == ["set"]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
def test_tar(tmp_path: Path, suffix: str) -> None:
    content = tarred(("images/a.png", b"1"), ("labels/a.txt", b"22"))
    fetch(f"https://x.org/a{suffix}?token=1", tmp_path / "set", None, YAML, opener=serving(content))
    assert (tmp_path / "set/labels/a.txt").read_bytes() == b"22"


def test_a_data_yaml_downloads_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped(("any/images/a.png", png()), ("any/labels/a.txt", b"0 .5 .5 .1 .1"))
    asked: list[str] = []

    def opener(url: str, **_: object) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(download, "open_url", opener)
    description = {"path": "sets/any", "train": "images", "val": "images", "names": ["x"], "download": URL}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(description))
    for _ in range(2):
        assert load_data(tmp_path / "data.yaml").entries("val") == (tmp_path / "sets/any/images",)
    assert asked == [URL]


def test_being_at_the_root_of_the_file_system_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    download._check_root(Path("/data/set"), Path("/data/a.yaml"))
    download._check_root(Path("/data/set"), Path("/data/yamls/a.yaml"))
    for place, where in (("/etc/x", "/data/a.yaml"), ("/etc/x", "/a.yaml")):
        with pytest.raises(UserError, match=f"refused to {place}: only folders below"):
            download._check_root(Path(place), Path(where))


@pytest.mark.parametrize("place", ["/elsewhere", "~/.config/autostart", "../../elsewhere", ".hidden/set", "a/../../../b", "link/set", "."])
def test_an_archive_goes_nowhere_but_near_its_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    home = tmp_path / "home"
    (home / "down" / "data").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (home / "down" / "data" / "link").symlink_to(tmp_path / "other")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "down" / "data")
    monkeypatch.setattr(download, "open_url", lambda *_, **__: pytest.fail("asked for"))
    description = {"path": place, "train": "images", "val": "images", "names": ["x"], "download": URL}
    Path("data.yaml").write_text(yaml.safe_dump(description))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"refused to|exists but lacks"):
        load_data("data.yaml")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "address", ["https://[::1/a.zip", "https://host:port/a.zip", "https://\ud800/a.zip", "https://" + "a" * 300 + "/a.zip"]
)
def test_an_address_that_is_none(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError):
        fetch(address, tmp_path / "set", None, YAML)


@pytest.mark.parametrize(
    "address",
    [
        "bash data/scripts/get_coco.sh",
        "import os\nos.system('true')",
        "http://example.com/a.zip",
        "file:///etc/a.zip",
        "ftp://example.com/a.zip",
        "https://example.com/a.sh",
        "https://example.com/a.zip; rm -rf x.zip",
        ["https://example.com/a.zip"],
        {"url": "https://example.com/a.zip"},
        7,
    ],
)
def test_everything_else_is_refused(tmp_path: Path, address: object) -> None:
    with pytest.raises(UserError, match=r"data\.yaml: download: .* is refused: it must be the https"):
        fetch(address, tmp_path / "set", None, YAML, opener=serving(b""))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "10.0.0.8", "169.254.169.254", "[::1]", "[fe80::1]", "192.168.1.1", "0.0.0.0"])
def test_private_addresses_are_refused(host: str) -> None:
    with pytest.raises(UserError, match="not on the public internet"):
        open_url(f"https://{host}/a.zip", public=True)


def test_redirections_are_checked() -> None:
    handler = _Redirects(public=True)
    request = urllib.request.Request("https://example.com/a.zip")
    with pytest.raises(UserError, match="not https"):
        handler.redirect_request(request, None, 302, "", {}, "http://example.com/a.zip")
    with pytest.raises(UserError, match="public internet"):
        handler.redirect_request(request, None, 302, "", {}, "https://169.254.169.254/a.zip")


def test_a_wrong_digest_unpacks_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its sha256 is .* nothing was unpacked"):
        fetch(URL, tmp_path / "set", "0" * 64, YAML, opener=serving(zipped(("a", b"1"))))
    with pytest.raises(UserError, match="not 64 hexadecimal digits"):
        fetch(URL, tmp_path / "set", 123, YAML, opener=serving(b""))
    assert list(tmp_path.iterdir()) == []


def test_a_failing_transfer_leaves_nothing(tmp_path: Path) -> None:
    def broken(_: str) -> io.BytesIO:
        raise OSError("connection reset")

    with pytest.raises(UserError, match=r"failed \(connection reset\); download it manually"):
        fetch(URL, tmp_path / "set", None, YAML, opener=broken)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="lacks the validation images"):
        fetch(URL, tmp_path, None, YAML, opener=serving(zipped(("a", b"1"))))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def special(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


@pytest.mark.parametrize(
    "content",
    [
        zipped(("../evil", b"x")),
        zipped(("a/../../evil", b"x")),
        zipped(("/evil", b"x")),
        zipped(("C:/evil", b"x")),
        zipped(("..\\evil", b"x")),
        zipped((special("link", stat.S_IFLNK | 0o777), b"/etc/passwd")),
        zipped((special("device", stat.S_IFBLK | 0o777), b"")),
        zipped(("a", b"x"), ("a/b", b"y")),
        tarred(("../evil", b"x")),
        tarred(("/evil", b"x")),
        tarred(("link", None), kind=tarfile.SYMTYPE, link="/etc/passwd"),
        tarred(("link", None), kind=tarfile.LNKTYPE, link="../evil"),
        tarred(("device", None), kind=tarfile.CHRTYPE),
        tarred(("pipe", None), kind=tarfile.FIFOTYPE),
        zipped(("bomb", b"\0" * (80 << 20))),
        tarred(("bomb", b"\0" * (80 << 20))),
        zipped(("cut", b"abc" * 1000))[:-40],
        b"no archive",
        b"",
    ],
    ids=range(19),
)
def test_hostile_archives(tmp_path: Path, content: bytes) -> None:
    url = URL if content[:2] in (b"PK", b"no", b"") else "https://example.com/a.tar.gz"
    with pytest.raises(UserError):
        fetch(url, tmp_path / "in/set", None, YAML, opener=serving(content))
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["in"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_what_describes_a_member_is_no_bomb(tmp_path: Path, kind: bytes) -> None:
    """tarfile reads such members into memory whole, however large they claim to be."""
    with pytest.raises(UserError, match="refused: a header claims 83886080 bytes"):
        fetch("https://example.com/a.tgz", tmp_path / "set", None, YAML, opener=serving(tarred(("x", b"\0" * (80 << 20)), kind=kind)))


@pytest.mark.parametrize("size", ["-512", "-1024"])
def test_a_size_below_zero_does_not_lead_in_circles(tmp_path: Path, size: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name in ("a", "b"):
            entry = tarfile.TarInfo(name)
            entry.pax_headers = {"size": size}
            out.addfile(entry)
    with pytest.raises(UserError, match="claims -"):
        fetch("https://example.com/a.tar", tmp_path / "set", None, YAML, opener=serving(buffer.getvalue()))


def test_a_download_leaves_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MIN_FREE_BYTES", 1 << 60)
    with pytest.raises(UserError, match="nearly full"):
        fetch(URL, tmp_path / "set", None, YAML, opener=serving(zipped(("a", b"1"))))
    assert list(tmp_path.iterdir()) == []


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_FILES", 3)
    (tmp_path / "a.zip").write_bytes(zipped(*((str(i), b"") for i in range(4))))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="more than 3 files"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_unpacked_files_are_not_executable(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped((special("run.sh", stat.S_IFREG | 0o6777), b"#!")))
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out/run.sh").stat().st_mode & 0o7111
