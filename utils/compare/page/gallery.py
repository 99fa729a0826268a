"""What each variant sees: detections, LayerCAM and attention maps of chosen images, and the energy of LayerCAM inside boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from models.weights.load import load_model
from utils.compare.page.cam_energy import SIDE, cam_of, compare_energy, energy_images, energy_shares, explained, largest_object
from utils.compare.page.choose_images import SHOWN_CONF, ChosenImage, choose
from utils.compare.page.gallery_types import Gallery, GalleryScene, Picture
from utils.compare.provenance import data_digest
from utils.data.config import load_data
from utils.data.index import GroundTruth, Index
from utils.data.scan import load_index
from utils.errors import UserError
from utils.explain.cam import energy_inside
from utils.explain.rendering import Image, resize_to_side
from utils.geometry import iou
from utils.images.drawing import draw_boxes
from utils.images.reading import read_image
from utils.log import printable
from utils.progress import Progress

if TYPE_CHECKING:
    from models.detector import Detector
    from utils.compare.study import Study

BUDGET = 6_000_000
"""Maximum total size of the pictures in bytes; further scenes are left out."""
BLOCKS = 3
"""Maximum number of attention blocks of a variant that are shown: the first, the last and one between."""
_QUALITY = 82
_MIN_IOU = 0.5  # of a true positive


def build_gallery(study: Study) -> Gallery:
    """Run the finished models of one seed on chosen images of the measured split, and those of all seeds for the energy.

    Errors do not prevent the report: what cannot be shown is stated in the notes.
    """
    if study.plan.data.folds:
        return Gallery(notes=("No images are shown: each fold has its own.",))
    seed = max(study.plan.seeds, key=lambda s: (sum(r.seed == s and r.state == "done" for r in study.runs), -s))
    variants = [v.name for v in study.variants if study.run(v.name, seed).state == "done"]
    if not variants:
        return Gallery(seed=seed)
    try:
        index = _index(study)
        choices = [c for c in choose([study.matches(name, seed) for name in variants]) if 0 <= c.image < len(index)]
        images = [read_image(index.paths[c.image]) for c in choices]
    except UserError as error:
        return Gallery(seed=seed, notes=(f"No images can be shown: {error}",))
    side = int(study.plan.flags.get("imgsz", 640))
    pictures: list[dict[str, list[Picture]]] = [{} for _ in choices]
    shares: dict[str, dict[int, NDArray[np.float64]]] = {}
    notes, focus = [], energy_images(index, len(study.plan.seeds))
    with Progress("report", len(variants)) as progress:
        for done, name in enumerate(variants):  # one after another, so that only one model is in memory
            progress.update(done, printable(name))
            try:
                model = load_model(study.run(name, seed).folder / "weights" / "last.pt")
                for choice, image, shown in zip(choices, images, pictures, strict=True):
                    shown[name] = list(_views(model, image, index.ground_truth(choice.image), index.names, side))
                others = [run for run in study.runs_of(name) if run.state == "done" and run.seed != seed]
                shares[name] = {seed: energy_shares(model, index, focus, side)}
                for run in others:
                    shares[name][run.seed] = energy_shares(load_model(run.folder / "weights" / "last.pt"), index, focus, side)
            except (UserError, RuntimeError) as error:  # RuntimeError: a block without gradients, or out of memory
                partly = any(name in shown for shown in pictures)
                notes.append(f"{name} {'is only partly' if partly else 'cannot be'} shown: {' '.join(str(error).split())[:300]}")
    scenes: list[GalleryScene] = []
    spent = 0
    for choice, image, shown in zip(choices, images, pictures, strict=True):
        scene = _scene(index, choice, image, shown)
        spent += len(scene.truth) + sum(len(p.jpeg) for views in shown.values() for p in views)
        if shown and (spent <= BUDGET or not scenes):
            scenes.append(scene)
    groups = [study.plan.data.groups[i] for i in focus] if study.plan.data.groups else []
    energy, uniform_share = compare_energy(shares, study.plan.baseline.name, groups)
    return Gallery(scenes=tuple(scenes), energy=energy, uniform_share=uniform_share, seed=seed, notes=tuple(notes))


def _index(study: Study) -> Index:
    data, flags, split = load_data(study.plan.data.source), study.plan.flags, study.plan.data.measured
    index = load_index(data, split, single_cls=bool(flags.get("single_cls")), classes=flags.get("classes"))
    if data_digest(index) != study.plan.data.splits[split].digest:
        raise UserError(f"{study.plan.data.source}: the {split} split has changed since it was measured")
    return index


def _views(model: Detector, image: Image, truth: GroundTruth, names: Mapping[int, str], side: int) -> Iterator[Picture]:
    """The pictures of one variant: its detections, and the LayerCAM and the attention maps of the largest object."""
    found = model.predict(image, imgsz=side, conf=SHOWN_CONF)[0]
    view = explained(model, image, side)
    labels = [f"{printable(found.name(int(c)))} {p:.2f}" for c, p in zip(found.cls, found.conf, strict=True)]
    drawn = draw_boxes(view.picture, found.xyxy[::-1] * view.scale, labels[::-1], found.cls[::-1], line_width=2)
    yield Picture(view="boxes", jpeg=_jpeg(drawn), caption=count_found(found.xyxy, found.cls, truth))
    largest = largest_object(truth)
    if largest is None:
        yield Picture(view="cam", jpeg=b"", caption="no object to explain")
    else:
        cam, seen = cam_of(view, truth, largest)
        share, cls = energy_inside(cam, seen), int(truth.cls[largest])
        evidence = "no positive evidence" if math.isnan(share) else f"{100 * share:.0f} % inside ground-truth boxes"
        drawn = view.framed(view.draw_cam(cam), truth.xyxy[largest], cls)
        yield Picture(view="cam", jpeg=_jpeg(drawn), caption=f"{printable(names[cls])}: {evidence}")
    maps = view.attention_maps(None if largest is None else truth.xyxy[largest])
    for i in sorted({round(k * (len(maps) - 1) / (BLOCKS - 1)) for k in range(BLOCKS)}) if maps else ():
        label, values = maps[i]
        caption = f"row {printable(label)}, {values.min():.3g} to {values.max():.3g}"
        yield Picture(view="attention", jpeg=_jpeg(view.draw_attention(values)), caption=caption)
    if not maps:
        yield Picture(view="attention", jpeg=b"", caption="this model has no attention maps")


def _scene(index: Index, choice: ChosenImage, image: Image, pictures: dict[str, list[Picture]]) -> GalleryScene:
    truth = index.ground_truth(choice.image)
    small, scale = resize_to_side(image, SIDE, enlarge=False)
    labels = [printable(index.names[int(c)]) for c in truth.cls]
    count = int((~truth.crowd).sum())
    return GalleryScene(
        name=index.paths[choice.image].name,
        why=choice.why,
        size=(small.shape[0], small.shape[1]),
        truth=_jpeg(draw_boxes(small, truth.xyxy * scale, labels, truth.cls, line_width=2)),
        truth_caption=f"{count} object{'s' if count != 1 else ''}",
        pictures=pictures,
    )


def count_found(xyxy: NDArray[np.float32], cls: NDArray[np.int64], truth: GroundTruth) -> str:
    """Count true and false positives at IoU 0.5: most confident first, each takes the free object of its class it overlaps most."""
    free = ~truth.crowd
    objects, right = int(free.sum()), 0
    for box, c in zip(xyxy, cls, strict=True):
        overlap = np.where(free & (truth.cls == c), iou(box, truth.xyxy), 0)
        if overlap.size and overlap.max() >= _MIN_IOU:
            free[overlap.argmax()] = False
            right += 1
    wrong = len(xyxy) - right
    return f"{right} of {objects} found" + (f", {wrong} wrong" if wrong else "")


def _jpeg(image: Image) -> bytes:
    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    assert ok, "an image of at most 320 pixels per side can be encoded"
    return bytes(data.tobytes())
