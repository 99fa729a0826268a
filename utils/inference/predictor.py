"""Images to detections: the one path that detect.py and `Detector.predict` share, so that their results are equal."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from utils.config import MAX_IMGSZ
from utils.device import clock, half_precision
from utils.errors import UserError
from utils.geometry import ceil_to_stride
from utils.images import letterbox
from utils.images.reading import ImageError
from utils.inference.nms import non_max_suppression
from utils.inference.results import Results
from utils.inference.sources import Files, is_video, open_source
from utils.inference.suppression import check_suppression
from utils.log import LOG

ImageSource = str | Path | NDArray[np.uint8] | Image.Image


class Model(Protocol):
    """A detector, or an ensemble of them, as prediction needs it; both are modules."""

    @property
    def names(self) -> Mapping[int, str]:
        """Class names by class id."""

    @property
    def nc(self) -> int:
        """Number of classes."""

    @property
    def ch(self) -> int:
        """Channels of the image."""

    @property
    def max_stride(self) -> int:
        """What the sides of an image must be multiples of."""

    @property
    def fixed_shape(self) -> tuple[int, int] | None:
        """The only (height, width) of images that an exported file takes; None where any is."""

    @property
    def device(self) -> torch.device:
        """Where images go."""

    def __call__(self, x: Tensor) -> Tensor: ...
    def augmented(self, x: Tensor) -> Tensor: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def eval(self) -> Any: ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """A model and the settings of its inference: one image in, its `Results` out.

    Attributes:
        model: in eval mode, on the device to compute on.
        imgsz: (height, width) in pixels of the rectangle an image is fitted into; rounded up to the model's stride.
        conf: minimum confidence.
        iou: IoU above which NMS drops the less confident of two boxes.
        classes: class ids to keep; None keeps all.
        agnostic: boxes of different classes suppress each other too.
        multi_label: a box yields a detection for each class above `conf`, not for its best class only.
        max_det: maximum number of detections per image.
        augment: test-time augmentation.
        half: fp16 on CUDA, bf16 where the hardware has it.
        nms: the suppression, a name of `utils.inference.suppression`.
    """

    model: Model
    imgsz: tuple[int, ...] = (640, 640)
    conf: float = 0.25
    iou: float = 0.45
    classes: Sequence[int] | None = None
    agnostic: bool = False
    multi_label: bool = False
    max_det: int = 1000
    augment: bool = False
    half: bool = False
    nms: str = "hard"

    def __post_init__(self) -> None:
        for name in ("conf", "iou"):
            value = getattr(self, name)
            if not (isinstance(value, int | float | np.floating) and 0 <= value <= 1):
                raise UserError(f"{name} must be in 0..1, got {value!r}")
        check_suppression(self.nms)
        if not isinstance(self.max_det, Integral) or self.max_det < 1:
            raise UserError(f"max_det must be >= 1, got {self.max_det!r}")
        if len(self.imgsz) != 2 or not all(isinstance(side, Integral) and 1 <= side <= MAX_IMGSZ for side in self.imgsz):
            raise UserError(f"imgsz must be a side, or (height, width), of 1 to {MAX_IMGSZ} pixels, got {self.imgsz}")
        if self.model.ch != 3:
            raise UserError(f"the model takes images of {self.model.ch} channels; images are read with 3")
        if isinstance(self.classes, Integral):
            raise UserError(f"classes must be a list of class ids, such as [{self.classes}]")
        for cls in () if self.classes is None else self.classes:
            if cls not in self.model.names:
                raise UserError(f"classes: the model has no class {cls}; its {self.model.nc} class ids are 0 to {self.model.nc - 1}")

    @property
    def shape(self) -> tuple[int, int]:
        """`imgsz` rounded up to multiples of the stride, or what an exported file is fixed to."""
        if self.model.fixed_shape:
            return self.model.fixed_shape
        height, width = (ceil_to_stride(side, self.model.max_stride) for side in self.imgsz)
        return height, width

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8], path: Path) -> Results:
        """Detect in a (H, W, 3) uint8 BGR image."""
        device = self.model.device
        times = [clock(device)]
        box = letterbox.fit((image.shape[0], image.shape[1]), self.shape, stride=0 if self.model.fixed_shape else self.model.max_stride)
        pixels = to_tensor(letterbox.apply(image, box), device)
        times.append(clock(device))
        try:
            with half_precision(device, wanted=self.half):
                pred = (self.model.augmented(pixels) if self.augment else self.model(pixels)).float()
        except torch.OutOfMemoryError as error:
            size = " x ".join(map(str, pixels.shape[2:]))
            raise UserError(f"the device's memory cannot hold an image of {size}; use a smaller imgsz, half, or the CPU") from error
        times.append(clock(device))
        (detections,) = non_max_suppression(
            pred,
            self.conf,
            self.iou,
            classes=self.classes,
            agnostic=self.agnostic,
            multi_label=self.multi_label,
            max_det=self.max_det,
            method=self.nms,
            models=getattr(self.model, "members", 1),
        )
        found = detections.float().cpu().numpy()
        times.append(clock(device))
        speed = {name: (times[i + 1] - times[i]) * 1e3 for i, name in enumerate(("pre-process", "inference", "NMS"))}
        xyxy, conf, cls = box.to_source(found[:, :4]), found[:, 4].copy(), found[:, 5].astype(np.int64)
        return Results(image, path, self.model.names, xyxy, conf, cls, shape=box.shape, speed=speed)


def to_tensor(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(H, W, 3) uint8 BGR -> (1, 3, H, W) float32 RGB in 0..1."""
    return torch.from_numpy(image).to(device).flip(2).permute(2, 0, 1)[None].float() / 255


def predict(
    model: Model, sources: ImageSource | Sequence[ImageSource], *, imgsz: int | Sequence[int] = 640, **settings: Any
) -> list[Results]:
    """Detect in images.

    Args:
        model: a detector, on the device to compute on; put into eval mode for the call.
        sources: an image file, a folder, a glob, a .txt list or an http(s) URL of an image; a (H, W, 3) uint8 array in
            BGR order, as OpenCV reads it, or (H, W) in grey; a PIL image; or a list of these.
        imgsz: side of the square, or (height, width) of the rectangle, that an image is fitted into, in pixels.
        settings: conf, iou, classes, agnostic, multi_label, max_det, augment, half and nms, as in `Predictor`.

    Returns:
        The results in the order of the sources; a folder, glob or list of files gives one for each readable image.

    Raises:
        UserError: a source is not an image, or a setting is out of range.
    """
    sides = tuple(imgsz) if isinstance(imgsz, Iterable) else (imgsz,)
    predictor = Predictor(model=model, imgsz=sides * 2 if len(sides) == 1 else sides, **settings)
    with evaluating(model):
        return [predictor(image, path) for path, image in read_sources(sources)]


def read_sources(sources: ImageSource | Sequence[ImageSource]) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """The path and the (H, W, 3) uint8 BGR pixels of each image of `sources`, see `predict`."""
    single = isinstance(sources, (str, Path, np.ndarray, Image.Image)) or not isinstance(sources, Iterable)
    listed: Sequence[ImageSource] = [sources] if single else sources  # type: ignore[assignment, list-item]
    for i, source in enumerate(listed):
        yield from _images(source, i)


@contextlib.contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Put a model into eval mode inside, and restore the mode of every module afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _images(source: ImageSource, index: int) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    if isinstance(source, np.ndarray):
        yield Path(f"image{index}"), _as_bgr(source, index)
    elif isinstance(source, Image.Image):
        yield Path(getattr(source, "filename", "") or f"image{index}"), _from_pil(source, index)
    elif isinstance(source, (str, Path)):
        yield from _from_files(str(source))
    else:
        raise UserError(f"source {index}: expected a path, an array (H, W, 3) uint8 BGR or a PIL image, got {type(source).__name__}")


def _from_files(text: str) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    try:
        source = open_source(text)
    except UserError as error:
        raise UserError(str(error).removeprefix("--source ")) from error  # no flag is involved here
    try:
        if not isinstance(source, Files) or any(is_video(file) for file in source.files):
            raise UserError(f"{text}: a video or live source; predict() takes images (use detect.py, or pass the frames as arrays)")
        for frame in source:
            yield frame.path, frame.image
        for path, reason in source.failures.items():
            if len(source) == 1:
                raise ImageError(f"{path}: {reason}")
            LOG.warning("%s: %s; skipped", path, reason)
    finally:
        source.close()


def _as_bgr(image: NDArray[Any], index: int) -> NDArray[np.uint8]:
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4) or not image.size:
        raise UserError(f"source {index}: expected an array (H, W, 3) uint8 in BGR order, got {image.shape} of {image.dtype}")
    pixels = image.reshape(*image.shape[:2], channels)
    return np.ascontiguousarray(np.repeat(pixels, 3, 2) if channels == 1 else pixels[..., :3])


def _from_pil(image: Image.Image, index: int) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        raise UserError(f"source {index}: a PIL image of mode {image.mode} has more than 8 bits; give its path, or convert it to RGB")
    try:
        rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"source {index}: the PIL image cannot be decoded ({error})") from error
    return np.ascontiguousarray(rgb[..., ::-1])
