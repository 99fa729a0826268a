"""Data sets and detectors drawn at random, matched already: as many as a simulation needs, in milliseconds each."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from utils.compare.match_store import StoredMatches
from utils.evaluation.error_types import ERROR_TYPES
from utils.evaluation.matching import IOU_THRESHOLDS

NAMES = ("a", "b")


@dataclasses.dataclass(frozen=True)
class Scenes:
    """A data set: how hard each image is, and of each object its image, class and how hard it is."""

    image: NDArray[np.float64]
    owner: NDArray[np.int64]
    cls: NDArray[np.int64]
    hard: NDArray[np.float64]


def draw_scenes(random: np.random.Generator, images: int, objects: float = 3.0) -> Scenes:
    """Some images are crowded and some hard; the objects of an image are mostly of one class."""
    image = random.normal(0, 0.6, images)
    owner = np.repeat(np.arange(images), random.poisson(random.gamma(2.0, objects / 2, images)))
    cls = (random.uniform(size=len(owner)) < np.where(random.uniform(size=images) < 0.6, 0.15, 0.85)[owner]).astype(np.int64)
    return Scenes(image, owner, cls, image[owner] + random.normal(0, 0.8, len(owner)))


def detect(random: np.random.Generator, scenes: Scenes, skill: float, strays: float = 2.0) -> StoredMatches:
    """Run a detector of this skill: better ones overlap their objects more, are surer of them, and see fewer that are not there.

    `random` is the training seed's luck with each single object; the difficulty of object and image is common to all detectors.
    """
    margin = skill - scenes.hard + random.normal(0, 0.5, len(scenes.owner))
    overlap = 1 / (1 + np.exp(-(margin + 1.2)))
    seen = overlap > 0.35
    wrong = np.repeat(np.arange(len(scenes.image)), random.poisson(strays * np.exp(0.4 * (scenes.image - skill))))
    image = np.concatenate((scenes.owner[seen], wrong))
    cls = np.concatenate((scenes.cls[seen], random.integers(0, len(NAMES), len(wrong))))
    sure = np.concatenate((margin[seen] + random.normal(0, 0.7, int(seen.sum())), random.normal(-1.3, 0.9, len(wrong))))
    hit = np.concatenate((overlap[seen], np.zeros(len(wrong))))[:, None] >= IOU_THRESHOLDS
    kinds = np.where(hit[:, 0], len(ERROR_TYPES), ERROR_TYPES.index("localisation"))
    kinds[seen.sum() :] = ERROR_TYPES.index("background")
    target = np.concatenate((np.flatnonzero(seen), np.full(len(wrong), -1)))
    order = np.lexsort((image, -sure, cls))
    matched = np.zeros((len(image), 10, 4), bool)
    matched[..., 0] = hit[order]
    area = np.zeros((len(scenes.owner), 4), bool)
    area[:, 0] = True
    return StoredMatches(
        names=NAMES,
        images=np.arange(len(scenes.image)),
        image=image[order].astype(np.int32),
        cls=cls[order].astype(np.int32),
        score=(1 / (1 + np.exp(-sure[order]))).astype(np.float32),
        matched=matched,
        ignored=np.zeros_like(matched),
        object_image=scenes.owner.astype(np.int32),
        object_cls=scenes.cls.astype(np.int32),
        object_area=area,
        error=kinds[order].astype(np.uint8),
        target=target[order].astype(np.int32),
    )


def resampled(matches: StoredMatches, times: NDArray[np.integer]) -> StoredMatches:
    """The matches if the data set had image i ``times[i]`` times, copies next to each other, as the weights of a resample mean."""
    each = np.asarray(times, np.int64)
    rows, image = copies(matches.image, each)
    order = np.lexsort((rows, image, -matches.score[rows], matches.cls[rows]))
    rows, image = rows[order], image[order]
    objects, object_image = copies(matches.object_image, each)
    error, target = matches.error, matches.target
    if len(error):  # the object of the same copy of the image
        copy = image - (each.cumsum() - each)[matches.image[rows]]
        number = times[matches.object_image].cumsum() - times[matches.object_image]
        error, target = error[rows], np.where(target[rows] < 0, -1, number[target[rows]] + copy).astype(np.int32)
    return StoredMatches(
        names=matches.names,
        images=np.repeat(matches.images, each),
        image=image.astype(np.int32),
        cls=matches.cls[rows],
        score=matches.score[rows],
        matched=matches.matched[rows],
        ignored=matches.ignored[rows],
        object_image=object_image.astype(np.int32),
        object_cls=matches.object_cls[objects],
        object_area=matches.object_area[objects],
        error=error,
        target=target,
    )


def copies(image: NDArray[np.int32], times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Repeat the items of images: the index of the original of each copy, and the index of its image among the copied images."""
    first, each = times.cumsum() - times, times[image]
    rows = np.repeat(np.arange(len(image)), each)
    return rows, first[image[rows]] + np.arange(len(rows)) - np.repeat(each.cumsum() - each, each)
