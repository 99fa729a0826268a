"""Find the image files of a dataset, and the label file of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from utils.data.labels.image_lists import read_list
from utils.data.labels.match_names import FolderListings
from utils.errors import UserError
from utils.files.safe_open import open_regular
from utils.images.reading import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from utils.log import LOG

LABEL_SUFFIXES = (".txt", ".xml")

_NO_LABELS = {"classes", "labels", "obj", "_darknet", "readme", "train", "val", "valid", "test", "trainval", "notes"}
"""Text files beside label files that hold no labels."""

_OTHER_SUFFIXES = {".json", ".yaml", ".yml", ".csv", ".md", ".names", ".data", ".cache", ".npy"}
_KNOWN_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES | _OTHER_SUFFIXES | set(LABEL_SUFFIXES)
_IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\xff\x0a", b"\0\0\0\x0cJXL ")  # the last two are JPEG XL
_IMAGE_BRANDS = {b"ftyp" + brand for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"crx ")}
_COPIES = ("__MACOSX", "@eaDir")
"""Folders that macOS puts into archives, and Synology beside pictures: with what belongs to a file, and small copies of it."""
_TASKS = {"train", "val", "detect", "compare"}


class CocoImage(NamedTuple):
    """An image of a COCO JSON: its file, id, declared (height, width), and annotations as they stand there.

    `by_header`: the size is that of the stored image though the boxes are those of the upright one, as Label Studio writes it.
    """

    path: Path
    image_id: int | str
    size: tuple[int, int]
    annotations: list[dict[str, Any]]
    by_header: bool = False


class ListedImage(NamedTuple):
    """An image before it is opened, and where its annotations come from.

    Attributes:
        label: its label file (YOLO .txt or VOC .xml), or the COCO JSON that names it; None when it has none.
        content: of the label file; the error where it cannot be read.
        coco: its entry of the JSON, and `coco_classes` the class id of each category id there.
    """

    path: Path
    label: Path | None
    content: bytes | OSError | None = None
    coco: CocoImage | None = None
    coco_classes: Mapping[int | str, int] | None = None


def list_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images in `folder` and below, and the files that hold an image without an image's suffix, sorted.

    Links to folders are followed, but never in a loop. A folder that has an image's name and holds no image is returned as one, so that
    it is reported. Subfolders that cannot be listed, and those that hold the output of runs, are logged and left out. So, without a word,
    are hidden files and folders: macOS's ``._a.jpg`` holds no image, and ``.ipynb_checkpoints`` holds copies.

    Raises:
        UserError: the folder itself cannot be listed.
    """
    found: list[str] = []
    folders: list[str] = []
    others: list[str] = []
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        path = Path(error.filename or folder)
        if path == folder:
            raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
        LOG.warning("%s: this folder cannot be listed (%s), so its images are left out", path, error.strerror)

    for parent, below, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen or (parent != str(folder) and _holds_runs(parent, below, names)):
            below.clear()
            continue
        seen.add(real)
        below[:], names[:] = filter(_is_own, below), filter(_is_own, names)
        below.sort(key=lambda name: (os.path.islink(os.path.join(parent, name)), name))  # noqa: PTH114, PTH118 - a folder before links to it
        found += [os.path.join(parent, name) for name in names if is_image_name(name)]  # noqa: PTH118
        folders += [os.path.join(parent, name) for name in below if is_image_name(name)]  # noqa: PTH118
        others += [os.path.join(parent, name) for name in names if Path(name).suffix.lower() not in _KNOWN_SUFFIXES]  # noqa: PTH118
    found += [name for name in folders if not any(image.startswith(f"{name}{os.sep}") for image in found)]
    return [Path(name) for name in sorted(found)], [Path(name) for name in sorted(others) if _starts_like_image(name)]


def _is_own(name: str) -> bool:
    """Whether a file or folder is neither hidden nor made by a system for itself."""
    return not name.startswith(".") and name not in _COPIES


def _holds_runs(folder: str, below: list[str], names: list[str]) -> bool:
    """Whether train, val, detect or compare wrote a folder, whose images are no data."""
    parent, name = os.path.split(folder)
    written = {"opt.yaml", "hyp.yaml"} <= set(names) or {"metrics.json", "per_class.csv"} <= set(names)
    only_runs = name in _TASKS and os.path.basename(parent) == "runs" and not names and "images" not in below  # noqa: PTH119
    if written or only_runs:
        LOG.warning("%s: holds the output of runs; its images are left out", folder)
        return True
    return False


def _starts_like_image(file: str) -> bool:
    try:
        with open_regular(file) as content:
            head = content.read(16)
    except OSError:
        return False
    return head.startswith(_IMAGE_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:12] in _IMAGE_BRANDS


def is_image_name(name: str) -> bool:
    """Whether a file's name has an image's suffix."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def entry_images(entry: Path) -> tuple[list[Path], list[Path]]:
    """Return the images of an entry of a dataset, a folder, a .txt list, or a single image file; and those passed over, see `list_images`.

    Raises:
        UserError: it cannot be read, or is none of these.
    """
    if os.path.isdir(entry):  # noqa: PTH112 - Path.is_dir may raise
        return list_images(entry)
    suffix = entry.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return [entry], []
    if suffix != ".txt":
        raise UserError(f"{entry}: expected a folder of images, a .txt list of them, or a COCO .json")
    return read_list(entry), []


def with_labels(images: Iterable[Path], labels: Path | None = None) -> Iterator[ListedImage]:
    """Pair each image with its label file.

    Searched in this order: in `labels`, where given; in the folder that has ``labels`` (then ``annotations``, ``Annotations``) for the
    last ``images`` (or ``JPEGImages``) of the image's path; beside the image; in ``../labels``, ``../Annotations``. A label file whose
    name is written otherwise (see `match_names`) is taken where no other image in the folder has a better claim to it.
    """
    listings = FolderListings()
    places: dict[str, tuple[str, ...]] = {}
    for image in images:
        folder, name = os.path.split(image)
        stem = os.path.splitext(name)[0]  # noqa: PTH122
        if folder not in places:
            every = (str(labels),) if labels else tuple(str(p) for p in label_folders(Path(folder)))
            places[folder] = tuple(place for place in every if listings.names(place))
        found = next((f"{p}/{stem}{s}" for p in places[folder] for s in LABEL_SUFFIXES if stem + s in listings.names(p)), None)
        yield ListedImage(image, Path(found) if found else _similar_label(folder, name, places[folder], listings))


def _similar_label(folder: str, name: str, places: Iterable[str], listings: FolderListings) -> Path | None:
    """Return the label file that is called like the image's stem in another spelling, or like its whole name ("a.jpg.txt")."""
    for place in places:
        for wanted, find in ((os.path.splitext(name)[0], listings.find_stem), (name, listings.find)):  # noqa: PTH122
            for suffix in LABEL_SUFFIXES:
                label = listings.find_stem(place, wanted, (suffix,))
                stem = os.path.splitext(label)[0] if label else ""  # noqa: PTH122
                if label and find(folder, stem) == name and (wanted != name or not listings.find_stem(folder, stem)):
                    return Path(place, label)
    return None


def label_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders that may hold the labels of the images in `folder`, most likely first."""
    parts = folder.parts
    for at in range(len(parts) - 1, -1, -1):
        if parts[at].lower() in ("images", "jpegimages"):
            yield from (Path(*parts[:at], name, *parts[at + 1 :]) for name in ("labels", "Labels", "annotations", "Annotations"))
            break
    yield folder
    yield from (folder.parent / name for name in ("labels", "Labels", "Annotations"))


def stray_labels(images: Iterable[ListedImage], labels: Path | None = None) -> set[str]:
    """Return the label files that belong to no image, in the folders that hold the labels of `images`; without any, in those searched.

    `labels` is as for `with_labels`.
    """
    listings = FolderListings()
    used = {str(image.label) for image in images if image.label}
    owners: dict[str, list[str]] = {}
    for folder in sorted({image.path.parent for image in images}):
        for path in dict.fromkeys([labels] if labels else label_folders(folder)):
            owners.setdefault(str(path), []).append(str(folder))
    holding = {os.path.dirname(label) for label in used} or owners.keys()  # noqa: PTH120
    stray = set()
    for place in holding:
        for name in listings.names(place):
            stem, suffix = os.path.splitext(name)  # noqa: PTH122
            known = not _is_own(name) or suffix.lower() not in LABEL_SUFFIXES or stem.lower() in _NO_LABELS or f"{place}/{name}" in used
            if not known and not any(listings.find_stem(folder, stem) for folder in owners.get(place, ())):
                stray.add(f"{place}/{name}")
    return stray
