"""The share of LayerCAM energy inside ground-truth boxes: of all seeds, compared on the images where every variant has a map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from utils.compare.intervals import ALPHA, family_intervals
from utils.compare.page.choose_images import evenly_spaced
from utils.compare.page.gallery_types import CamEnergy
from utils.data.index import GroundTruth, Index
from utils.explain.cam import Map, energy_inside
from utils.explain.rendering import ExplainedImage
from utils.geometry import ceil_to_stride
from utils.images.reading import ImageError, read_image
from utils.log import LOG

SIDE = 320
"""Maximum side of a picture, in pixels."""
MAPS = 120
"""Number of maps of a variant, of all its seeds together, as far as an image set of `MIN_IMAGES` allows."""
MIN_IMAGES = 20
_RESAMPLES = 1000


def energy_images(index: Index, seeds: int) -> list[int]:
    """Evenly spaced images with objects, so many that all seeds together have about `MAPS` maps."""
    with_objects = [i for i in range(len(index)) if largest_object(index.ground_truth(i)) is not None]
    return evenly_spaced(with_objects, max(MAPS // seeds, MIN_IMAGES))


def energy_shares(model: Detector, index: Index, images: Sequence[int], side: int) -> NDArray[np.float64]:
    """(2, n) share of each image's energy that is inside boxes, and that of a uniform map; NaN for a map without energy.

    In each image the largest object is explained, and the boxes of its class count.
    """
    out = np.full((2, len(images)), np.nan)
    for place, i in enumerate(images):
        truth = index.ground_truth(i)
        try:
            image = read_image(index.paths[i])
        except ImageError as error:
            LOG.warning("%s: left out of the mean LayerCAM energy (%s)", index.paths[i], error)
            continue
        largest = largest_object(truth)
        assert largest is not None, "only images with objects are chosen"
        cam, seen = cam_of(explained(model, image, side), truth, largest)
        out[:, place] = energy_inside(cam, seen), energy_inside(np.ones_like(cam), seen)
    return out


def compare_energy(
    shares: Mapping[str, Mapping[int, NDArray[np.float64]]], baseline: str, groups: Sequence[int]
) -> tuple[dict[str, CamEnergy], float]:
    """Compare the mean shares of all seeds, on the images where all variants have energy in all of them.

    Args:
        shares: by variant and seed, what `energy_shares` returned of the same images. A variant without any map that has energy is
            compared with none.
        groups: of the images, see `utils.compare.measured_runs.measure_runs`; empty where each is one.

    Returns:
        The energy of each variant, and the share of a uniform map.
    """
    found = {name: CamEnergy(math.nan, 0, len(own)) for name, own in shares.items()}
    usable = {name: own for name, own in shares.items() if all(np.isfinite(maps[0]).any() for maps in own.values())}
    maps = [values for own in usable.values() for values in own.values()]
    common = np.isfinite(maps).all((0, 1)) if maps else np.zeros(0, bool)
    if not (count := int(common.sum())):
        return found, math.nan
    seeds = [s for s in next(iter(usable.values())) if all(s in own for own in usable.values())]
    for name, own in usable.items():
        found[name] = CamEnergy(float(np.mean([values[0, common] for values in own.values()])), count, len(own))
    variants = [name for name in usable if name != baseline]
    if baseline in usable and variants and len(seeds) > 1:
        table = np.array([[usable[name][s][0, common] for s in seeds] for name in (baseline, *variants)])  # (arms, seeds, images)
        unit = np.unique(np.asarray(groups)[common] if len(groups) else np.arange(count), return_inverse=True)[1]
        units = int(unit.max()) + 1
        weights = np.random.default_rng(0).multinomial(units, np.full(units, 1 / units), size=_RESAMPLES)[:, unit]
        resampled = table.mean(1) @ weights.T / weights.sum(1)
        tested = family_intervals(table.mean(2), resampled[1:] - resampled[0], units, len(variants), ALPHA)
        for name, difference in zip(variants, tested, strict=True):
            found[name] = found[name]._replace(difference=difference.interval if difference else None)
    return found, float(np.mean(maps[0][1, common]))


def explained(model: Detector, image: NDArray[np.uint8], side: int) -> ExplainedImage:
    """The image as the model sees it, with pictures of at most `SIDE` pixels."""
    side = ceil_to_stride(side, model.max_stride)
    return ExplainedImage(model, image, (side, side), SIDE, enlarge=False)


def cam_of(view: ExplainedImage, truth: GroundTruth, number: int) -> tuple[Map, NDArray[np.float32]]:
    """LayerCAM of an object, and the ground-truth boxes of the object's class in its pixels."""
    same = (truth.cls == truth.cls[number]) & ~truth.crowd
    return view.layer_cam(truth.xyxy[number], int(truth.cls[number])), view.to_network(truth.xyxy[same])


def largest_object(truth: GroundTruth) -> int | None:
    """Index of the largest object; None in an image without objects."""
    area = np.where(truth.crowd, -1, truth.area)
    return int(area.argmax()) if area.size and area.max() > 0 else None
