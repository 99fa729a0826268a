"""What a source yields, and what a source is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps")
"""URL schemes of streams; files come over the first two."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a source.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        path: the file, or a live source's name.
        key: relative path without suffix of the files written for it, unique within the source.
        title: its name in the log.
        number: of the frame in its video or stream, from 1; 0 for an image.
        fps: frames per second of the video or stream, after the stride; 0 for an image.
        time: when a live frame was taken, in seconds since 1970; 0 for files.
        position: of a frame in its video file, in seconds from the start; 0 for others.
    """

    image: NDArray[np.uint8]
    path: Path
    key: str
    title: str
    number: int = 0
    fps: float = 0.0
    time: float = 0.0
    position: float = 0.0


class Source(Protocol):
    """What `open_source` returns: iterate over it once, then `close` it."""

    live: bool

    @property
    def failures(self) -> dict[str, str]:
        """Unreadable files or dead streams so far, with the reason."""

    @property
    def notes(self) -> list[str]:
        """Further remarks for the end of the run, such as frames that could not be decoded."""

    def __iter__(self) -> Iterator[Frame]: ...
    def __len__(self) -> int: ...
    def close(self) -> None: ...
