"""Image files of every kind, sound and not, each with what has to be said about it."""

from __future__ import annotations

import functools
import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

Verdict = tuple[int, int] | str
"""(height, width) of a usable image, or what its finding must contain."""

Case = tuple[str, Callable[[Path], object], Verdict]
"""File name, what makes it, verdict."""


@functools.cache
def picture(height: int = 60, width: int = 80) -> Image.Image:
    """A picture without symmetry: noise over a gradient."""
    ramp = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 50, height)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 3))
    return Image.fromarray(np.clip(ramp * (1.0, 0.7, 0.4) + noise, 0, 255).astype(np.uint8))


def encoded(kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (60, 80), **options: object) -> bytes:
    """The picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture(*size).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more than it holds."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9999)) + chunk(b"IEND", b"")


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(encoded())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_canvas(width: int, height: int) -> bytes:
    """An extended WebP (VP8X) whose canvas is much larger than its picture."""
    canvas = struct.pack("<I", 0)[:4] + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + encoded("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def deep(suffix: str, channels: int) -> bytes:
    values = np.random.default_rng(0).integers(0, 65535, (60, 80, channels), np.uint16)
    return cv2.imencode(suffix, values)[1].tobytes()


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(kind, exif=exif)


def frames(kind: str, **options: object) -> bytes:
    return encoded(kind, save_all=True, append_images=[picture().transpose(Image.Transpose.ROTATE_180)] * 3, **options)


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def sparse(path: Path) -> None:
    """A terabyte that takes no room; outside the dataset, whose files are all hashed."""
    target = path.parents[2] / "sparse"
    with target.open("wb") as file:
        file.truncate(1 << 40)
    path.symlink_to(target)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def loop(path: Path) -> None:
    path.symlink_to(path.with_name("loop-b.jpg"))
    path.with_name("loop-b.jpg").symlink_to(path)


def sound() -> list[Case]:
    """Files that are unusual, and are read all the same."""
    upright, lying = (60, 80), (80, 60)
    cases: list[Case] = [(f"exif-{n}.jpg", content(turned(n)), lying if n > 4 else upright) for n in range(1, 9)]
    cases += [(f"exif-{n}.{k.lower()}", content(turned(n, k)), lying) for n in (6, 8) for k in ("PNG", "WEBP")]
    modes = (("cmyk.jpg", "JPEG", "CMYK"), ("grey.jpg", "JPEG", "L"), ("grey.png", "PNG", "L"), ("grey-alpha.png", "PNG", "LA"))
    modes += (("rgba.png", "PNG", "RGBA"), ("palette.png", "PNG", "P"), ("bits.png", "PNG", "1"), ("cmyk.tif", "TIFF", "CMYK"))
    cases += [(name, content(encoded(kind, mode)), upright) for name, kind, mode in modes]
    cases += [(f"deep-{n}{s}", content(deep(s, n)), upright) for n in (1, 3) for s in (".png", ".tiff")]
    wrong = (("png.jpg", "PNG"), ("jpeg.png", "JPEG"), ("webp.jpg", "WEBP"), ("bmp.jpeg", "BMP"), ("gif.jpg", "GIF"), ("tiff.jpg", "TIFF"))
    cases += [(f"wrong-{name}", content(encoded(kind)), upright) for name, kind in wrong]
    cases += [(f"moving.{k.lower()}", content(frames(k)), upright) for k in ("GIF", "WEBP", "PNG", "TIFF")]
    cases += [
        ("behind-the-end.jpg", content(encoded() + b"a camera's own data"), upright),
        ("progressive.jpg", content(encoded(progressive=True)), upright),
        ("UPPER.JPG", content(encoded()), upright),
        ("long.jpg", content(encoded(size=(12, 40000))), (12, 40000)),
        ("tall.png", content(encoded("PNG", size=(40000, 12))), (40000, 12)),
        ("ten.png", content(encoded("PNG", size=(10, 10))), (10, 10)),
        (os.fsdecode(b"not-utf8-\xff\xfe.jpg"), content(encoded()), upright),
        ("line\nbreak.jpg", content(encoded()), upright),
        ("blank at end .jpg", content(encoded()), upright),
        ("x" * 240 + ".jpg", content(encoded()), upright),
    ]
    return cases


def broken() -> list[Case]:
    """Files that cannot be used."""
    damaged = "damaged|not an image|cut off"
    cases: list[Case] = [
        (f"cut-{share}.{kind.lower()}", content(cut(encoded(kind), share)), damaged)
        for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
        for share in (0.02, 0.5, 0.95)
    ]
    bombs = (("png", png_header(30000, 30000)), ("jpg", jpeg_header(60000, 60000)), ("webp", webp_canvas(16384, 16384)))
    cases += [(f"bomb.{suffix}", content(data), "pixels exceed the limit|bomb|could not create decoder") for suffix, data in bombs]
    cases += [
        (
            "bomb-gif.gif",
            content(b"GIF89a" + struct.pack("<HH", 65535, 65535) + encoded("GIF")[10:]),
            "pixels exceed the limit|bomb",
        ),
        ("empty.jpg", content(b""), "empty"),
        ("zeros.jpg", content(bytes(5000)), damaged),
        ("text.jpg", content(b"<html>404 not found</html>"), damaged),
        ("only-ends.jpg", content(b"\xff\xd8\xff\xd9"), damaged),
        ("noise.png", content(np.random.default_rng(1).bytes(3000)), damaged),
        ("one.png", content(encoded("PNG", size=(1, 1))), "must be >= 10"),
        ("thin.png", content(encoded("PNG", size=(500, 9))), "must be >= 10"),
        ("sparse.jpg", sparse, "larger than"),
        ("pipe.jpg", os.mkfifo, "not a file"),
        ("socket.jpg", bind, "cannot be read"),
        ("folder.jpg", Path.mkdir, "not a file"),
        ("device.jpg", link("/dev/zero"), "not a file"),
        ("to-folder.jpg", link("."), "not a file"),
    ]
    return cases


def absent() -> list[Case]:
    """Names in the folder behind which there is nothing."""
    return [
        ("dangling.jpg", link("nowhere.jpg"), "No such file"),
        ("self.jpg", link("self.jpg"), "symbolic links"),
        ("loop-a.jpg", loop, "symbolic links"),
    ]
