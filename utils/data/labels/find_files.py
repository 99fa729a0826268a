"""Find the image files of a dataset, and the label file of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.data.labels.image_source import ImageSource
from utils.errors import UserError
from utils.files.safe_open import read_regular
from utils.images.reading import IMAGE_SUFFIXES
from utils.log import LOG

LABEL_SUFFIXES = (".txt", ".xml")
_MAX_LIST_BYTES = 1 << 30


class FolderListings:
    """The names in each folder, listed once, so that a hundred thousand look-ups need a few calls."""

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str]] = {}

    def holds(self, folder: str, name: str) -> bool:
        """Whether `folder` exists and has an entry called `name`."""
        names = self._names.get(folder)
        if names is None:
            try:
                names = frozenset(os.listdir(folder))  # noqa: PTH208 - of a string
            except (OSError, ValueError):  # ValueError: an invalid path
                names = frozenset()
            self._names[folder] = names
        return name in names


def list_images(folder: Path) -> list[Path]:
    """Return the images in `folder` and below, sorted; links to folders are followed, but never in a loop.

    A folder that has an image's name and holds no image is returned as one, so that it is reported. Subfolders that cannot be
    listed are logged.

    Raises:
        UserError: the folder itself cannot be listed.
    """
    found: list[str] = []
    folders: list[str] = []
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        path = Path(error.filename or folder)
        if path == folder:
            raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error
        LOG.warning("%s: this folder cannot be listed (%s), so its images are left out", path, error.strerror)

    for parent, below, names in os.walk(folder, onerror=refuse, followlinks=True):
        if not _first_visit(parent, seen):
            below.clear()
            continue
        below.sort(key=lambda name: (os.path.islink(os.path.join(parent, name)), name))  # noqa: PTH114, PTH118 - a folder before links to it
        found += [os.path.join(parent, name) for name in names if is_image_name(name)]  # noqa: PTH118
        folders += [os.path.join(parent, name) for name in below if is_image_name(name)]  # noqa: PTH118
    found += [name for name in folders if not any(image.startswith(f"{name}{os.sep}") for image in found)]
    return [Path(name) for name in sorted(found)]


def _first_visit(folder: str, seen: set[tuple[int, int]]) -> bool:
    try:
        entry = os.stat(folder)  # noqa: PTH116
    except OSError:  # removed meanwhile
        return False
    key = (entry.st_dev, entry.st_ino)
    first = key not in seen
    seen.add(key)
    return first


def is_image_name(name: str) -> bool:
    """Whether a file's name has an image's suffix."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


def entry_images(entry: Path) -> list[Path]:
    """Return the images of an entry of a dataset: a folder, a .txt list, or a single image file.

    Raises:
        UserError: it cannot be read, or is none of these.
    """
    if os.path.isdir(entry):  # noqa: PTH112 - Path.is_dir may raise
        return list_images(entry)
    suffix = entry.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return [entry]
    if suffix != ".txt":
        raise UserError(f"{entry}: expected a folder of images, a .txt list of them, or a COCO .json")
    return read_list(entry)


def read_list(path: Path) -> list[Path]:
    """Return the images that a .txt list names, one a line.

    A line is an absolute path, or relative to the list's folder or else to the working directory. A line without suffix is an
    identifier as in VOC's ``ImageSets/Main/*.txt``: the image is ``JPEGImages/<identifier>.jpg`` two folders up.

    Raises:
        UserError: the list cannot be read.
    """
    try:
        text = read_regular(path, _MAX_LIST_BYTES).decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    folders = FolderListings()
    return [_listed(line.strip(), path.parent, folders) for line in text.splitlines() if line.strip()]


def _listed(line: str, folder: Path, folders: FolderListings) -> Path:
    if not os.path.splitext(line)[1]:  # noqa: PTH122
        identifier = line.split()[0]  # VOC's per-class lists have a second column
        return folder.parent.parent / "JPEGImages" / f"{identifier}.jpg"
    beside = folder / line  # an absolute line replaces the folder
    if folders.holds(str(beside.parent), beside.name) or not folders.holds(str(Path(line).parent), Path(line).name):
        return beside
    return Path.cwd() / line


def with_labels(images: Iterable[Path], labels: Path | None = None) -> Iterator[ImageSource]:
    """Pair each image with its label file.

    Searched in this order: in `labels`, where given; in the folder that has ``labels`` (then ``annotations``, ``Annotations``) for the
    last ``images`` (or ``JPEGImages``) of the image's path; beside the image; in ``../labels``, ``../Annotations``.
    """
    folders = FolderListings()
    places: dict[str, tuple[str, ...]] = {}
    for image in images:
        folder, name = os.path.split(image)
        stem = os.path.splitext(name)[0]  # noqa: PTH122
        if folder not in places:
            places[folder] = (str(labels),) if labels else tuple(str(p) for p in label_folders(Path(folder)))
        found = next((f"{p}/{stem}{s}" for p in places[folder] for s in LABEL_SUFFIXES if folders.holds(p, stem + s)), None)
        yield ImageSource(image, Path(found) if found else None)


def label_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders that may hold the labels of the images in `folder`, most likely first."""
    parts = folder.parts
    for at in range(len(parts) - 1, -1, -1):
        if parts[at] in ("images", "JPEGImages"):
            yield from (Path(*parts[:at], name, *parts[at + 1 :]) for name in ("labels", "annotations", "Annotations"))
            break
    yield folder
    yield folder.parent / "labels"
    yield folder.parent / "Annotations"
