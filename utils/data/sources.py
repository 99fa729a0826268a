"""What a split is read from: the images of its entries, their label files with contents, and COCO files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from utils.data.config import DataConfig
from utils.data.labels.find_files import ListedImage, entry_images, stray_labels, with_labels
from utils.data.labels.image_lists import read_source
from utils.data.labels.label_report import LabelReport
from utils.data.scan_cache import VERSION
from utils.files.safe_open import read_regular

MAX_LABEL_BYTES = 256 << 20
MAX_JSON_BYTES = 8 << 30


class SplitSources(NamedTuple):
    """What the entries of a split name.

    Attributes:
        images: those of folders and lists, with their label files.
        jsons: the COCO files as (path, image folder, content).
        strays: label files in the folders of labels that belong to no image.
        passed_over: files that hold an image without an image's suffix.
    """

    images: list[ListedImage]
    jsons: list[tuple[Path, Path | None, bytes]]
    strays: list[str]
    passed_over: list[str]

    def complete(self, report: LabelReport, split: str) -> LabelReport:
        """Return a report with what does not follow from the images and labels that are read."""
        unlabelled = sum(image.label is None for image in self.images)
        return dataclasses.replace(
            report, split=split, unlabelled=unlabelled, strays=tuple(self.strays), passed_over=tuple(self.passed_over)
        )


def gather(entries: Iterable[Path], data: DataConfig) -> SplitSources:
    """List the images of folders, lists and COCO files, and read the label files."""
    images: dict[str, ListedImage] = {}
    jsons = []
    strays: set[str] = set()
    passed_over: set[str] = set()
    for entry in entries:
        partner = data.partners.get(entry)
        if entry.suffix.lower() == ".json":
            jsons.append((entry, partner, read_source(entry, MAX_JSON_BYTES)))
            continue
        files, others = entry_images(entry)
        listed = list(with_labels(files, partner))
        strays |= stray_labels(listed, partner)
        passed_over.update(map(str, others))
        for source in listed:
            images.setdefault(os.path.normpath(source.path), source)
    strays -= {str(source.label) for source in images.values()}
    return SplitSources([_with_content(images[key]) for key in sorted(images)], jsons, sorted(strays), sorted(passed_over))


def _with_content(source: ListedImage) -> ListedImage:
    if source.label is None:
        return source
    try:
        return source._replace(content=read_regular(source.label, MAX_LABEL_BYTES))
    except OSError as error:
        return source._replace(content=error)


def sources_digest(sources: SplitSources, data: DataConfig) -> str:
    """Hash what annotations follow from: the readers' version, class names, image lists, contents of the label files."""
    digest = hashlib.sha256(f"{VERSION} {data.root} {sorted(data.names.items())} {data.keypoints}".encode(errors="surrogatepass"))
    for source in sources.images:
        digest.update(f"\0{source.path}\0{source.label}\0".encode(errors="surrogatepass"))
        digest.update(source.content if isinstance(source.content, bytes) else repr(source.content).encode())
    for path, images, content in sources.jsons:
        digest.update(f"\0{path}\0{images}\0".encode(errors="surrogatepass"))
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
