"""Tracks: an object keeps its number through the frames of a video or stream."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.errors import UserError
from utils.inference.results import Results

if TYPE_CHECKING:
    from utils.inference.frame import Frame

LOW = 0.1
"""Minimum confidence of a detection that continues a track (ByteTrack, section 4.1)."""
MIN_IOU = 0.2
"""Minimum IoU of a detection and where its track is expected (ByteTrack, section 4.1)."""


class Tracks:
    """ByteTrack (Zhang et al., ECCV 2022, arXiv:2110.06864), as the package trackers has it, for each class of each video or stream.

    The boxes of a frame are matched with where each track is expected: first those of at least `conf`, then the fainter ones, which
    keeps an object that is half hidden. A box of at least `conf` that fits no track begins one, and has a number when it is found in
    the next frame too. A track without a box waits for a second.

    Attributes:
        found: for each video or stream, the class of each track; the number of a track is its place, from 1.
    """

    def __init__(self, conf: float) -> None:
        """Begin tracks with boxes of at least `conf`.

        Raises:
            UserError: the package trackers is not installed.
        """
        try:
            self._tracker = importlib.import_module("trackers").ByteTrackTracker
            self._detections = importlib.import_module("supervision").Detections
        except ImportError as error:
            raise UserError("--track needs the package trackers: pip install trackers") from error
        self._conf = conf
        self._trackers: dict[str, dict[int, Any]] = {}
        self._numbers: dict[tuple[str, int, int], int] = {}
        self.found: dict[str, list[int]] = {}

    def add(self, frame: Frame, results: Results) -> Results:
        """Number the detections in the next frame of a video or stream.

        Args:
            frame: the frames of each `key` come in order; several streams may take turns.
            results: of a predictor whose `conf` is at most `LOW`.

        Returns:
            The detections of at least `conf` and those with a track; `ids` is -1 where there is no track yet.
        """
        trackers = self._trackers.setdefault(frame.key, {})
        for cls in set(results.cls.tolist()) - set(trackers):
            thresholds = {"track_activation_threshold": self._conf, "high_conf_det_threshold": self._conf}
            trackers[cls] = self._tracker(frame_rate=frame.fps, minimum_iou_threshold=MIN_IOU, **thresholds)
        ids = np.full(len(results), -1, np.int64)
        for cls, tracker in sorted(trackers.items()):
            index = np.flatnonzero(results.cls == cls)
            given = self._detections(xyxy=results.xyxy[index], confidence=results.conf[index], data={"index": index})
            matched = tracker.update(given, timestamp=frame.time or frame.position)
            for i, own in zip(matched.data.get("index", ()), matched.tracker_id, strict=True):
                if own >= 0:
                    ids[i] = self._number(frame.key, cls, int(own))
        keep = (ids > 0) | (results.conf >= self._conf)
        return dataclasses.replace(results, xyxy=results.xyxy[keep], conf=results.conf[keep], cls=results.cls[keep], ids=ids[keep])

    def _number(self, key: str, cls: int, own: int) -> int:
        """The number, within its video or stream, of a class's own track."""
        if (key, cls, own) not in self._numbers:
            self.found.setdefault(key, []).append(cls)
            self._numbers[key, cls, own] = len(self.found[key])
        return self._numbers[key, cls, own]
