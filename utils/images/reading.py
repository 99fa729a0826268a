"""Read images of any format, whatever the suffix, as (H, W, 3) uint8 BGR, upright.

Of an animation the first frame is read. Alpha is dropped, not blended, as in cv2.imread. 16-bit images are scaled over their full range.
A truncated file is an error, never a half grey image.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.errors import UserError
from utils.files.safe_open import open_regular, read_regular

IMAGE_SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dib", ".dng", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm"),
        *(".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
    )
)
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PPM", "PNG", "AVIF", "PCX", "JPEG2000", "TIFF", "QOI", "TGA", "WEBP")
"""What Pillow may read, whatever the suffix. Of its others, EPS is a program, for which Pillow starts Ghostscript."""

VIDEO_SUFFIXES = frozenset({".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
"""A .gif is in both: a dataset takes its first frame, detect.py plays it."""

MAX_PIXELS = 178_956_970
"""Largest image that is decoded (half a gigabyte of BGR); Pillow's limit for decompression bombs."""

MAX_BYTES = 6 * MAX_PIXELS + (64 << 20)
"""Largest file that is read: `MAX_PIXELS` of three 16-bit channels, and metadata."""

_ORIENTATION = 0x0112  # the EXIF tag
_BROKEN: tuple[type[Exception], ...] = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, ArithmeticError, MemoryError),
    *(NotImplementedError, Warning, struct.error, zlib.error, Image.DecompressionBombError),
)
"""Exceptions of Pillow's readers on damaged files."""


class ImageError(UserError):
    """An image that cannot be read; the message names the file and the reason."""


def read_image(path: str | Path, *, min_size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 BGR, EXIF rotation applied.

    With `min_size` (height, width), a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, but not smaller than that.

    Raises:
        ImageError: missing, unreadable, not an image, truncated, or larger than `MAX_PIXELS`.
    """
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    return decode_image(data, path, min_size=min_size)


def decode_image(data: bytes, name: str | Path, *, min_size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decode a file's bytes as `read_image` does; `name` is for the message of the `ImageError` it may raise."""
    if not data:
        raise ImageError(f"{name}: the file is empty")
    image = None
    if _is_opencv_readable(data, data[-12:], len(data)):
        frame = _frame(data)
        _check_pixels(frame, name)
        image = _cv2(data, _flags(data, frame, min_size))
    return _decode_slowly(data, name) if image is None else image


def _flags(data: bytes, frame: tuple[int, int], min_size: tuple[int, int] | None) -> int:
    """Return OpenCV's decoding flags: JPEG's transform yields a reduced image in less time than the whole one."""
    if min_size is not None and data[:2] == b"\xff\xd8":
        for factor, flags in ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2)):
            if min(frame) >= factor * min(min_size) and max(frame) >= factor * max(min_size):  # whatever EXIF's rotation
                return flags
    return cv2.IMREAD_COLOR


def check_image(path: str | Path) -> tuple[int, int]:
    """Return the (height, width) of an image, upright, as `read_header` does."""
    return read_header(path)[:2]


def read_header(path: str | Path) -> tuple[int, int, int]:
    """Return the height and width of an image, upright, and its EXIF orientation (1 to 8), after checking that it is complete.

    JPEG, PNG and WebP show it at their end; every other format is decoded.

    Raises:
        ImageError: as `read_image`.
    """
    try:
        with open_regular(path) as file:  # a named pipe or a device would block
            head = file.read(32)
            length = file.seek(0, os.SEEK_END)
            file.seek(max(length - 12, 0))
            if head[:2] != b"BM" and length <= MAX_BYTES and _is_opencv_readable(head, file.read(), length):
                file.seek(0)
                with Image.open(file, formats=FORMATS) as image:
                    width, height = image.size
                    _check_pixels((height, width), path)
                    orientation = _orientation(image)
                    return (width, height, orientation) if orientation > 4 else (height, width, orientation)
    except ImageError:
        raise
    except _BROKEN:
        pass  # the full decoder decides, with the better message
    height, width, _ = read_image(path).shape
    try:
        with Image.open(path, formats=FORMATS) as image:
            return height, width, _orientation(image)
    except _BROKEN:  # a format that only OpenCV knows
        return height, width, 1


def _orientation(image: Image.Image) -> int:
    """Return the orientation that EXIF gives, 1 to 8.

    That of XMP and of ImageMagick's text in a PNG is forgotten, as neither browsers nor OpenCV turn by it.
    """
    if image.format == "PNG" and "exif" not in image.info:
        image.load()  # metadata may follow the pixels
    for key in ("xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        image.info.pop(key, None)
    value = image.getexif().get(_ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def image_traits(data: bytes, suffix: str) -> tuple[str, ...]:
    """Describe a file's content: its format, then what differs from a plain RGB image of that suffix.

    Empty for formats unknown to Pillow.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            turned = _orientation(image) > 1
            frames = getattr(image, "n_frames", 1)
            kind, mode, clear = str(image.format), image.mode, "transparency" in image.info
    except _BROKEN:
        return ()
    expected = Image.registered_extensions().get(suffix.lower(), kind)
    same = {expected, kind} in ({kind}, {"JPEG", "MPO"}) or suffix.lower() == ".dng"
    remarks = {
        f"called {suffix}": not same,
        "turned by EXIF": turned,
        "several frames": frames > 1 and kind != "MPO",
        "CMYK": mode == "CMYK",
        "grey": mode in ("1", "L", "LA"),
        "palette": mode.startswith("P"),
        "transparent": mode in ("RGBA", "LA", "PA") or clear,
        "16 bits and more": mode.startswith(("I", "F")),
    }
    return kind, *(remark for remark, holds in remarks.items() if holds)


def _is_opencv_readable(head: bytes, tail: bytes, length: int) -> bool:
    """Whether OpenCV may decode a file with this start, end and length: a format it reads correctly, not truncated."""
    if head[:3] == b"\xff\xd8\xff":
        return tail[-2:] == b"\xff\xd9"  # bytes after the end marker are allowed: Pillow decides
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return tail[-8:-4] == b"IEND"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= length
    return head[:2] == b"BM" and int.from_bytes(head[2:6], "little") == length


def _frame(data: bytes) -> tuple[int, int]:
    """(height, width) in the header of a file that `_is_opencv_readable` accepts; (0, 0) without one (the decoder reports why)."""
    if data[:4] == b"\x89PNG":
        return int.from_bytes(data[20:24]), int.from_bytes(data[16:20])
    if data[:2] == b"\xff\xd8":
        at = 2
        while at + 9 <= len(data) and data[at] == 0xFF:  # the segments up to the start of the frame (ITU T.81, B.2.2)
            marker = data[at + 1]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
            at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
        return 0, 0
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.size[1], image.size[0]
    except _BROKEN:
        return 0, 0


def _png_end(data: bytes) -> int:
    """Return the end of a PNG's last chunk, or of the first that is longer than the file."""
    at = 8
    while at + 12 <= len(data):
        at += 12 + int.from_bytes(data[at : at + 4])
    return at


def _check_pixels(size: tuple[int, int], name: str | Path) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"{name}: {size[1]} x {size[0]} pixels exceed the limit of {MAX_PIXELS}; reduce or split the image")


def _cv2(data: bytes, flags: int) -> NDArray[np.uint8] | None:
    if data[:4] == b"\x89PNG" and _png_end(data) > len(data):
        return None  # OpenCV allocates the stated size of a chunk, up to 2 GB, before reading it
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)  # type: ignore[return-value]
    except cv2.error:
        return None


def _decode_slowly(data: bytes, name: str | Path) -> NDArray[np.uint8]:
    """Decode with Pillow what OpenCV misreads; with OpenCV at full depth what Pillow does not know (16-bit colour TIFF, colour PFM)."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image.size[::-1], name)
            image.load()
            _orientation(image)
            upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith(("I", "F")):
            return np.repeat(_to_8_bit(np.asarray(upright))[..., None], 3, axis=2)
        return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[..., ::-1])
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        deep = _cv2(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if deep is None:
            raise ImageError(f"{name}: damaged, or not an image of a known format") from error
        return _to_8_bit(deep)
    except _BROKEN as error:
        raise ImageError(f"{name}: damaged ({' '.join(str(error).split()) or type(error).__name__})") from error


def _to_8_bit(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale to 0..255: integers from 0..65535, floats from 0..1 (unchanged where they exceed 1)."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8)
    values = np.nan_to_num(pixels.astype(np.float64), posinf=0, neginf=0)
    if pixels.dtype.kind == "f":
        gain = 255.0 if values.max(initial=0) <= 1 else 1.0
    else:
        gain = 1 / 257 if pixels.dtype.itemsize == 2 or values.max(initial=0) > 255 else 1.0
    return np.clip(np.rint(values * gain), 0, 255).astype(np.uint8)
