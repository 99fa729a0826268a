"""Looking at every image and label file of a split once, and only as far as the cache does not know them already."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.data.config import DataConfig
from utils.data.labels.coco import CocoImage, class_map, coco_labels, read_coco
from utils.data.labels.find_files import Item, entry_images, with_labels
from utils.data.labels.label_report import Finding, Findings, LabelReport, Labels
from utils.data.labels.voc import read_voc
from utils.data.labels.yolo import read_yolo
from utils.data.scan_cache import VERSION, Table, cache_file, cache_folder, load_table, save_table
from utils.errors import UserError
from utils.files.safe_open import read_regular
from utils.images.reading import ImageError, check_image
from utils.log import LOG

LEAST_SIDE = 10
"""Images with a shorter side, in pixels, are left out, as YOLOv5 does."""

MOST_LABEL = 256 << 20
MOST_JSON = 8 << 30
"""Largest label file and COCO file, in bytes."""

_THREADS = 8


class Sources(NamedTuple):
    """What a split consists of, no image looked into yet: label files with their contents, and COCO files with theirs."""

    items: list[Item]
    contents: list[bytes | OSError | None]
    jsons: list[tuple[Path, Path | None, bytes]]


class Job(NamedTuple):
    """One image to be read: its labels are the `content` of a label file, or the annotations of a COCO file."""

    image: Path
    label: Path | None
    content: bytes | OSError | None
    coco: CocoImage | None
    file: int  # which COCO file


def scan(data: DataConfig, split: str, cache_dir: str | Path | None) -> Table:
    """Return what the images and labels of a split hold, from the cache as far as nothing has changed.

    Raises:
        UserError: no such split, or its folders, lists or JSON files cannot be read.
    """
    entries = data.entries(split)
    sources = gather(entries, data)
    digest = _digest(sources, data)
    file = cache_file(cache_folder(cache_dir), "\n".join(os.path.abspath(entry) for entry in entries))  # noqa: PTH100
    known = load_table(file)
    if known and known.digest == digest and _unchanged(known, searched=bool(sources.jsons)):
        return dataclasses.replace(known, report=dataclasses.replace(known.report, split=split))
    table = _build(split, sources, digest, data, known)
    save_table(file, table)
    return table


def scan_afresh(data: DataConfig, split: str) -> tuple[Table, Sources]:
    """Return what `scan` does, and what it was made of, without any cache: nothing is written.

    Raises:
        UserError: as `scan`.
    """
    sources = gather(data.entries(split), data)
    return _build(split, sources, "", data, None), sources


def gather(entries: Iterable[Path], data: DataConfig) -> Sources:
    """List the images of folders, lists and COCO files, and read the label files."""
    items: dict[str, Item] = {}
    jsons = []
    for entry in entries:
        partner = data.partners.get(entry)
        if entry.suffix.lower() == ".json":
            jsons.append((entry, partner, _content(entry)))
            continue
        for item in with_labels(entry_images(entry), partner):
            items.setdefault(os.path.normpath(item.image), item)
    ordered = [items[key] for key in sorted(items)]
    return Sources(ordered, [_try_content(item.label) for item in ordered], jsons)


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, MOST_JSON)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _try_content(path: Path | None) -> bytes | OSError | None:
    if path is None:
        return None
    try:
        return read_regular(path, MOST_LABEL)
    except OSError as error:
        return error


def _digest(sources: Sources, data: DataConfig) -> str:
    """Hash what the rows follow from: readers' version, class names, image lists, contents of the label files."""
    digest = hashlib.sha256(f"{VERSION} {data.root} {sorted(data.names.items())}".encode())
    for item, content in zip(sources.items, sources.contents, strict=True):
        digest.update(f"\0{item.image}\0{item.label}\0".encode(errors="surrogatepass"))
        digest.update(content if isinstance(content, bytes) else repr(content).encode())
    for path, images, content in sources.jsons:
        digest.update(f"\0{path}\0{images}\0".encode(errors="surrogatepass"))
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _stamps(files: Iterable[str | Path]) -> NDArray[np.int64]:
    """(n, 2): size in bytes and time of change in ns of each file, (-1, -1) for one that is not there."""
    stamps = []
    for file in files:
        try:
            entry = os.stat(file)  # noqa: PTH116
            stamps.append((entry.st_size, entry.st_mtime_ns))
        except (OSError, ValueError):
            stamps.append((-1, -1))
    return np.array(stamps, np.int64).reshape(-1, 2)


def _unchanged(known: Table, *, searched: bool) -> bool:
    """Whether the images are those of the table. One that was `searched` for and not found may lie in another place by now."""
    if searched and (known.stamps[:, 0] < 0).any():
        return False
    return bool((_stamps(known.files) == known.stamps).all())


def _jobs(sources: Sources, data: DataConfig) -> tuple[list[Job], list[dict[int, int]], list[Findings]]:
    """Return one job an image, sorted, the class maps of the COCO files, and what was wrong with these as a whole."""
    jobs = {
        os.path.normpath(item.image): Job(*item, content, None, -1) for item, content in zip(sources.items, sources.contents, strict=True)
    }
    maps, findings = [], []
    for number, (path, images, content) in enumerate(sources.jsons):
        coco = read_coco(path, content, images, data.root)
        maps.append(class_map(coco, data.names))
        findings.append(coco.findings)
        for image in coco.images:
            key = os.path.normpath(image.path)
            if jobs.setdefault(key, Job(image.path, path, None, image, number)).coco is not image:
                coco.findings.drop("entry", f"image {image.number!r}: {image.path} is in the split already")
    return [jobs[key] for key in sorted(jobs)], maps, findings


def _build(split: str, sources: Sources, digest: str, data: DataConfig, known: Table | None) -> Table:
    jobs, maps, findings = _jobs(sources, data)
    if len(jobs) > 5000:
        LOG.info("%s: reading %d labels and image headers (once; the cache keeps them)", split, len(jobs))
    files = [str(job.image) for job in jobs]
    stamps = _stamps(files)
    frames, faults = _headers(files, stamps, known)
    usable = [i for i, file in enumerate(files) if file not in faults]
    classes = {name: number for number, name in sorted(data.names.items(), reverse=True)}
    labels = [_labels(jobs[i], (int(frames[i, 0]), int(frames[i, 1])), classes, maps, data.nc) for i in usable]
    report = _report(split, [jobs[i] for i in usable], labels, files, stamps, faults, findings)
    counts = [len(found.rows) for found in labels]
    rows = _stack([found.rows for found in labels], 5)
    polygons = [polygon for found in labels for polygon in found.polygons]
    pixels = np.repeat(frames[usable].astype(np.float64).prod(1), counts)
    areas = _stack([found.area[:, None] for found in labels], 1)[:, 0]
    return Table(
        digest=digest,
        files=files,
        stamps=stamps,
        frames=frames,
        faults=faults,
        paths=[files[i] for i in usable],
        ids=[_number(jobs[i]) for i in usable],
        sizes=frames[usable],
        rows=rows.astype(np.float32),
        starts=_offsets(counts),
        areas=np.where(np.isnan(areas), rows[:, 3] * rows[:, 4] * pixels, areas).astype(np.float32),
        crowds=_stack([found.crowd[:, None] for found in labels], 1)[:, 0].astype(np.bool_),
        points=_stack(polygons, 2).astype(np.float32),
        point_starts=_offsets([len(polygon) for polygon in polygons]),
        report=report,
    )


def _stack(parts: list[NDArray[np.float64]] | list[NDArray[np.float32]] | list[NDArray[np.bool_]], width: int) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((0, width)), *parts])


def _offsets(counts: list[int]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))


def _number(job: Job) -> int | str:
    if job.coco:
        return job.coco.number
    stem = job.image.stem
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 19 else stem


def _headers(files: list[str], stamps: NDArray[np.int64], known: Table | None) -> tuple[NDArray[np.int32], dict[str, str]]:
    """(f, 2) heights and widths, (0, 0) where the image is left out, and why; unchanged files are not opened again."""
    old = {file: i for i, file in enumerate(known.files)} if known else {}
    frames = np.zeros((len(files), 2), np.int32)
    faults: dict[str, str] = {}
    fresh = []
    for i, file in enumerate(files):
        at = old.get(file)
        if known is None or at is None or stamps[i, 0] < 0 or (known.stamps[at] != stamps[i]).any():
            fresh.append(i)
            continue
        frames[i] = known.frames[at]
        if file in known.faults:
            faults[file] = known.faults[file]
    with ThreadPoolExecutor(_THREADS) as pool:
        for i, (size, fault) in zip(fresh, pool.map(_header, (files[i] for i in fresh)), strict=True):
            frames[i] = size
            if fault:
                faults[files[i]] = fault
    return frames, faults


def _header(file: str) -> tuple[tuple[int, int], str]:
    try:
        size = check_image(file)
    except ImageError as error:
        return (0, 0), str(error).removeprefix(f"{file}: ")
    if min(size) < LEAST_SIDE:
        return (0, 0), f"{size[1]} x {size[0]} pixels; the shorter side must have at least {LEAST_SIDE}"
    return size, ""


def _labels(job: Job, size: tuple[int, int], classes: dict[str, int], maps: list[dict[int, int]], nc: int) -> Labels:
    if job.coco:
        assert job.label is not None
        return coco_labels(job.coco, job.label, maps[job.file], size)
    if job.label is None:
        return Labels.of(Findings(job.image))
    if not isinstance(job.content, bytes):
        findings = Findings(job.label)
        findings.drop("file", f"cannot be read ({job.content.strerror if job.content else ''})")
        return Labels.of(findings)
    if job.label.suffix == ".xml":
        return read_voc(job.label, job.content, classes, size)
    return read_yolo(job.label, job.content, nc)


def _report(
    split: str,
    jobs: list[Job],
    labels: list[Labels],
    files: list[str],
    stamps: NDArray[np.int64],
    faults: dict[str, str],
    general: list[Findings],
) -> LabelReport:
    absent = {file for file, stamp in zip(files, stamps, strict=True) if stamp[0] < 0}
    crowd = sum(int(found.crowd.sum()) for found in labels)
    found = sum(bool(job.coco.annotations) if job.coco else job.label is not None for job in jobs)
    empty = sum(job.coco is None and isinstance(job.content, bytes) and not job.content.strip() for job in jobs)
    everything = [*general, *(one.findings for one in labels)]
    return LabelReport(
        split=split,
        images=len(jobs),
        found=found,
        missing=len(jobs) - found,
        empty=empty,
        corrupt=len(faults) - len(absent & faults.keys()),
        absent=len(absent),
        labelled=sum(len(one.rows) > 0 for one in labels),
        boxes=sum(len(one.rows) for one in labels) - crowd,
        crowd=crowd,
        dropped=sum(one.dropped for one in everything),
        findings=tuple(_findings(everything, faults)),
        kinds=dict(sum((one.kinds for one in everything), Counter({"image": len(faults)} if faults else {}))),
    )


def _findings(everything: list[Findings], faults: dict[str, str]) -> Iterator[Finding]:
    for file, fault in faults.items():
        yield Finding(file, 0, f"image left out: {fault}", "image")
    for findings in everything:
        yield from findings.all()
