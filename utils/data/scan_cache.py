"""What a scan found, kept in the user's cache folder: flat arrays and JSON, no pickles, judged by content when it is read.

A file that is cut off, foreign or of another version counts as absent; a folder that cannot be written costs a warning.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.data.labels.label_report import Finding, LabelReport
from utils.log import LOG

VERSION = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A scanned split: its usable images and their rows, as in `Index`, and what it takes to tell whether that still holds.

    Attributes:
        digest: of everything the rows depend on but the image files: lists, label contents, class names.
        files: every image, usable or not, as text; `stamps` (f, 2) int64 are their sizes in bytes and times, (-1, -1) if absent.
        frames: (f, 2) int32 height and width; (0, 0) for those left out, whose `faults` say why.
        paths, ids, sizes, rows, starts, areas, crowds, points, point_starts: of the usable images.
    """

    digest: str
    files: list[str]
    stamps: NDArray[np.int64]
    frames: NDArray[np.int32]
    faults: dict[str, str]
    paths: list[str]
    ids: list[int | str]
    sizes: NDArray[np.int32]
    rows: NDArray[np.float32]
    starts: NDArray[np.int64]
    areas: NDArray[np.float32]
    crowds: NDArray[np.bool_]
    points: NDArray[np.float32]
    point_starts: NDArray[np.int64]
    report: LabelReport


_ARRAYS = {
    "stamps": np.int64,
    "frames": np.int32,
    "sizes": np.int32,
    "rows": np.float32,
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
"""What reading a file made to confuse may raise: NumPy parses an array's header as Python's literals."""
_TEXTS = ("digest", "files", "faults", "paths", "ids")


def cache_folder(given: str | Path | None = None) -> Path:
    """Return `given`, else ``$ATTUNE_CACHE``, ``$XDG_CACHE_HOME/attune`` or ``~/.cache/attune``; nothing is created."""
    if given is not None:
        return Path(given)
    if own := os.environ.get("ATTUNE_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "attune"


def cache_file(folder: Path, identity: str) -> Path:
    """Return the cache file of the split that `identity` names (its entries, not their content)."""
    return folder / f"labels-{hashlib.sha256(identity.encode(errors='surrogatepass')).hexdigest()[:24]}.npz"


def save_table(file: Path, table: Table) -> None:
    """Write a table next to where it belongs and move it there; failing is no error."""
    texts: dict[str, Any] = {name: getattr(table, name) for name in _TEXTS}
    texts["report"] = dataclasses.asdict(table.report)
    text = json.dumps({"version": VERSION, **texts}).encode()
    arrays = {name: getattr(table, name) for name in _ARRAYS}
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as out:
            temporary = Path(out.name)
            np.savez(out, allow_pickle=False, text=np.frombuffer(text, np.uint8), **arrays)
        temporary.replace(file)
    except OSError as error:
        LOG.warning("labels are not cached: %s (ATTUNE_CACHE names another folder)", error)
        if temporary:
            temporary.unlink(missing_ok=True)


def load_table(file: Path) -> Table | None:
    """Read a table back; None when there is none that can be trusted to be whole."""
    try:
        if not _plain(file):
            return None
        with file.open("rb") as content, np.load(content, allow_pickle=False) as stored:
            text: dict[str, Any] = json.loads(stored["text"].tobytes())
            arrays: dict[str, Any] = {name: np.asarray(stored[name]) for name in _ARRAYS}
            if text.pop("version") != VERSION or any(arrays[name].dtype != kind for name, kind in _ARRAYS.items()):
                return None
        report = text.pop("report")
        findings = tuple(Finding(**entry) for entry in report.pop("findings"))
        table = Table(**text, **arrays, report=LabelReport(**report, findings=findings))
        return table if _consistent(table) else None
    except _DAMAGE:
        return None


def _plain(file: Path) -> bool:
    """Whether a zip's members lie in it as they are: none can be larger than the file."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    stored = all(entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size for entry in entries)
    return stored and sum(entry.file_size for entry in entries) <= file.stat().st_size


def _consistent(table: Table) -> bool:
    """Whether the lengths and offsets fit each other, so that no later access can fail."""
    images, rows = len(table.paths), len(table.rows)
    shapes = (
        table.stamps.shape == table.frames.shape == (len(table.files), 2),
        table.sizes.shape == (images, 2) and len(table.ids) == images,
        table.rows.shape == (rows, 5) and table.areas.shape == table.crowds.shape == (rows,),
        table.points.ndim == 2 and table.points.shape[1] == 2,
        _offsets(table.starts, images, rows) and _offsets(table.point_starts, rows, len(table.points)),
        all(type(text) is str for text in (*table.files, *table.paths, *table.faults, *table.faults.values())),
        all(type(number) in (int, str) for number in table.ids),
        all(type(getattr(table.report, f.name)) is int for f in dataclasses.fields(LabelReport) if f.type == "int"),
        bool(np.isfinite(table.rows).all() and (table.rows >= 0).all() and (table.rows[:, 1:] <= 1).all()),
    )
    return all(shapes)


def _offsets(starts: NDArray[np.int64], count: int, total: int) -> bool:
    return starts.shape == (count + 1,) and starts[0] == 0 and starts[-1] == total and bool((np.diff(starts) >= 0).all())
