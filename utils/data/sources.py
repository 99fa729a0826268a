"""What a split consists of before any image is opened: image paths, and the content of their label files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from utils.data.config import DataConfig
from utils.data.labels.coco import class_map, read_coco
from utils.data.labels.find_files import ListedImage, entry_images, read_source, with_labels
from utils.data.labels.label_report import FileFindings
from utils.files.safe_open import read_regular

MAX_LABEL_BYTES = 256 << 20
MAX_JSON_BYTES = 8 << 30


class SplitSources(NamedTuple):
    """The images of folders and lists with their label files, and the COCO files as (path, image folder, content)."""

    images: list[ListedImage]
    jsons: list[tuple[Path, Path | None, bytes]]


def gather(entries: Iterable[Path], data: DataConfig) -> SplitSources:
    """List the images of folders, lists and COCO files, and read the label files."""
    images: dict[str, ListedImage] = {}
    jsons = []
    for entry in entries:
        partner = data.partners.get(entry)
        if entry.suffix.lower() == ".json":
            jsons.append((entry, partner, read_source(entry, MAX_JSON_BYTES)))
            continue
        for source in with_labels(entry_images(entry), partner):
            images.setdefault(os.path.normpath(source.path), source)
    return SplitSources([_with_content(images[key]) for key in sorted(images)], jsons)


def _with_content(source: ListedImage) -> ListedImage:
    if source.label is None:
        return source
    try:
        return source._replace(content=read_regular(source.label, MAX_LABEL_BYTES))
    except OSError as error:
        return source._replace(content=error)


def sources_digest(sources: SplitSources, data: DataConfig, version: int) -> str:
    """Hash what annotations follow from: the readers' version, class names, image lists, contents of the label files."""
    digest = hashlib.sha256(f"{version} {data.root} {sorted(data.names.items())}".encode())
    for source in sources.images:
        digest.update(f"\0{source.path}\0{source.label}\0".encode(errors="surrogatepass"))
        digest.update(source.content if isinstance(source.content, bytes) else repr(source.content).encode())
    for path, images, content in sources.jsons:
        digest.update(f"\0{path}\0{images}\0".encode(errors="surrogatepass"))
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def all_images(sources: SplitSources, data: DataConfig) -> tuple[list[ListedImage], list[FileFindings]]:
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
