"""Sources of images: files, folders, lists, URLs, cameras, the screen.

`open_source` interprets the text a user typed and returns frames to iterate over, after checking that there are some.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.errors import UserError, nearest
from utils.files.safe_open import read_regular
from utils.images.reading import IMAGE_SUFFIXES, VIDEO_SUFFIXES, read_image
from utils.images.video import VideoError, VideoReader
from utils.inference.frame import SCHEMES, Frame, Source

MAX_LIST_BYTES = 64 << 20


def open_source(text: str, *, vid_stride: int = 1) -> Source:
    """Open what `text` names.

    Args:
        text: an image, video, folder, glob, .txt list, .streams list, URL, webcam number, or ``screen [n] [l t w h]``.
        vid_stride: use every k-th frame of videos and streams.

    Raises:
        UserError: it does not exist; suggests the nearest name.
    """
    text = text.strip()
    if not text:
        raise UserError("--source is empty; give an image, video, folder, glob, list, URL, webcam number or 'screen'")
    try:
        if not os.path.lexists(text):
            if re.fullmatch(r"screen(\s+-?\d+)*", text):
                from utils.inference.screen import Screen

                return Screen([int(word) for word in text.split()[1:]], stride=vid_stride)
            if text.isdecimal():
                return _streams([text], vid_stride)
            if "://" in text:
                return _from_url(text, vid_stride)
        if text.lower().endswith(".streams"):
            return _streams(_lines(_existing(text)), vid_stride)
        files, missing = _listed(_existing(text)) if text.lower().endswith(".txt") else (find_media(text), {})
        return Files(files, stride=vid_stride, missing=missing)
    except (OSError, RuntimeError) as error:  # a folder without permission, a name too long, ~nobody
        raise UserError(f"--source {text}: cannot be opened ({error})") from error


def _streams(urls: Sequence[str], stride: int) -> Source:
    from utils.inference.streams import Streams, check_url

    return Streams([check_url(url) for url in urls], stride=stride)


def _from_url(url: str, stride: int) -> Source:
    """An http(s) URL of a file is downloaded; everything else is a stream."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in SCHEMES:
        raise UserError(f"--source {url}: {scheme}:// is not supported; use {', '.join(SCHEMES)}, or a path")
    suffix = Path(rest.partition("?")[0].partition("#")[0]).suffix.lower()
    if not scheme.lower().startswith("http") or suffix not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        return _streams([url], stride)
    from utils.files.download import downloaded

    with contextlib.ExitStack() as stack:
        file = stack.enter_context(downloaded(url))
        return Files([file], stride=stride, cleanup=stack.pop_all())


class Files:
    """Images and videos on disk, in order. What cannot be read is recorded in `failures` and skipped."""

    live = False

    def __init__(
        self, files: Sequence[Path], *, stride: int = 1, missing: dict[str, str] | None = None, cleanup: contextlib.ExitStack | None = None
    ) -> None:
        """Read `files`, every `stride`-th frame of videos among them; `missing` count as failed, `cleanup` runs at the end."""
        self.files = files
        self.failures = dict(missing or {})
        self._named = len(files) + len(self.failures)
        self.notes: list[str] = []
        self._stride = stride
        self._cleanup = cleanup or contextlib.ExitStack()

    def __len__(self) -> int:
        """Number of files, missing ones included."""
        return self._named

    def __iter__(self) -> Iterator[Frame]:
        for position, (path, key) in enumerate(zip(self.files, output_keys(self.files), strict=True), 1):
            place = f"{position}/{len(self.files)}"
            try:
                if is_video(path):
                    yield from self._video(path, key, place)
                else:
                    yield Frame(read_image(path), path, key, f"image {place} {path}")
            except UserError as error:
                self.failures[str(path)] = str(error).removeprefix(f"{path}: ")

    def _video(self, path: Path, key: str, place: str) -> Iterator[Frame]:
        video = VideoReader(path)
        try:
            for number, image in video.frames(self._stride):
                total = video.total if video.counted else f"~{max(video.total, number)}"  # without a count, it is the duration by the rate
                title = f"video {place} ({number}/{total if video.total else '?'}) {path}"
                yield Frame(image, path, key, title, number=number, fps=video.fps / self._stride, position=video.time)
        finally:
            video.close()
        if not video.read:
            raise VideoError(f"{path}: no frame can be decoded")
        if video.skipped:
            reason = "and were skipped" if video.counted else "or the recording paused there"
            self.notes.append(f"{path}: {video.skipped} of {video.read + video.skipped} frames could not be decoded {reason}")

    def close(self) -> None:
        """Remove downloaded files."""
        self._cleanup.close()


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its suffix; a .gif is."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not path.name.startswith(".")


def _ordered(files: Sequence[Path]) -> list[Path]:
    """Each file once, images before videos, otherwise as given."""
    return sorted(dict.fromkeys(files), key=is_video)


def find_media(text: str) -> list[Path]:
    """The files that a path, folder (not its subfolders) or glob (``**`` is recursive) names, images before videos.

    Raises:
        UserError: it names none.
    """
    path = Path(text).expanduser()
    known = "known suffixes: " + " ".join(sorted(s[1:] for s in IMAGE_SUFFIXES | VIDEO_SUFFIXES))
    if path.is_dir():
        found = [p for p in sorted(path.iterdir()) if _is_media(p) and not p.is_dir()]
        if not found:
            hint = f"; for its subfolders use '{path}/**/*.jpg'" if any(p.is_dir() for p in path.iterdir()) else ""
            raise UserError(f"{path}: no image or video in this folder{hint} ({known})")
    elif path.is_file():
        found = [path]
        if not _is_media(path):
            raise UserError(f"{path}: not an image or video by its suffix ({known})")
    elif glob.has_magic(text):
        found = [p for p in map(Path, sorted(glob.glob(str(path), recursive=True))) if _is_media(p) and p.is_file()]  # noqa: PTH207
        if not found:
            raise UserError(f"--source {text}: no image or video matches ({known})")
    else:
        _existing(text)
        raise UserError(f"{path}: not a file or folder")
    return _ordered(found)


def _existing(text: str) -> Path:
    path = Path(text).expanduser()
    if os.path.lexists(path):
        return path
    folder = path.parent
    if not folder.is_dir():
        raise UserError(f"--source {text}: no such file or folder (there is no folder {str(folder)!r} either)")
    raise UserError(f"--source {text}: no such file or folder{nearest(path.name, (p.name for p in folder.iterdir()))}")


def _lines(path: Path) -> list[str]:
    """The lines of a list, without empty lines and comments (#)."""
    try:
        lines = [line.strip() for line in read_regular(path, MAX_LIST_BYTES).decode("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise UserError(f"{path}: the list is empty; write one source per line")
    return lines


def _listed(path: Path) -> tuple[list[Path], dict[str, str]]:
    """The files that a .txt list names, relative to the working directory or else to the list's folder; and what is missing."""
    found: list[Path] = []
    missing: dict[str, str] = {}
    for line in _lines(path):
        beside = str(path.parent / line)
        try:
            found += find_media(beside if not os.path.lexists(line) and os.path.lexists(beside) else line)
        except UserError as error:
            missing[line] = str(error).removeprefix(f"--source {line}: ").removeprefix(f"{line}: ")
    if not found:
        raise UserError(f"{path}: no line names an image or video; the first: {next(iter(missing))}: {next(iter(missing.values()))}")
    return _ordered(found), missing


def output_keys(files: Sequence[Path]) -> list[str]:
    """Give each file a unique name for its outputs.

    The stem where all stems differ; else the path below the files' common folder; and ``stem_suffix`` where files of one
    folder share a stem, or where an image has the name of a video frame's label file (``clip_3.jpg`` beside ``clip.mp4``).
    """
    folders = [os.path.abspath(file.parent) for file in files]  # noqa: PTH100  resolve() would follow links
    stems = [file.stem for file in files]
    if len({stem.casefold() for stem in stems}) < len(stems) and len(set(folders)) > 1:
        top = os.path.commonpath(folders)
        stems = [Path(os.path.relpath(folder, top), stem).as_posix() for folder, stem in zip(folders, stems, strict=True)]
        if any(stem.partition("/")[0].casefold() in ("labels", "crops") for stem in stems):
            stems = [f"images/{stem}" for stem in stems]
    clips = {stem.casefold() for stem, file in zip(stems, files, strict=True) if is_video(file)}
    taken: set[str] = set()
    keys = []
    for stem, file in zip(stems, files, strict=True):
        base, _, digits = stem.casefold().rpartition("_")
        frame_of_clip = digits.isdecimal() and base in clips and not is_video(file)
        key, number, suffix = stem, 1, file.suffix[1:].lower()
        while key.casefold() in taken or (frame_of_clip and key == stem):
            key = f"{stem}_{suffix}" if number == 1 else f"{stem}_{suffix}{number}"
            number += 1
        keys.append(key)
        taken.add(key.casefold())
    return keys
