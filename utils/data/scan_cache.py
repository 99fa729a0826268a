"""Scan results in the user's cache folder: flat arrays and JSON, no pickles, verified when read.

A file that is cut off, foreign or of another version counts as missing; a folder that cannot be written costs a warning.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.data.index import Index
from utils.data.labels.label_report import DataFinding, LabelReport
from utils.files.atomic import atomic_write
from utils.log import LOG

VERSION = 7


@dataclasses.dataclass(frozen=True, slots=True)
class ScanResult:
    """A scanned split, and what it takes to tell whether that still holds.

    Attributes:
        digest: of everything the annotations depend on but the image files: lists, label contents, class names.
        files: every image, usable or not, as text; `stamps` (f, 2) int64 are their sizes in bytes and times, (-1, -1) if absent.
        frames: (f, 3) int32 height, width and EXIF orientation; zeros for those left out, whose `faults` say why.
        index: the usable images.
    """

    digest: str
    files: list[str]
    stamps: NDArray[np.int64]
    frames: NDArray[np.int32]
    faults: dict[str, str]
    index: Index


_ARRAYS = {
    "stamps": np.int64,
    "frames": np.int32,
    "sizes": np.int32,
    "digests": np.uint8,
    "annotations": np.float32,
    "starts": np.int64,
    "areas": np.float32,
    "crowds": np.bool_,
    "points": np.float32,
    "point_starts": np.int64,
}
_DAMAGE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, MemoryError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What reading a crafted file may raise: NumPy parses an array's header as Python's literals."""


def cache_file(folder: Path, identity: str) -> Path:
    """Return the cache file of the split that `identity` names (its entries, not their content)."""
    return folder / f"labels-{hashlib.sha256(identity.encode(errors='surrogatepass')).hexdigest()[:24]}.npz"


def save_scan(file: Path, result: ScanResult) -> None:
    """Write a result in one step; a failure costs a warning."""
    index = result.index
    texts: dict[str, Any] = {"digest": result.digest, "files": result.files, "faults": result.faults}
    texts |= {"paths": list(map(str, index.paths)), "image_ids": index.image_ids, "report": dataclasses.asdict(index.report)}
    for name in ("strays", "passed_over"):  # found anew each time
        del texts["report"][name]
    text = json.dumps({"version": VERSION, **texts}).encode()
    arrays: dict[str, Any] = {name: getattr(result if hasattr(result, name) else index, name) for name in _ARRAYS}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file, durable=False) as out:
            np.savez(out, allow_pickle=False, text=np.frombuffer(text, np.uint8), **arrays)
    except OSError as error:
        LOG.warning("labels are not cached: %s (ATTUNE_CACHE names another folder)", error)


def load_scan(file: Path) -> ScanResult | None:
    """Read a result back, without the class names; None when there is none that is sure to be whole."""
    try:
        if not _is_uncompressed(file):
            return None
        with file.open("rb") as content, np.load(content, allow_pickle=False) as stored:
            text: dict[str, Any] = json.loads(stored["text"].tobytes())
            arrays: dict[str, Any] = {name: np.asarray(stored[name]) for name in _ARRAYS}
            if text.pop("version") != VERSION or any(arrays[name].dtype != kind for name, kind in _ARRAYS.items()):
                return None
        report = text.pop("report")
        findings = tuple(DataFinding(**entry) for entry in report.pop("findings"))
        own = {name: arrays.pop(name) for name in ("stamps", "frames")}
        paths, ids = tuple(map(Path, text.pop("paths"))), tuple(text.pop("image_ids"))
        index = Index(paths, image_ids=ids, names={}, report=LabelReport(**report, findings=findings), **arrays)
        result = ScanResult(**text, **own, index=index)
        return result if _is_consistent(result) else None
    except _DAMAGE:
        return None


def _is_uncompressed(file: Path) -> bool:
    """Whether a zip's members lie in it as they are: none can be larger than the file."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size for entry in entries)
    return stored and sum(entry.file_size for entry in entries) <= file.stat().st_size


def _is_consistent(result: ScanResult) -> bool:
    """Whether the lengths and offsets fit each other, so that no later access can fail."""
    index = result.index
    images, count = len(index.paths), len(index.annotations)
    checks = (
        result.stamps.shape == (len(result.files), 2),
        result.frames.shape == (len(result.files), 3) and bool((result.frames[:, 2] <= 8).all()),
        index.sizes.shape == (images, 2) and index.digests.shape == (images, 16) and len(index.image_ids) == images,
        index.annotations.shape == (count, 5) and index.areas.shape == index.crowds.shape == (count,),
        index.points.ndim == 2 and index.points.shape[1] == 2,
        _are_offsets(index.starts, images, count) and _are_offsets(index.point_starts, count, len(index.points)),
        all(type(text) is str for text in (*result.files, *result.faults, *result.faults.values())),
        all(type(number) in (int, str) for number in index.image_ids),
        all(type(getattr(index.report, f.name)) is int for f in dataclasses.fields(LabelReport) if f.type == "int"),
        bool(np.isfinite(index.annotations).all() and (index.annotations >= 0).all() and (index.annotations[:, 1:] <= 1).all()),
    )
    return all(checks)


def _are_offsets(starts: NDArray[np.int64], count: int, total: int) -> bool:
    return starts.shape == (count + 1,) and starts[0] == 0 and starts[-1] == total and bool((np.diff(starts) >= 0).all())
