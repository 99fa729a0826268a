"""Videos, folders and lists of them, and run folders, that are odd; and what is to come of each."""

from __future__ import annotations

import functools
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.faults.videos import flipped, make_clip, patched, zeros

FRAMES = 8
WHOLE = (FRAMES, FRAMES)

Make = Callable[[Path], object]


class Attack(NamedTuple):
    """What is tried through detect.py.

    Attributes:
        name: in words.
        make: lays out the input in a folder; returns what --source is given, or None where it is the folder.
        expected: minimum and maximum number of frames that come out, or what the error says.
        flags: more of the command line.
        during: what happens to the folder when two frames have been read.
        before: what lies in the run folder, which is written to again.
        stop: after how many frames Ctrl-C is pressed.
    """

    name: str
    make: Make
    expected: tuple[int, int] | str
    flags: Sequence[str] = ()
    during: Make | None = None
    before: Make | None = None
    stop: int = 0


def attacks(site: str) -> Iterator[Attack]:
    """All of them; `site` serves cameras."""
    yield from _damaged()
    yield from _shapes()
    yield from _folders()
    yield from _changing()
    yield from _run_folders()
    yield from _flags()
    yield from _streams(site)


@functools.cache
def clip(suffix: str = "mp4", code: str = "mp4v", size: tuple[int, int] = (48, 64), frames: int = FRAMES) -> bytes:
    """A video as the bytes of a file."""
    with tempfile.TemporaryDirectory() as folder:
        return make_clip(Path(folder, f"clip.{suffix}"), code, size, frames)


def gif(size: tuple[int, int], frames: int = FRAMES, **options: object) -> bytes:
    """An animated GIF of (height, width) pixels."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)) for _ in range(frames)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.gif")
        images[0].save(path, save_all=True, append_images=images[1:], **options)
        return path.read_bytes()


def files(**named: bytes) -> Make:
    """Write files; `a_mp4` is named a.mp4."""
    return lambda folder: [folder.joinpath(".".join(name.rsplit("_", 1))).write_bytes(data) for name, data in named.items()] and None


def _damaged() -> Iterator[Attack]:
    mp4, avi, mkv = clip(), clip("avi", "MJPG"), clip("mkv")
    for name, data in (("mp4", mp4), ("avi", avi), ("mkv", mkv)):
        yield Attack(f"zeros in a {name}", files(**{f"a_{name}": zeros(data, 0.4, 0.6)}), (1, FRAMES))
        yield Attack(f"flipped bytes in a {name}", files(**{f"a_{name}": flipped(data, 30)}), (1, FRAMES))
    yield Attack("the first half of an avi", files(a_avi=avi[: len(avi) // 2]), (2, 6))
    yield Attack("the first half of a mkv", files(a_mkv=mkv[: len(mkv) * 6 // 10]), (1, 7))
    yield Attack("the first half of a mp4", files(a_mp4=mp4[: len(mp4) // 2]), "no source could be read")
    yield Attack("a mkv without frames", files(a_mkv=mkv[: mkv.index(b"\x1f\x43\xb6\x75")]), "no source could be read")
    yield Attack("an empty mp4", files(a_mp4=b""), "no source could be read")
    yield Attack("a damaged one between two good ones", files(a_mp4=mp4, b_mp4=mp4[:99], c_avi=avi), (2 * FRAMES, 2 * FRAMES))
    rate = avi.index(b"strh") + 28
    for values in ((1, 10_000), (0, 0), (1, 2**31 - 1), (2**31 - 1, 1), (1000, 1)):
        yield Attack(f"a rate of {values[1]}/{values[0]}", files(a_avi=patched(avi, rate, "<II", *values)), WHOLE)


def _shapes() -> Iterator[Attack]:
    for suffix, code in (("ts", "mp4v"), ("mpg", "mpg1"), ("mkv", "MJPG")):
        data = clip(suffix, code) + clip(suffix, code, (72, 40))
        yield Attack(f"a {suffix} that changes its size", files(**{f"a_{suffix}": data}), (FRAMES, 2 * FRAMES))
        yield Attack(f"a {suffix} that changes its size, in tiles", files(**{f"a_{suffix}": data}), (FRAMES, 2 * FRAMES), ("--tile", "32"))
    for size in ((1, 1), (2, 1), (1, 300), (900, 1), (3, 5)):
        yield Attack(f"a gif of {size[1]}x{size[0]} pixels", files(a_gif=gif(size)), WHOLE)
    yield Attack("a gif of 300x1 pixels in tiles", files(a_gif=gif((1, 300))), WHOLE, ("--tile", "32", "--overlap", "0.9"))
    yield Attack("a video of 64x2 pixels", files(a_avi=clip("avi", "MJPG", (2, 64))), WHOLE)
    yield Attack("one frame", files(a_mp4=clip(frames=1)), (1, 1))
    yield Attack("one frame as a gif", files(a_gif=gif((40, 40), 1)), (1, 1))
    yield Attack("a gif without a pause between frames", files(a_gif=gif((40, 40), duration=0)), (FRAMES - 1, FRAMES))
    yield Attack("a gif with a minute between frames", files(a_gif=gif((40, 40), 3, duration=60_000)), (3, 3))
    turned = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0), "0 times": (0, 0, 0, 0), "a thousand times": (32767, 0, 0, 32767)}
    mp4 = clip()
    for turn, (a, b, c, d) in turned.items():
        matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        at = mp4.index(b"tkhd") + 44
        yield Attack(f"a video turned by {turn}", files(a_mp4=mp4[:at] + matrix + mp4[at + 36 :]), WHOLE)


def _image(path: Path) -> None:
    Image.new("RGB", (40, 40)).save(path)


def _list(*lines: str) -> Make:
    def make(folder: Path) -> Path:
        files(a_mp4=clip(), b_mp4=clip())(folder)
        _image(folder / "c.png")
        (folder / "list.txt").write_text("\n".join(lines))
        return folder / "list.txt"

    return make


def _in_folders(folder: Path) -> str:
    for name in ("x/labels/a.mp4", "x/crops/a.mp4", "a.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(clip())
    return f"{folder}/**/*.mp4"


def _with_image(folder: Path) -> None:
    files(a_mp4=clip())(folder)
    _image(folder / "b.png")


def _folders() -> Iterator[Attack]:
    both, one = (2 * FRAMES, 2 * FRAMES), "b.png is a single image|c.png is a single image"
    yield Attack("a video and an image", _with_image, one, ("--track",))
    yield Attack("a glob of a video and an image", lambda folder: (_with_image(folder), f"{folder}/*")[1], one, ("--track",))
    yield Attack("a list of a video and an image", _list("a.mp4", "c.png"), one, ("--track",))
    yield Attack("a list of a video twice", _list("a.mp4", "a.mp4", "./a.mp4"), WHOLE)
    yield Attack("a list of a video and what is missing", _list("a.mp4", "gone.mp4", "/dev/zero", "b.mp4"), both)
    yield Attack("a list of itself", _list("list.txt", "list.txt"), "no line names")
    yield Attack("folders called like those that are written", _in_folders, (3 * FRAMES, 3 * FRAMES))
    same = {"a_mp4": clip(), "a_avi": clip("avi", "MJPG"), "a_1_mp4": clip(), "A_mp4": clip()}
    yield Attack("names that differ in case, suffix and number", files(**same), (4 * FRAMES, 4 * FRAMES))
    names = (
        *("predictions.mp4", "labels.mp4", "crops.mp4", "%d%s.mp4", "=1+1.mp4", "a\nb\r.mp4", "\x1b[2J.mp4", "-rf.mp4"),
        *("\u202e.mp4", "'\".mp4", "\u6f22" * 83 + ".mp4", " .mp4", "a:b.mp4", "a\\b.mp4"),
    )
    for name in names:
        yield Attack(f"a video called {name!a:.40}", _called(name), WHOLE)


def _called(name: str) -> Make:
    return lambda folder: folder.joinpath(name).write_bytes(clip()) and None


def _two(folder: Path) -> None:
    files(a_avi=clip("avi", "MJPG"), b_avi=clip("avi", "MJPG"))(folder)


def _linked(path: Path, target: str | Path) -> None:
    path.unlink()
    path.symlink_to(target)


def _changing() -> Iterator[Attack]:
    avi = clip("avi", "MJPG")
    within: dict[str, Make] = {
        "is deleted": lambda path: path.unlink(),
        "is cut to nothing": lambda path: os.truncate(path, 0),
        "is cut in half": lambda path: os.truncate(path, len(avi) // 2),
        "is exchanged": lambda path: path.with_suffix(".new").write_bytes(clip()) and path.with_suffix(".new").replace(path),
        "is written over": lambda path: path.write_bytes(bytes(len(avi))),
        "is written over by another": lambda path: path.write_bytes(clip("avi", "MJPG", (90, 30))),
        "grows": lambda path: path.write_bytes(avi + avi),
        "becomes a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
        "becomes a link to /dev/zero": lambda path: _linked(path, "/dev/zero"),
        "becomes a folder": lambda path: (path.unlink(), path.mkdir()),
    }
    for name, change in within.items():
        for which, least in (("a.avi", FRAMES + 2), ("b.avi", FRAMES)):

            def during(folder: Path, which: str = which, change: Make = change) -> None:
                change(folder / which)

            yield Attack(f"{which} {name} while a.avi is read", _two, (least, 3 * FRAMES), during=during)
    moved = (FRAMES, 2 * FRAMES)
    yield Attack("the folder is moved while it is read", _two, moved, during=lambda folder: folder.rename(folder.with_name("moved")))


def _into(name: str, kind: str) -> Make:
    """Plant, in the run folder, something of the name of a file that will be written; it leads to the file that must not change."""

    def plant(out: Path) -> None:
        path, target = out / name, out.parent.parent / "precious" / "file"
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case "link":
                path.symlink_to(target)
            case "hard link":
                path.hardlink_to(target)
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "link to a folder":
                path.symlink_to(target.parent)
            case "link within":
                path.symlink_to(out / "elsewhere")

    return plant


def _run_folders() -> Iterator[Attack]:
    make = files(a_mp4=clip())
    for name in ("a.mp4", "labels/a_1.txt", "predictions.csv", "predictions.json"):
        yield Attack(f"a link as {name}", make, "is a link to", before=_into(name, "link"))
        yield Attack(f"a pipe as {name}", make, "neither a file nor a folder", before=_into(name, "pipe"))
        yield Attack(f"a hard link as {name}", make, WHOLE, before=_into(name, "hard link"))
        yield Attack(f"a folder as {name}", make, "cannot be written|is a folder|directory", before=_into(name, "folder"))
    yield Attack("a link as labels", make, "is a link to", before=_into("labels", "link to a folder"))
    yield Attack("a file as labels", make, "cannot be written", before=lambda out: (out / "labels").write_text("x"))
    yield Attack("a link as a.mp4 to the run folder", make, WHOLE, before=_into("a.mp4", "link within"))


def _flags() -> Iterator[Attack]:
    make = files(a_mp4=clip(size=(120, 160)))
    whole = {
        "no minimum confidence": ("--conf-thres", "0"),
        "no suppression": ("--iou-thres", "1", "--conf-thres", "0"),
        "all suppressed": ("--iou-thres", "0", "--agnostic-nms"),
        "one box": ("--max-det", "1"),
        "2000 boxes": ("--imgsz", "320", "--max-det", "2000", "--conf-thres", "0", "--iou-thres", "1", "--nosave"),
        "tiles of the smallest size": ("--tile", "32", "--overlap", "0.5"),
        "tiles larger than the video": ("--tile", "1000000000"),
        "tiles and 1000 boxes": ("--tile", "96", "--max-det", "1000", "--iou-thres", "1", "--nosave"),
        "flips and scales": ("--augment",),
        "tiles, flips and scales": ("--augment", "--tile", "96"),
    }
    for name, flags in whole.items():
        yield Attack(name, make, WHOLE, flags)
    for stride, frames in (("2", 4), ("7", 2), ("8", 1), ("1000000000", 1), ("99999999999999999999", 1)):
        yield Attack(f"--vid-stride {stride}", make, (frames, frames), ("--vid-stride", stride))
    for flags, said in (
        (("--vid-stride", "0"), "vid-stride"),
        (("--vid-stride", "-1"), "vid-stride"),
        (("--tile", "1"), "tile must be"),
        (("--tile", "-5"), "tile must be"),
        (("--tile", "64", "--overlap", "1"), "overlap must be"),
        (("--tile", "64", "--overlap", "nan"), "overlap must be"),
        (("--conf-thres", "nan"), "conf"),
    ):
        yield Attack(" ".join(flags), make, said, flags)


def _streams(site: str) -> Iterator[Attack]:
    def streams(*names: str) -> Make:
        def make(folder: Path) -> Path:
            (folder / "list.streams").write_text("".join(f"{site}{name}\n" for name in names))
            return folder / "list.streams"

        return make

    yield Attack("a stream that changes its size", streams("sizes"), (12, 12), stop=12)
    yield Attack("a stream of half frames", streams("halves"), (8, 8), stop=8)
    yield Attack("a stream that dies", streams("dying"), (2, 12))
    yield Attack("a stream that stalls", streams("stalling"), (2, 14))
    yield Attack("streams that differ in a sign", streams("good-1", "good+1", "good-1?"), (12, 12), stop=12)
    yield Attack("a good stream beside bad ones", streams("good", "garbage", "missing", "closing"), (12, 12), stop=12)
    yield Attack("a stream in tiles, every third frame", streams("good"), (6, 6), ("--tile", "64", "--vid-stride", "3"), stop=6)
