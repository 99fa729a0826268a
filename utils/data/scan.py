"""Read every image header and label file of a split, as far as the cache does not know them already.

Label files are read each time, since a digest of their content tells whether the cache still holds; images are read once, and again
when their length or time has changed.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.data.config import DataConfig
from utils.data.index import Index
from utils.data.labels.coco import class_map, coco_annotations, read_coco
from utils.data.labels.find_files import ListedImage
from utils.data.labels.frames import turn_stored
from utils.data.labels.label_report import DataFinding, FileFindings, ImageAnnotations, LabelReport
from utils.data.labels.voc import read_voc
from utils.data.labels.yolo import read_yolo
from utils.data.scan_cache import ScanResult, cache_file, load_scan, save_scan
from utils.data.sources import SplitSources, gather, sources_digest
from utils.errors import UserError
from utils.files.cache_folder import cache_folder
from utils.images.reading import read_header
from utils.log import LOG
from utils.versions import file_digest

MIN_SIDE = 10
"""Images with a shorter side, in pixels, are left out, as YOLOv5 does."""


_THREADS = 8


def load_index(
    data: DataConfig,
    split: str,
    *,
    single_cls: bool = False,
    classes: Collection[int] | None = None,
    cache_dir: str | Path | None = None,
) -> Index:
    """Read and verify the labels and image headers of a split, or take them from the cache.

    Args:
        single_cls: make every class 0, see `Index.select`.
        classes: keep the annotations of these classes only. Ids and names stay those of the dataset.
        cache_dir: folder of the cache; None takes ``ATTUNE_CACHE``, else ``attune`` in the user's cache folder.

    Raises:
        UserError: no such split, its files are missing or cannot be read as a dataset, they hold no usable image, or `classes` has an
            unknown class.
    """
    if unknown := sorted(set(classes or ()) - set(data.names)):
        raise UserError(f"class {unknown[0]} is outside 0 to {data.nc - 1}, the classes of {data.yaml}")
    index = scan(data, split, cache_dir).index
    if not len(index):
        passed = "".join(f"; {path} is none by its suffix" for path in index.report.passed_over[:1])
        first = next(index.report.lines(1), f"no image file was found{passed}")
        raise UserError(f"{data.yaml}: split '{split}' has no usable image: {first} ({', '.join(map(str, data.splits[split]))})")
    return index.select(classes, single_cls=single_cls)


def scan(data: DataConfig, split: str, cache_dir: str | Path | None) -> ScanResult:
    """Return what the images and labels of a split hold, from the cache as far as nothing has changed.

    Raises:
        UserError: no such split, or its folders, lists or JSON files cannot be read.
    """
    entries = data.entries(split)
    sources = gather(entries, data)
    digest = sources_digest(sources, data)
    file = cache_file(cache_folder(cache_dir), "\n".join(os.path.abspath(entry) for entry in entries))  # noqa: PTH100
    known = load_scan(file)
    searched = bool(known and sources.jsons and (known.stamps[:, 0] < 0).any())  # one not found may lie in another place by now
    if known and known.digest == digest and not searched and (_stamps(known.files) == known.stamps).all():
        report = sources.complete(known.index.report, split)
        return dataclasses.replace(known, index=dataclasses.replace(known.index, names=dict(data.names), report=report))
    result = _scan(split, sources, digest, data, known)
    save_scan(file, result)
    return result


def scan_uncached(data: DataConfig, split: str) -> tuple[ScanResult, SplitSources]:
    """Return what `scan` does, and what it was made of, without any cache: nothing is written.

    Raises:
        UserError: as `scan`.
    """
    sources = gather(data.entries(split), data)
    return _scan(split, sources, "", data, None), sources


def _all_images(sources: SplitSources, data: DataConfig) -> tuple[list[ListedImage], list[FileFindings]]:
    """Return the images of the label files and of the COCO files, sorted, and what is wrong with the COCO files as a whole."""
    images = {os.path.normpath(source.path): source for source in sources.images}
    findings = []
    for path, folder, content in sources.jsons:
        coco = read_coco(path, content, folder, data.root)
        classes = class_map(coco, data.names)
        findings.append(coco.findings)
        for image in coco.images:
            source = ListedImage(image.path, path, coco=image, coco_classes=classes)
            if images.setdefault(os.path.normpath(image.path), source) is not source:
                coco.findings.drop("entry", f"image {image.image_id!r}: {image.path} is in the split already")
    return [images[key] for key in sorted(images)], findings


def _stamps(files: Iterable[str | Path]) -> NDArray[np.int64]:
    """(n, 2): size in bytes and time of change in ns of each file, (-1, -1) for a missing one."""
    stamps = []
    for file in files:
        try:
            entry = os.stat(file)  # noqa: PTH116
            stamps.append((entry.st_size, entry.st_mtime_ns))
        except (OSError, ValueError):
            stamps.append((-1, -1))
    return np.array(stamps, np.int64).reshape(-1, 2)


def _scan(split: str, sources: SplitSources, digest: str, data: DataConfig, known: ScanResult | None) -> ScanResult:
    images, coco_findings = _all_images(sources, data)
    if len(images) > 5000:
        LOG.info("%s: reading %d labels and images (once; what is found is cached)", split, len(images))
    files = [str(image.path) for image in images]
    stamps = _stamps(files)
    frames, digests, faults = _read_images(files, stamps, known)
    usable = [i for i, file in enumerate(files) if file not in faults]
    classes = {name: number for number, name in sorted(data.names.items(), reverse=True)}
    annotations = [_read_annotations(images[i], frames[i], classes, data) for i in usable]
    turned = turn_stored([_tool(images[i]) for i in usable], annotations, frames[usable, 2].tolist())
    absent = {file for file, stamp in zip(files, stamps, strict=True) if stamp[0] < 0}
    report = sources.complete(_report(split, annotations, faults, absent, [*coco_findings, *turned]), split)
    counts = [len(found.annotations) for found in annotations]
    boxes = _stack([found.annotations for found in annotations], 5)
    polygons = [polygon for found in annotations for polygon in found.polygons]
    sizes = frames[usable, :2]
    pixels = np.repeat(sizes.astype(np.float64).prod(1), counts)
    areas = _stack([found.area[:, None] for found in annotations], 1)[:, 0]
    index = Index(
        paths=tuple(Path(files[i]) for i in usable),
        sizes=sizes,
        digests=digests[usable],
        image_ids=tuple(_image_id(images[i]) for i in usable),
        names=dict(data.names),
        annotations=boxes.astype(np.float32),
        starts=_offsets(counts),
        areas=np.where(np.isnan(areas), boxes[:, 3] * boxes[:, 4] * pixels, areas).astype(np.float32),
        crowds=_stack([found.crowd[:, None] for found in annotations], 1)[:, 0].astype(np.bool_),
        points=_stack(polygons, 2).astype(np.float32),
        point_starts=_offsets([len(polygon) for polygon in polygons]),
        report=report,
    )
    return ScanResult(digest=digest, files=files, stamps=stamps, frames=frames, faults=faults, index=index)


def _stack(parts: list[NDArray[np.float64]] | list[NDArray[np.float32]] | list[NDArray[np.bool_]], width: int) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((0, width)), *parts])


def _offsets(counts: list[int]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))


def _image_id(image: ListedImage) -> int | str:
    if image.coco:
        return image.coco.image_id
    stem = image.path.stem
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 19 else stem


def _read_images(
    files: list[str], stamps: NDArray[np.int64], known: ScanResult | None
) -> tuple[NDArray[np.int32], NDArray[np.uint8], dict[str, str]]:
    """(f, 3) heights, widths and EXIF orientations, (f, 16) digests, zeros for what is left out, and why; only changed files are read."""
    old = {file: i for i, file in enumerate(known.files)} if known else {}
    kept = dict(zip(map(str, known.index.paths), known.index.digests, strict=True)) if known else {}
    frames, digests = np.zeros((len(files), 3), np.int32), np.zeros((len(files), 16), np.uint8)
    faults: dict[str, str] = {}
    fresh = []
    for i, file in enumerate(files):
        at = old.get(file)
        same = known is not None and at is not None and bool((known.stamps[at] == stamps[i]).all())
        if stamps[i, 0] < 0:  # a list may name very many that are missing: not worth a thread
            faults[file] = _read_image(file)[2]
        elif known and same and file in known.faults:
            faults[file] = known.faults[file]
        elif known and same and file in kept:
            frames[i], digests[i] = known.frames[at], kept[file]
        else:
            fresh.append(i)
    with ThreadPoolExecutor(_THREADS) as pool:
        for i, (frame, digest, fault) in zip(fresh, pool.map(_read_image, (files[i] for i in fresh)), strict=True):
            frames[i], digests[i] = frame, np.frombuffer(digest, np.uint8)
            if fault:
                faults[files[i]] = fault
    return frames, digests, faults


def _read_image(file: str) -> tuple[tuple[int, int, int], bytes, str]:
    """Height, width and EXIF orientation of an image, a digest of its file, and why it is left out."""
    try:
        height, width, orientation = read_header(file)
        digest = bytes.fromhex(file_digest(file))[:16]
    except UserError as error:
        return (0, 0, 0), bytes(16), str(error).removeprefix(f"{file}: ")
    if min(height, width) < MIN_SIDE:
        return (0, 0, 0), bytes(16), f"{width} x {height} pixels; the shorter side must be >= {MIN_SIDE}"
    return (height, width, orientation), digest, ""


def _tool(image: ListedImage) -> Path | None:
    """Return the JSON of an image, or the folder of its XML file: what one labelling tool wrote, in pixels."""
    if image.coco or image.label is None:
        return image.label
    return image.label.parent if image.label.suffix.lower() == ".xml" else None


def _read_annotations(image: ListedImage, frame: NDArray[np.int32], classes: dict[str, int], data: DataConfig) -> ImageAnnotations:
    """Read an image's annotations; those in pixels may be of the stored image. `frame` is its height, width and orientation."""
    height, width, orientation = frame.tolist()
    if image.label is None:
        return ImageAnnotations(FileFindings(image.path))
    if image.coco:
        return coco_annotations(image.coco, image.label, image.coco_classes or {}, (height, width), orientation)
    if not isinstance(image.content, bytes):
        findings = FileFindings(image.label)
        findings.drop("file", f"cannot be read ({image.content.strerror if image.content else ''})")
        return ImageAnnotations(findings)
    if image.label.suffix.lower() == ".xml":
        return read_voc(image.label, image.content, classes, (height, width), orientation)
    return read_yolo(image.label, image.content, data.nc, data.keypoints)


def _report(
    split: str,
    annotations: list[ImageAnnotations],
    faults: dict[str, str],
    absent: set[str],
    coco_findings: list[FileFindings],
) -> LabelReport:
    crowd = sum(int(found.crowd.sum()) for found in annotations)
    by_file = [*coco_findings, *(found.findings for found in annotations)]
    left_out = [DataFinding(file, 0, f"image left out: {fault}", "image") for file, fault in faults.items()]
    return LabelReport(
        split=split,
        images=len(annotations),
        corrupt=len(faults) - len(absent & faults.keys()),
        absent=len(absent),
        labelled=sum(len(one.annotations) > 0 for one in annotations),
        boxes=sum(len(one.annotations) for one in annotations) - crowd,
        crowd=crowd,
        dropped=sum(one.dropped for one in by_file),
        findings=(*left_out, *(finding for one in by_file for finding in one.all())),
        kinds=dict(sum((one.kinds for one in by_file), Counter({"image": len(faults)} if faults else {}))),
    )
