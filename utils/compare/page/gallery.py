"""What each variant sees: detections, LayerCAM and attention maps of chosen images, and the energy of LayerCAM inside boxes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from models import load_model
from utils.compare.page.choose_images import SHOWN_CONF, ChosenImage, choose, evenly_spaced
from utils.compare.page.gallery_types import CamEnergy, Gallery, GalleryScene, Picture
from utils.compare.provenance import data_digest
from utils.data.config import load_data
from utils.data.index import GroundTruth, Index
from utils.data.scan import load_index
from utils.errors import UserError
from utils.explain.cam import Chosen, attention_maps, energy_inside, layer_cam
from utils.geometry import ceil_to_stride, iou
from utils.images import letterbox
from utils.images.drawing import draw_boxes
from utils.images.reading import ImageError, read_image
from utils.inference.predictor import to_tensor
from utils.log import LOG, printable

if TYPE_CHECKING:
    from torch import Tensor

    from models.detector import Detector
    from utils.compare.study import Study, Variant

Image = NDArray[np.uint8]
Map = NDArray[np.float32]
SIDE = 320
"""Maximum side of a picture, in pixels."""
BUDGET = 6_000_000
"""Maximum total size of the pictures in bytes; further scenes are left out."""
FOCUS_IMAGES = 100
"""Maximum number of images for the mean energy inside ground-truth boxes."""
BLOCKS = 3
"""Maximum number of attention blocks of a variant that are shown: the first, the last and one between."""
_QUALITY = 82
_MIN_IOU = 0.5  # of a true positive


def build_gallery(study: Study, *, focus_images: int = FOCUS_IMAGES) -> Gallery:
    """Run the finished models of one seed on chosen images of the measured split.

    Errors do not prevent the report: what cannot be shown is stated in the notes.
    """
    seed = max(study.plan.seeds, key=lambda s: (sum(r.seed == s and r.state == "done" for r in study.runs), -s))
    variants = [v for v in study.variants if study.run(v.name, seed).state == "done"]
    if not variants:
        return Gallery(seed=seed)
    try:
        index = _index(study)
        choices = choose([study.matches(v.name, seed) for v in variants])
        known = [c for c in choices if 0 <= c.image < len(index)]
        images = [read_image(index.paths[c.image]) for c in known]
    except UserError as error:
        return Gallery(seed=seed, notes=(f"No images can be shown: {error}",))
    builder = _GalleryBuilder(study, seed, index)
    for variant in variants:
        builder.add(variant, known, images, focus_images)
    return builder.gallery(known, images)


def _index(study: Study) -> Index:
    data, flags, split = load_data(study.plan.data.source), study.plan.flags, study.plan.data.measured
    index = load_index(data, split, single_cls=bool(flags.get("single_cls")), classes=flags.get("classes"))
    if data_digest(index) != study.plan.data.splits[split].digest:
        raise UserError(f"{study.plan.data.source}: the {split} split has changed since it was measured")
    return index


class _GalleryBuilder:
    """Collects the pictures variant by variant, so that only one model is in memory at a time."""

    def __init__(self, study: Study, seed: int, index: Index) -> None:
        self._study, self._seed, self._index = study, seed, index
        self._side = int(study.plan.flags.get("imgsz", 640))
        self._pictures: dict[int, dict[str, list[Picture]]] = {}
        self._energy: dict[str, CamEnergy] = {}
        self._uniform_shares: list[float] = []
        self._notes: list[str] = []

    def add(self, variant: Variant, choices: Sequence[ChosenImage], images: Sequence[Image], focus_images: int) -> None:
        """Load a variant's model and draw its pictures."""
        path = self._study.run(variant.name, self._seed).folder / "weights" / "last.pt"
        try:
            model = load_model(path)
            for number, (choice, image) in enumerate(zip(choices, images, strict=True)):
                views = list(self._views(model, image, self._index.ground_truth(choice.image)))
                self._pictures.setdefault(number, {})[variant.name] = views
            self._energy[variant.name] = self._mean_energy(model, focus_images)
        except (UserError, RuntimeError) as error:  # RuntimeError: a block without gradients, or out of memory
            partly = any(variant.name in views for views in self._pictures.values())
            reason = " ".join(str(error).split())[:300]
            self._notes.append(f"{variant.name} {'is only partly' if partly else 'cannot be'} shown: {reason}")

    def _views(self, model: Detector, image: Image, truth: GroundTruth) -> Iterator[Picture]:
        found = model.predict(image, imgsz=self._side, conf=SHOWN_CONF)[0]
        scale = min(SIDE / max(image.shape[:2]), 1.0)
        small = _small(image)
        labels = [f"{printable(found.name(int(c)))} {p:.2f}" for c, p in zip(found.cls, found.conf, strict=True)]
        drawn = draw_boxes(small, found.xyxy[::-1] * np.float32(scale), labels[::-1], found.cls[::-1], line_width=2)
        yield Picture(view="boxes", jpeg=_jpeg(drawn), caption=count_found(found.xyxy, found.cls, truth))
        explained = _largest_object(truth)
        if explained is None:
            yield Picture(view="cam", jpeg=b"", caption="no object to explain")
        else:
            cam, box, seen = self._cam(model, image, truth, explained)
            share = energy_inside(cam, seen)
            evidence = "no positive evidence" if math.isnan(share) else f"{100 * share:.0f} % inside ground-truth boxes"
            caption = f"{printable(self._index.names[int(truth.cls[explained])])}: {evidence}"
            yield Picture(view="cam", jpeg=_jpeg(_overlay(small, _cropped(cam, box), truth.xyxy[explained] * scale)), caption=caption)
        yield from self._attention(model, image, small, truth, explained)

    def _cam(
        self, model: Detector, image: Image, truth: GroundTruth, explained: int
    ) -> tuple[Map, letterbox.Letterbox, NDArray[np.float32]]:
        """LayerCAM of an object, its letterbox, and the ground-truth boxes of the object's class in it."""
        box, tensor = _letterboxed(model, image, self._side)
        boxes = box.from_source(truth.xyxy)
        cam = layer_cam(model, tensor, Chosen(boxes[explained].tolist(), int(truth.cls[explained])))
        return cam, box, boxes[(truth.cls == truth.cls[explained]) & ~truth.crowd]

    def _attention(self, model: Detector, image: Image, small: Image, truth: GroundTruth, explained: int | None) -> Iterator[Picture]:
        box, tensor = _letterboxed(model, image, self._side)
        at = None
        if explained is not None:
            left, top, right, bottom = box.from_source(truth.xyxy[explained : explained + 1])[0].tolist()
            at = ((left + right) / 2, (top + bottom) / 2)
        maps = attention_maps(model, tensor, at)
        for i in sorted({round(k * (len(maps) - 1) / (BLOCKS - 1)) for k in range(BLOCKS)}) if maps else ():
            label, values = maps[i]
            shown = _cropped(cv2.resize(values, box.shape[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32), box)
            caption = f"row {printable(label)}, {values.min():.3g} to {values.max():.3g}"
            yield Picture(view="attention", jpeg=_jpeg(_overlay(small, _stretched(shown), None)), caption=caption)
        if not maps:
            yield Picture(view="attention", jpeg=b"", caption="this model has no attention maps")

    def _mean_energy(self, model: Detector, most: int) -> CamEnergy:
        """The mean share of LayerCAM energy inside ground-truth boxes; once, also that of a uniform map."""
        with_objects = [i for i in range(len(self._index)) if _largest_object(self._index.ground_truth(i)) is not None]
        shares, uniform = [], []
        for i in evenly_spaced(with_objects, most):
            truth = self._index.ground_truth(i)
            try:
                image = read_image(self._index.paths[i])
            except ImageError as error:
                LOG.warning("%s: left out of the mean LayerCAM energy (%s)", self._index.paths[i], error)
                continue
            explained = _largest_object(truth)
            assert explained is not None, "only images with objects are chosen"
            cam, _, seen = self._cam(model, image, truth, explained)
            shares.append(energy_inside(cam, seen))
            uniform.append(energy_inside(np.ones_like(cam), seen))
        self._uniform_shares = self._uniform_shares or uniform
        known = [s for s in shares if not math.isnan(s)]
        return CamEnergy(share=sum(known) / len(known) if known else math.nan, images=len(known))

    def gallery(self, choices: Sequence[ChosenImage], images: Sequence[Image]) -> Gallery:
        """The pictures drawn so far, up to the budget."""
        scenes: list[GalleryScene] = []
        spent = 0
        for number, (choice, image) in enumerate(zip(choices, images, strict=True)):
            scene = self._scene(number, choice, image)
            spent += len(scene.truth) + sum(len(p.jpeg) for views in scene.pictures.values() for p in views)
            if scene.pictures and (spent <= BUDGET or not scenes):
                scenes.append(scene)
        uniform_share = sum(self._uniform_shares) / len(self._uniform_shares) if self._uniform_shares else math.nan
        return Gallery(scenes=tuple(scenes), energy=self._energy, uniform_share=uniform_share, seed=self._seed, notes=tuple(self._notes))

    def _scene(self, number: int, choice: ChosenImage, image: Image) -> GalleryScene:
        truth, small = self._index.ground_truth(choice.image), _small(image)
        labels = [printable(self._index.names[int(c)]) for c in truth.cls]
        drawn = draw_boxes(small, truth.xyxy * np.float32(min(SIDE / max(image.shape[:2]), 1.0)), labels, truth.cls, line_width=2)
        count = int((~truth.crowd).sum())
        return GalleryScene(
            name=self._index.paths[choice.image].name,
            why=choice.why,
            size=(small.shape[0], small.shape[1]),
            truth=_jpeg(drawn),
            truth_caption=f"{count} object{'s' if count != 1 else ''}",
            pictures=self._pictures.get(number, {}),
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


def _largest_object(truth: GroundTruth) -> int | None:
    """Index of the largest object; None in an image without objects."""
    area = np.where(truth.crowd, -1, truth.area)
    return int(area.argmax()) if area.size and area.max() > 0 else None


def _letterboxed(model: Detector, image: Image, side: int) -> tuple[letterbox.Letterbox, Tensor]:
    side = ceil_to_stride(side, model.max_stride)
    box = letterbox.fit((image.shape[0], image.shape[1]), (side, side), stride=model.max_stride)
    return box, to_tensor(letterbox.apply(image, box), next(model.parameters()).device)


def _cropped(values: Map, box: letterbox.Letterbox) -> Map:
    return values[box.top : box.top + box.size[0], box.left : box.left + box.size[1]]


def _stretched(values: Map) -> Map:
    """The map scaled to its minimum and maximum; a nearly uniform map keeps looking uniform."""
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 0.1 * abs(high), 1e-9)
    return (0.5 + (values - (low + high) / 2) / span).astype(np.float32)


def _small(image: Image) -> Image:
    scale = min(SIDE / max(image.shape[:2]), 1.0)
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _overlay(small: Image, values: Map, box: NDArray[np.floating] | None) -> Image:
    """A colour map over a grey image; the box of the explained object in white."""
    grown = np.asarray(cv2.resize(values, small.shape[1::-1], interpolation=cv2.INTER_LINEAR))
    colours = cv2.applyColorMap((grown.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_TURBO).astype(np.float32)
    grey = small.mean(2, keepdims=True) * 0.6
    strength = 0.25 + 0.5 * grown[..., None].clip(0, 1)
    out = (grey * (1 - strength) + colours * strength).clip(0, 255).astype(np.uint8)
    if box is not None:
        left, top, right, bottom = box.round().astype(int).tolist()
        cv2.rectangle(out, (left, top), (right, bottom), (255, 255, 255), 1)
    return out


def _jpeg(image: Image) -> bytes:
    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    assert ok, "an image of at most 320 pixels per side can be encoded"
    return bytes(data.tobytes())
