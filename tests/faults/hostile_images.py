"""Images that are programs, or a few bytes that ask for much work: read as a dataset, the doctor and detect.py read them."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults.image_files import chunk, encoded, frames

Entry = tuple[str, Any, str | None]

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n" + b"\n" * 200
UNREAD = "not an image of a known format|damaged"


def iptc(inside: bytes) -> bytes:
    """An IPTC record whose image is another file."""

    def record(group: int, number: int, data: bytes) -> bytes:
        return bytes([0x1C, group, number]) + struct.pack(">H", len(data)) + data

    return (
        record(3, 20, b"\0\x40")
        + record(3, 30, b"\0\x40")
        + record(3, 60, b"\x01\0")
        + record(3, 65, b"\0")
        + record(3, 120, b"\5")
        + record(8, 10, inside)
    )


def png(*extra: bytes) -> bytes:
    """A picture with more chunks before its pixels."""
    data = encoded("PNG")
    return data[:33] + b"".join(extra) + data[33:]


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """A picture with more segments before its frame."""
    data = encoded()
    return data[:2] + b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments) + data[2:]


def tiff(count: int, following: int) -> bytes:
    """A folder of so many entries, all of one tag, that names another place as the next."""
    entry = struct.pack("<HHII", 270, 2, 0x7FFFFFFF, 8)
    return b"II*\0" + struct.pack("<IH", 8, count) + entry * count + struct.pack("<I", following)


def contents() -> dict[str, tuple[bytes, str | None]]:
    """Each file, and how it is refused; None where it is a picture."""
    bomb = zlib.compress(bytes(1 << 28), 9)
    gif = frames("GIF")
    exif = b"Exif\0\0" + tiff(60, 8)
    tag = b"Exif\0\0II*\0" + struct.pack("<IHHHII", 8, 1, 0x8769, 4, 1, 8) + bytes(4)
    return {
        "PostScript": (EPS, UNREAD),
        "PostScript for DOS": (struct.pack("<IIIIIIIH", 0xC6D3D0C5, 32, len(EPS), 0, 0, 0, 0, 0xFFFF) + b"\0\0" + EPS, UNREAD),
        "PostScript in a record": (iptc(EPS), UNREAD),
        "a metafile": (b"\xd7\xcd\xc6\x9a\0\0" + bytes(40), UNREAD),
        "a vector picture": (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", UNREAD),
        "XPM of a million colours": (b'/* XPM */\nstatic char *a[] = {\n"9 9 999999 6",\n' + b'"aaaaaa c #000000",\n' * 200_000, UNREAD),
        "a PNG with a text of 256 MB": (png(chunk(b"zTXt", b"a\0\0" + bomb)), None),
        "a PNG with a profile of 256 MB": (png(chunk(b"iCCP", b"a\0\0" + bomb)), None),
        "a PNG with 200 000 chunks": (png(*[chunk(b"tEXt", b"a\0b")] * 200_000), None),
        "a PNG with 200 000 empty chunks": (png(*[chunk(b"IDAT", b"")] * 200_000), None),
        "a PNG whose pixels are 256 MB": (encoded("PNG")[:33] + chunk(b"IDAT", bomb) + chunk(b"IEND", b""), None),
        "a GIF of 100 000 frames": (gif[:-1] + gif[gif.index(b"\x2c") : -1] * 10_000 + b";", None),
        "a JPEG with 60 000 segments": (jpeg(*[(0xE9, b"abc")] * 60_000), None),
        "a JPEG with 20 000 empty comments": (jpeg(*[(0xFE, b"")] * 20_000), None),
        "a JPEG with 10 000 profiles": (jpeg(*[(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(500))] * 10_000), None),
        "a JPEG with 20 MB of XMP": (jpeg(*[(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 60_000)] * 300), None),
        "a JPEG with an EXIF that goes in circles": (jpeg((0xE1, exif)), None),
        "a JPEG with an EXIF in itself": (jpeg((0xE1, tag)), None),
        "a TIFF that goes in circles": (tiff(1, 8), UNREAD),
        "a TIFF of 60 000 long texts": (tiff(60_000, 8), UNREAD),
        "a QOI of nothing": (b"qoif" + struct.pack(">IIBB", 13_000, 13_000, 3, 0), UNREAD),
        "a bitmap of runs": (b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 13_000, 13_000, 1, 8, 1, 0, 1, 1, 0, 0), UNREAD),
        "a PPM of comments": (b"P6\n" + b"#a\n" * 1_000_000 + b"9 9\n255\n", UNREAD),
        "a PPM of a long number": (b"P6\n" + b"9" * 2_000_000, UNREAD),
        "a TGA of 13 000 pixels": (bytes([0, 0, 10, *bytes(9)]) + struct.pack("<HHBB", 13_000, 13_000, 24, 0), UNREAD),
    }


def images(folder: Path, canary: Path) -> Iterator[Entry]:
    """Every attack by way of an image."""
    from utils.images.reading import image_traits, read_header, read_image

    programs = folder / "bin"
    programs.mkdir()
    for name in ("gs", "gswin64c", "magick", "convert"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (programs / name).chmod(0o755)

    def used(path: Path) -> None:
        with mock.patch.dict("os.environ", {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}):
            image_traits(path.read_bytes(), ".jpg")
            read_header(path)
            read_image(path)

    for at, (name, (content, refusal)) in enumerate(contents().items()):
        path = folder / f"{at}.jpg"
        path.write_bytes(content)
        yield f"image: {name}", lambda path=path: used(path), refusal
