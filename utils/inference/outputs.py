"""What detect.py writes: images, videos, label files, crops, one CSV and one JSON file, all below one run folder."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files.atomic import open_new, write_text
from utils.files.csv_cells import cell
from utils.images.video import MIN_FPS, VideoWriter
from utils.images.writing import WRITABLE, write_image
from utils.inference.frame import Frame
from utils.inference.results import Results

MAX_GAP = 10.0
"""Seconds without frames of a live stream that its video fills with a still, at most."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What to write."""

    images: bool = True
    txt: bool = False
    corners: bool = False
    """label files hold corners in place of centre and size"""
    conf: bool = False
    """lines of label files end with the confidence"""
    csv: bool = False
    json: bool = False
    crops: bool = False
    tracks: bool = False
    """the CSV has columns for frame and track"""


class Outputs:
    """The files of one run. `add` frame by frame, then `close`; files are named after `Frame.key`."""

    def __init__(self, folder: Path, options: OutputOptions) -> None:
        """Write what `options` say below `folder`, which exists."""
        self.folder, self.options = folder, options
        self.labels = 0
        self._videos: dict[str, _Recording] = {}
        header = ("Image Name", "Prediction", "Confidence", *(("Frame", "Track") if options.tracks else ()))
        self._csv = _CsvFile(folder / "predictions.csv", header) if options.csv else None
        self._json = _JsonList(folder / "predictions.json") if options.json else None

    def add(self, frame: Frame, results: Results, drawn: NDArray[np.uint8] | None) -> None:
        """Write the detections of a frame; `drawn` is the annotated image, where images are wanted.

        Raises:
            UserError: a file cannot be written.
        """
        name = f"{frame.key}_{frame.number}" if frame.number else frame.key
        file_name = frame.key if frame.time else frame.key + frame.path.suffix
        try:
            if self.options.txt:
                self._add_labels(name, results)
            if self._csv:
                self._csv.add(_csv_rows(file_name, frame.number, results))
            if self._json:
                image_id = int(name) if re.fullmatch(r"[0-9]{1,18}", name) else name
                self._json.add(entry | {"file_name": file_name} for entry in results.to_coco(image_id))
            if self.options.crops:
                self._add_crops(name, results)
            if drawn is not None and self.options.images:
                self._add_image(frame, drawn)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror or error})") from error

    def _add_labels(self, name: str, results: Results) -> None:
        """Write labels/{name}.txt; without detections, one of an earlier run into the same folder is removed."""
        path = self.folder / "labels" / f"{name}.txt"
        if not len(results):
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, results.to_txt(conf=self.options.conf, corners=self.options.corners), durable=False)
        self.labels += 1

    def _add_crops(self, name: str, results: Results) -> None:
        seen: Counter[int] = Counter()
        for crop in results.crops():
            seen[crop.cls] += 1
            count = f".{seen[crop.cls]}" if seen[crop.cls] > 1 else ""
            path = self.folder / "crops" / folder_name(crop.name, crop.cls) / f"{name}{count}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, crop.image, sharp=True)

    def _add_image(self, frame: Frame, drawn: NDArray[np.uint8]) -> None:
        if not frame.number:
            suffix = frame.path.suffix if frame.path.suffix.lower() in WRITABLE else ".jpg"
            path = self.folder / f"{frame.key}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, drawn)
            return
        if frame.key not in self._videos:
            if not frame.time:
                self._end_videos()  # files come one after the other, streams all at once
            self._videos[frame.key] = _Recording(self.folder / f"{frame.key}.mp4", frame, drawn)
        self._videos[frame.key].add(frame, drawn)

    def _end_videos(self) -> None:
        with contextlib.ExitStack() as closing:  # one that fails keeps no other from being completed
            while self._videos:
                closing.callback(self._videos.popitem()[1].writer.close)

    def close(self) -> None:
        """Close every file.

        Raises:
            UserError: a video or file could not be completed.
        """
        try:
            with contextlib.ExitStack() as closing:
                for file in (self._csv, self._json):
                    if file:
                        closing.callback(file.close)
                closing.callback(self._end_videos)
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written ({error.strerror or error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close; after an error discard the incomplete videos."""
        while self._videos and kind is not None:
            _, recording = self._videos.popitem()
            recording.writer.discard()
        self.close()


class _Recording:
    """A video being written, whose frames are shown for as long as in the source: until the next is due.

    Of a file's frames that come faster than the rate, some are left out.
    """

    def __init__(self, path: Path, first: Frame, drawn: NDArray[np.uint8]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fps = max(first.fps, MIN_FPS)  # a stride can ask for a frame in many minutes
        self.writer = VideoWriter(path, self._fps, (drawn.shape[0], drawn.shape[1]))
        self._start, self._last, self._due = first.position, first.time, 0.0
        self._still = drawn

    def add(self, frame: Frame, drawn: NDArray[np.uint8]) -> None:
        """Append a frame, after filling the time since the last one with copies of the last."""
        if frame.time:
            self._due += min(max(frame.time - self._last, 0.0), MAX_GAP) * self._fps
            self._last = frame.time
        else:
            self._due = round((frame.position - self._start) * self._fps)
        for _ in range(math.floor(self._due) - self.writer.frames):
            self.writer.write(self._still)
        self._still = drawn
        if frame.time or self.writer.frames <= self._due + 1:
            self.writer.write(drawn)


class _CsvFile:
    """A CSV file whose cells no spreadsheet reads as a formula."""

    def __init__(self, path: Path, header: tuple[str, ...]) -> None:
        self._file: IO[str] = _create(path)
        self._writer = csv.writer(self._file)
        self._writer.writerow(header)

    def add(self, rows: Iterator[tuple[str, ...]]) -> None:
        self._writer.writerows([cell(value) for value in row] for row in rows)

    def close(self) -> None:
        self._file.close()


class _JsonList:
    """A JSON list written entry by entry, so that memory does not grow with a stream's length."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = _create(path)
        self._file.write("[")
        self._before = "\n"

    def add(self, entries: Iterator[Mapping[str, Any]]) -> None:
        for entry in entries:
            self._file.write(self._before + json.dumps(entry))
            self._before = ",\n"

    def close(self) -> None:
        self._file.write("\n]\n")
        self._file.close()


def _csv_rows(file_name: str, number: int, results: Results) -> Iterator[tuple[str, ...]]:
    """File, class, confidence; where objects are tracked also the frame's number, and the track's or nothing."""
    for i, (cls, score) in enumerate(zip(results.cls.tolist(), results.conf, strict=True)):
        track = () if results.ids is None else (str(number), str(results.ids[i]) if results.ids[i] > 0 else "")
        yield file_name, results.name(cls), f"{score:.2f}", *track


def _create(path: Path) -> IO[str]:
    try:
        return open_new(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def folder_name(name: str, cls: int) -> str:
    """A class name as a folder name: it cannot point elsewhere, and two classes never share one.

    Letters, digits, spaces, ``-``, ``_`` and ``.`` stay; where anything was replaced, the class id is appended.
    """
    safe = re.sub(r"[^\w .-]", "_", name).strip(" .")[:80]
    if safe == name and safe:
        return safe
    return f"{safe}_{cls}" if safe else f"class{cls}"
