"""Every kind of image file comes out as (H, W, 3) uint8 BGR, upright; what is broken is an ImageError and stays as it is."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from utils.images.reading import IMAGE_SUFFIXES, ImageError, check_image, decode_image, read_header, read_image

CORNERS = np.zeros((32, 64, 3), np.uint8)  # RGB: red top left, blue top right, green bottom left, black bottom right
CORNERS[:16, :32], CORNERS[:16, 32:], CORNERS[16:, :32] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
BGR = CORNERS[..., ::-1]


def save(path: Path, mode: str = "RGB", **options: object) -> Path:
    Image.fromarray(CORNERS).convert(mode).save(path, **options)
    return path


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for the seams, where JPEG and WebP smear the colours."""
    return a.shape == b.shape and a.dtype == np.uint8 and bool((np.abs(a.astype(int) - b) > 16).mean() < 0.1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif", "gif"])
def test_each_format_under_each_suffix(tmp_path: Path, suffix: str) -> None:
    right = save(tmp_path / f"a.{suffix}", quality=95)
    wrong = tmp_path / "b.jpg"
    wrong.write_bytes(right.read_bytes())
    for path in (right, wrong):
        assert close(read_image(path), BGR)
        assert check_image(path) == (32, 64)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    turns = {1: BGR, 2: BGR[:, ::-1], 3: BGR[::-1, ::-1], 4: BGR[::-1], 5: BGR.transpose(1, 0, 2), 6: np.rot90(BGR, -1)}
    turns |= {7: BGR[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(BGR)}
    assert close(read_image(path), turns[orientation])
    assert check_image(path) == turns[orientation].shape[:2]


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
def test_an_orientation_outside_exif_turns_nothing(tmp_path: Path, suffix: str) -> None:
    """XMP's, and that of the text that ImageMagick writes into a PNG: OpenCV and browsers show such images as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n")
    written = {"pnginfo": text} if suffix == "png" else {"xmp": b'<x:xmpmeta tiff:Orientation="6"/>'}
    path = save(tmp_path / f"a.{suffix}", quality=95, **written)
    with Image.open(path) as image:
        image.load()
        assert image.getexif()[0x0112] == 6  # Pillow does turn by it
    assert close(read_image(path), BGR)
    assert check_image(path) == (32, 64)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("P", "png"), ("1", "png"), ("LA", "png"), ("CMYK", "jpg"), ("CMYK", "tif"), ("P", "gif")]
)
def test_modes_become_bgr(tmp_path: Path, mode: str, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", mode)
    with Image.open(path) as image:
        assert close(read_image(path), np.asarray(image.convert("RGB"))[..., ::-1])


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_alpha_is_dropped_not_composed(tmp_path: Path, suffix: str) -> None:
    rgba = np.dstack((CORNERS, np.zeros((32, 64), np.uint8)))
    Image.fromarray(rgba).save(tmp_path / f"a.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    assert close(read_image(tmp_path / f"a.{suffix}"), BGR)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_is_scaled_over_its_full_range(tmp_path: Path, suffix: str, channels: int) -> None:
    deep = np.zeros((10, 30, channels), np.uint16)
    deep[:, 10:20], deep[:, 20:] = 32768, 65535
    assert cv2.imwrite(str(tmp_path / f"a.{suffix}"), deep)
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.shape == (10, 30, 3)
    assert image[0, 0].tolist() == [0] * 3
    assert image[0, 15].tolist() == [128] * 3
    assert image[0, 25].tolist() == [255] * 3


@pytest.mark.parametrize("channels", [1, 3])
def test_floats_from_0_to_1(tmp_path: Path, channels: int) -> None:
    values = np.full((10, 12, channels), 0.5, np.float32)
    values[:5] = 1
    assert cv2.imwrite(str(tmp_path / "a.pfm"), values)
    image = read_image(tmp_path / "a.pfm")
    assert check_image(tmp_path / "a.pfm") == image.shape[:2] == (10, 12)
    assert sorted({image[0, 0, 0], image[9, 0, 0]}) == [128, 255]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    second = Image.fromarray(255 - CORNERS)
    save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **({"lossless": True} if suffix == "webp" else {}))
    assert close(read_image(tmp_path / f"a.{suffix}"), BGR)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp", "gif"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_cut_off_files_are_errors_and_stay_as_they_are(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 90, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, Image.registered_extensions()[f".{suffix}"])
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    before = path.read_bytes()
    for reader in (read_image, check_image):
        with pytest.raises(ImageError, match=f"a.{suffix}: "):
            reader(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_bytes_behind_the_end_are_no_fault(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", quality=95)
    path.write_bytes(path.read_bytes() + b"appended by a camera")
    assert close(read_image(path), BGR)
    assert check_image(path) == (32, 64)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n" + b"\0" * 30 + b"IEND\xaeB`\x82", b"RIFF\0\0\0\0WEBP", b"BM\2\0\0\0"],
)
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    for reader in (read_image, check_image):
        with pytest.raises(ImageError, match=r"a\.jpg: "):
            reader(tmp_path / "a.jpg")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("", "missing.jpg", "pipe.jpg", "loop.jpg", "folder.jpg", "a\0b.jpg"):
        for reader in (read_image, check_image):
            with pytest.raises(ImageError):
                reader(tmp_path / name)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")


def test_decompression_bombs_are_refused_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(20_000, 20_000))
    small = save(tmp_path / "b.jpg")
    data = bytearray(small.read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    (tmp_path / "b.jpg").write_bytes(data)
    for name in ("a.png", "b.jpg"):
        for reader in (read_image, check_image):
            with pytest.raises(ImageError, match=r"limit of 178956970|bomb"):
                reader(tmp_path / name)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(1 << 40)
    for reader in (read_image, check_image):
        with pytest.raises(ImageError, match=r"a\.jpg: cannot be read \(larger than 1087 MiB\)"):
            reader(tmp_path / "a.jpg")


def test_decode_image_names_what_it_is_given() -> None:
    with pytest.raises(ImageError, match=r"^http://x/y: "):
        decode_image(b"nothing", "http://x/y")


def test_a_chunk_that_claims_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.png").read_bytes()
    at = whole.index(b"IDAT")
    for length in (len(whole), 2**31 - 1, 2**32 - 1):
        (tmp_path / "b.png").write_bytes(whole[: at - 4] + length.to_bytes(4) + whole[at:])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for reader in (read_image, check_image):
            with contextlib.suppress(ImageError):
                reader(tmp_path / "b.png")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for suffix in ("jpg", "png", "webp", "tif", "bmp", "gif"):
        whole = save(tmp_path / f"a.{suffix}").read_bytes()
        for _ in range(30):
            damaged = bytearray(whole)
            for at in rng.integers(0, len(whole), 4):
                damaged[at] = rng.integers(256)
            (tmp_path / "b").write_bytes(damaged)
            for reader in (read_image, check_image):
                with contextlib.suppress(ImageError):
                    reader(tmp_path / "b")


def test_the_fruits_with_wrong_suffixes(shared: Path) -> None:
    for name, shape in (("apple_1", (349, 349, 3)), ("apple_37", (352, 389, 3)), ("orange_1", (347, 640, 3))):  # RGBA, palette, palette
        path = shared / "fruits" / "train" / f"{name}.jpg"
        assert read_image(path).shape == shape
        assert check_image(path) == shape[:2]


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".dng", ".pfm"}))  # Pillow writes no raw image, and grey floats only
def test_each_suffix_that_a_dataset_may_have(tmp_path: Path, suffix: str) -> None:
    kind = Image.registered_extensions().get(suffix)
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {suffix}")
    path = save(tmp_path / f"a{suffix}", "1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB")
    assert check_image(path) == read_image(path).shape[:2] == (32, 64)


def test_no_program_is_started_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n" + b"\n" * 200)
    for read in (read_image, read_header):
        with pytest.raises(ImageError, match="not an image of a known format"):
            read(path)
    assert not (tmp_path / "ran").exists()
