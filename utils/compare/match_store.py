"""Which detections of a run match which objects by COCO's rules, stored so that AP can be recomputed for any resample of the images."""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.evaluation.coco_ap import AREAS, MAX_DETECTIONS, to_xywh
from utils.evaluation.error_types import ERROR_TYPES, NO_ERROR, error_types
from utils.evaluation.image_result import ImageResult
from utils.evaluation.matching import IOU_THRESHOLDS
from utils.files.atomic import atomic_write
from utils.files.checksum import has_valid_checksum, write_checksum
from utils.files.safe_open import open_regular
from utils.files.zip_directory import directory_bytes

if TYPE_CHECKING:
    from utils.evaluation.metrics import Evaluator

_VERSION = 2
_REPAIRABLE = [ERROR_TYPES.index(name) for name in ("classification", "localisation")]
_RANGES = np.array([(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)])  # square pixels, both ends included; in the order of AREAS
_LIMITS = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
_MAX_BYTES = 512 << 20
"""Of the arrays of a file; COCO's 5000 images take 11 MB."""
_FLAGS = (len(IOU_THRESHOLDS), len(AREAS))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StoredMatches:
    """The detections of a run matched with the ground truth: d detections, m objects, n images.

    The 100 most confident detections of a class in an image count. They are sorted by class, then by decreasing confidence, then in
    the order of the images and of the detections in them, as COCO does. Crowd regions do not count as objects.

    Attributes:
        names: class names.
        images: (n,) int64 keys of the images, ascending.
        image, cls: (d,) int32 index into `images`, and class id.
        score: (d,) float32.
        matched: (d, 10, 4) bool: matched an object, by IoU threshold (0.50 to 0.95) and area (all, small, medium, large).
        ignored: (d, 10, 4) bool: neither true nor false positive: matched a crowd or an object of another area, or is unmatched and
            itself of another area.
        object_image, object_cls: (m,) int32.
        object_area: (m, 4) bool: whether the object counts for that area.
        error: (d,) uint8 error type at IoU 0.5, all areas, see `utils.evaluation.error_types`.
        target: (d,) int32: the object that the detection found at IoU 0.5, or would have found with another class or box; -1 for none.
            Both are empty in files of version 1.
    """

    names: tuple[str, ...]
    images: NDArray[np.int64]
    image: NDArray[np.int32]
    cls: NDArray[np.int32]
    score: NDArray[np.float32]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    object_image: NDArray[np.int32]
    object_cls: NDArray[np.int32]
    object_area: NDArray[np.bool_]
    error: NDArray[np.uint8] = dataclasses.field(default_factory=lambda: np.zeros(0, np.uint8))
    target: NDArray[np.int32] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))

    def same_ground_truth(self, other: StoredMatches) -> bool:
        """Whether both have the same images and objects."""
        columns = ("images", "object_image", "object_cls", "object_area")
        return self.names == other.names and all(np.array_equal(getattr(self, c), getattr(other, c)) for c in columns)

    def save(self, path: Path) -> None:
        """Write to `path` (.npz) atomically; equal matches give equal bytes.

        Raises:
            UserError: it cannot be written; the earlier file remains.
        """
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | {"names": np.array(json.dumps(self.names))}
        packed = {name: np.packbits(arrays[name]) for name in ("matched", "ignored")}
        try:
            with atomic_write(path) as file:
                np.savez_compressed(file, version=np.array(_VERSION), **arrays | packed)
                write_checksum(file)
        except OSError as error:
            raise UserError(f"{path}: the matches cannot be written ({error.strerror}); the earlier file is unchanged") from error

    @staticmethod
    def load(path: Path) -> StoredMatches:
        """Read what `StoredMatches.save` wrote.

        Raises:
            UserError: unreadable, damaged, or of another version.
        """
        try:
            whole = has_valid_checksum(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if not whole:
            raise UserError(f"{path}: damaged: its checksum is missing or wrong; delete it and repeat the command")
        try:
            with open_regular(path) as content:
                if directory_bytes(content, path.stat().st_size) > _MAX_BYTES >> 16:
                    raise ValueError("too many arrays")
                content.seek(0)
            with open_regular(path) as content, np.load(content, allow_pickle=False) as file:
                if sum(entry.file_size for entry in file.zip.infolist()) > _MAX_BYTES:
                    raise ValueError(f"more than {_MAX_BYTES >> 20} MiB")
                arrays: dict[str, Any] = dict(file)
        except (ValueError, OSError, EOFError, NotImplementedError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path}: holds no matches ({error}); delete it and repeat the command") from error
        version = arrays.pop("version", np.array(0)).tolist()
        if version not in (1, _VERSION):
            raise UserError(
                f"{path}: matches of version {version}, but this program reads version {_VERSION}; delete it and repeat the command"
            )
        if version == 1:  # a study of an earlier version took hours to train, and all but the error types can be computed
            arrays |= {"error": np.zeros(0, np.uint8), "target": np.zeros(0, np.int32)}
        if problem := _problem(arrays):
            raise UserError(f"{path}: holds no matches ({problem}); delete it and repeat the command")
        count = len(arrays["score"])
        for name in ("matched", "ignored"):
            arrays[name] = np.unpackbits(arrays[name], count=count * _FLAGS[0] * _FLAGS[1]).astype(bool).reshape(count, *_FLAGS)
        return StoredMatches(**arrays | {"names": tuple(json.loads(str(arrays["names"])))})


def _problem(arrays: dict[str, Any]) -> str:
    """What of a file's arrays does not fit together; "" if nothing does not."""
    kinds: dict[str, Any] = {"images": np.int64, "image": np.int32, "cls": np.int32, "score": np.float32}
    kinds |= {"matched": np.uint8, "ignored": np.uint8}
    kinds |= {"object_image": np.int32, "object_cls": np.int32, "object_area": np.bool_, "error": np.uint8, "target": np.int32}
    if set(arrays) != {*kinds, "names"} or any(arrays[name].dtype != kind for name, kind in kinds.items()):
        return "other arrays than expected"
    detections, objects = len(arrays["score"].ravel()), len(arrays["object_cls"].ravel())
    packed = -(-detections * _FLAGS[0] * _FLAGS[1] // 8)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("image", "cls", "score"), (detections,))
    shapes |= dict.fromkeys(("error", "target"), (detections if len(arrays["error"].ravel()) else 0,))
    shapes |= {"matched": (packed,), "ignored": (packed,)}
    shapes |= {"object_image": (objects,), "object_cls": (objects,), "object_area": (objects, len(AREAS)), "names": ()}
    if any(arrays[name].shape != shape for name, shape in shapes.items()) or arrays["images"].ndim != 1:
        return "arrays of other shapes than expected"
    try:
        names = json.loads(str(arrays["names"]))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or any(type(name) is not str for name in names):
        return "no class names"
    limits = {"image": len(arrays["images"]), "object_image": len(arrays["images"]), "cls": len(names), "object_cls": len(names)}
    limits["error"] = NO_ERROR + 1
    if any(len(arrays[name]) and not 0 <= arrays[name].min() <= arrays[name].max() < limit for name, limit in limits.items()):
        return "an index outside its range"
    target, right = arrays["target"], np.isin(arrays["error"], _REPAIRABLE)
    if len(target) and (target.max() >= objects or target.min() < -1 or target[right].min(initial=0) < 0):
        return "an index outside its range"
    return "" if np.isfinite(arrays["score"]).all() else "a confidence that is no number"


def match_detections(evaluator: Evaluator) -> StoredMatches:
    """Match the detections in `evaluator` with its ground truth, as pycocotools does."""
    results = evaluator.images()
    images, names = list(results.values()), evaluator.names
    parts = [_match(image) for image in images]
    found = [image.detections[part.rows] for image, part in zip(images, parts, strict=True)]
    rows = np.concatenate([np.zeros((0, 6), np.float32), *found])
    matched, ignored = (
        np.concatenate([np.zeros((0, *_FLAGS), bool), *(getattr(p, name) for p in parts)]) for name in ("matched", "ignored")
    )
    error = np.concatenate([np.zeros(0, np.uint8), *(part.error for part in parts)])
    first = np.cumsum([0, *((~image.crowd).sum() for image in images)])  # number of an image's first object
    target = [np.where(part.target < 0, -1, part.target + start) for part, start in zip(parts, first, strict=False)]
    order = np.lexsort((-rows[:, 4], rows[:, 5]))  # stable: among equal scores the earlier image, then the earlier prediction
    labels = np.concatenate([np.zeros(0, np.int32), *(image.cls[~image.crowd] for image in images)])
    area = np.concatenate([np.zeros(0), *(image.area[~image.crowd] for image in images)])
    number = np.arange(len(images), dtype=np.int32)
    return StoredMatches(
        names=tuple(names[i] for i in sorted(names)),
        images=np.array(list(results), np.int64),
        image=np.repeat(number, np.array([len(each) for each in found], np.int64))[order],
        cls=rows[order, 5].astype(np.int32),
        score=rows[order, 4],
        matched=matched[order],
        ignored=ignored[order],
        object_image=np.repeat(number, np.array([(~image.crowd).sum() for image in images], np.int64)),
        object_cls=labels.astype(np.int32),
        object_area=_inside(area),
        error=error[order],
        target=np.concatenate([np.zeros(0), *target])[order].astype(np.int32),
    )


def _inside(area: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(m,) square pixels -> (m, 4)."""
    return (area[:, None] >= _RANGES[:, 0]) & (area[:, None] <= _RANGES[:, 1])


class _Matched(NamedTuple):
    """The detections of an image that count: their rows, most confident first within a class; the rest as in `StoredMatches`."""

    rows: NDArray[np.int64]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    error: NDArray[np.uint8]
    target: NDArray[np.int32]


def _match(image: ImageResult) -> _Matched:
    from pycocotools import mask

    rows = [np.flatnonzero(image.detections[:, 5] == c)[:MAX_DETECTIONS] for c in np.unique(image.detections[:, 5])]
    kept = np.concatenate([np.zeros(0, np.int64), *rows])
    boxes, classes = to_xywh(image.detections[kept, :4]), image.detections[kept, 5]
    overlap = np.zeros((len(kept), len(image.cls)))
    if overlap.size:
        overlap[:] = mask.iou(boxes, to_xywh(image.xyxy), image.crowd.astype(np.uint8).tolist())
    ignore = ~_inside(image.area).T | image.crowd
    hit, ignored, found = np.zeros((len(kept), *_FLAGS), bool), np.zeros((len(kept), *_FLAGS), bool), np.full(len(kept), -1)
    for c in np.unique(classes):
        mine, own = np.flatnonzero(classes == c), np.flatnonzero(image.cls == c)
        if len(own):
            hit[mine], ignored[mine], best = _assign(overlap[np.ix_(mine, own)], image.crowd[own], ignore[:, own])
            found[mine] = np.where(best < 0, -1, own[best])
    ignored |= ~hit & ~_inside(boxes[:, 2] * boxes[:, 3])[:, None, :]
    right = hit[:, 0, 0] & ~ignored[:, 0, 0]
    number = np.cumsum(~image.crowd) - 1  # among the objects, without crowds
    found = np.where(right, number[found] if len(number) else -1, -1)
    objects = ~image.crowd
    same = classes[:, None] == image.cls[None, objects]
    error, target = error_types(overlap[:, objects], same, found, ~hit[:, 0, 0] & ~ignored[:, 0, 0])
    return _Matched(kept, hit, ignored, error, target)


def _assign(
    overlap: NDArray[np.float64], crowd: NDArray[np.bool_], ignore: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Match each detection, in turn, with the object that it overlaps most among those still unmatched.

    Objects that count take precedence over ignored ones; of equal overlaps the last wins. A crowd may be matched any number of times.

    Args:
        overlap: (d, g) IoU; for a crowd, the share of the detection inside it.
        crowd: (g,). ignore: (4, g) by area.

    Returns:
        matched and ignored, (d, 10, 4) each; and (d,) the object matched at IoU 0.5 for all areas, -1 for none.
    """
    found = np.full(len(overlap), -1)
    hit = np.zeros((len(overlap), *_FLAGS), bool)
    ignored = hit.copy()
    free = np.ones((*_FLAGS, overlap.shape[1]), bool)
    threshold, area = np.indices(_FLAGS)
    for d in np.flatnonzero((overlap >= _LIMITS[0]).any(1)):
        candidates = (free | crowd) & (overlap[d] >= _LIMITS[:, None])[:, None, :]
        proper = candidates & ~ignore
        choice = np.where(proper.any(-1, keepdims=True), proper, candidates)
        best = overlap.shape[1] - 1 - np.where(choice, overlap[d], -1)[..., ::-1].argmax(-1)
        hit[d] = choice.any(-1)
        ignored[d] = hit[d] & ignore[area, best]
        free[threshold, area, best] &= ~hit[d]
        found[d] = best[0, 0] if hit[d, 0, 0] else -1
    return hit, ignored, found
