"""The objects that ``torch.hub.load`` returns: a model and its results with the attributes and methods of YOLOv5's."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from utils.device import clock, has_display
from utils.errors import UserError
from utils.files.run_folders import new_run_folder
from utils.images.writing import write_image
from utils.inference.outputs import folder_name
from utils.inference.predictor import Predictor, evaluating, read_sources
from utils.inference.results import Results
from utils.log import LOG

Pixels = NDArray[np.uint8]
BOXES = ("xmin", "ymin", "xmax", "ymax"), ("xcenter", "ycenter", "width", "height")
"""Column names of a table: of corners, and of centre and size."""


class HubModel(nn.Module):
    """A detector that is called with images.

    Attributes:
        model: the detector.
        conf, iou, agnostic, multi_label, classes, max_det: settings of the suppression; may be set at any time.
        amp: compute in half precision (fp16 on CUDA, bf16 elsewhere).
    """

    def __init__(self, model: Any) -> None:
        """Wrap `model`, a detector, an ensemble or an exported model."""
        super().__init__()
        self.model = model
        self.conf = 0.25
        self.iou = 0.45
        self.agnostic = False
        self.multi_label = False
        self.classes: Sequence[int] | None = None
        self.max_det = 1000
        self.amp = False

    @property
    def names(self) -> dict[int, str]:
        """Class names by class id."""
        return dict(self.model.names)

    @property
    def stride(self) -> int:
        """What the sides of an image are multiples of."""
        return int(self.model.max_stride)

    def forward(self, ims: Any, size: int | Sequence[int] = 640, augment: bool = False) -> HubResults | Tensor:
        """Detect in images.

        Args:
            ims: a path, folder, glob or URL; a PIL image; an array (H, W, 3) or (3, H, W) **RGB**, or (H, W), of 0..255; or a list of
                these. A tensor (B, 3, H, W), RGB in 0..1 with sides that are multiples of `stride`, goes straight to the model.
            size: side of the square, or (height, width), that an image is fitted into, in pixels.
            augment: test-time augmentation.

        Returns:
            The results; for a tensor the model's output, without suppression.

        Raises:
            UserError: a source is no image, or a setting is out of range.
        """
        if isinstance(ims, Tensor):
            ims = ims.to(self.model.device)
            return self.model.augmented(ims) if augment else self.model(ims)
        sides = tuple(size) if isinstance(size, Sequence) else (size, size)
        settings = {name: getattr(self, name) for name in ("conf", "iou", "agnostic", "multi_label", "classes", "max_det")}
        predictor = Predictor(model=self.model, imgsz=sides, augment=augment, half=self.amp, **settings)
        start = clock(self.model.device)
        images = list(read_sources(_rgb_arrays(ims)))
        if not images:
            raise UserError(f"{ims}: no image to detect in")
        read = (clock(self.model.device) - start) * 1e3 / len(images)
        with evaluating(self.model):
            return HubResults([predictor(image, path) for path, image in images], read)


def _rgb_arrays(ims: Any) -> Any:
    """Arrays of RGB, channels first or last, as BGR uint8 with channels last; everything else as it is."""
    if isinstance(ims, list | tuple):
        return [_rgb_arrays(one) for one in ims]
    if not isinstance(ims, np.ndarray):
        return ims
    if np.issubdtype(ims.dtype, np.floating):
        ims = _of_bytes(ims)
    if ims.ndim != 3:
        return ims
    array = ims.transpose(1, 2, 0) if ims.shape[0] < 5 else ims
    return np.ascontiguousarray(array[..., 2::-1]) if array.shape[2] >= 3 else array


def _of_bytes(array: NDArray[np.floating[Any]]) -> Pixels:
    """Pixels of 0..255 as uint8; those of an image scaled to 0..1 would all become black."""
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not 0 <= low <= high < 256 or 0 < high <= 1:
        raise UserError(f"an array of {array.dtype} has values from {low:g} to {high:g}; expected 0 to 255")
    return array.astype(np.uint8)


class HubResults:
    """The detections in one or more images; `len` is the number of images.

    Attributes:
        ims: (H, W, 3) uint8 RGB of each image; `render` draws on them.
        files: a file name for each.
        names: class names by class id.
        t: milliseconds an image of pre-processing, inference and suppression.
        s: (images, 3, height, width) of the network's input; that of the last image, since each is fitted by itself.
    """

    def __init__(self, results: Sequence[Results], read: float = 0.0) -> None:
        """Wrap `results`, at least one; reading took `read` milliseconds an image."""
        self._results = list(results)
        self.ims: list[Pixels] = [np.ascontiguousarray(r.image[..., ::-1]) for r in results]
        self.files = [r.path.with_suffix(".jpg").name for r in results]
        self.names: Mapping[int, str] = results[0].names
        speeds = [tuple(r.speed.values()) for r in results if r.speed] or [(0.0, 0.0, 0.0)]
        pre, inference, nms = (float(np.mean(column)) for column in zip(*speeds, strict=True))
        self.t = (pre + read, inference, nms)
        self.s = (len(results), 3, *results[-1].shape)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self._results)

    def __len__(self) -> int:
        """Number of images."""
        return self.n

    def __str__(self) -> str:
        """A line for each image, and the speed."""
        lines = [f"image {i}/{self.n}: {r.image.shape[0]}x{r.image.shape[1]} {r.summary()}" for i, r in enumerate(self._results, 1)]
        pre, inference, nms = self.t
        speed = f"Speed: {pre:.1f}ms pre-process, {inference:.1f}ms inference, {nms:.1f}ms NMS per image at shape {self.s}"
        return "\n".join([*lines, speed])

    def __repr__(self) -> str:
        """The same, after the class name."""
        return f"HubResults of\n{self}"

    @cached_property
    def xyxy(self) -> list[Tensor]:
        """For each image (n, 6) float32: left, top, right, bottom in pixels, confidence, class id."""
        return [torch.from_numpy(r.boxes) for r in self._results]

    @property
    def pred(self) -> list[Tensor]:
        """The same as `xyxy`."""
        return self.xyxy

    @cached_property
    def xyxyn(self) -> list[Tensor]:
        """As `xyxy`, normalized to 0..1 by the image's width and height."""
        return [boxes / _scale(r) for boxes, r in zip(self.xyxy, self._results, strict=True)]

    @cached_property
    def xywh(self) -> list[Tensor]:
        """For each image (n, 6): centre x, centre y, width, height in pixels, confidence, class id."""
        return [torch.cat(((b[:, :2] + b[:, 2:4]) / 2, b[:, 2:4] - b[:, :2], b[:, 4:]), 1) for b in self.xyxy]

    @cached_property
    def xywhn(self) -> list[Tensor]:
        """As `xywh`, normalized to 0..1 by the image's width and height."""
        return [boxes / _scale(r) for boxes, r in zip(self.xywh, self._results, strict=True)]

    def pandas(self) -> Tables:
        """The boxes as tables: ``results.pandas().xyxy[0]`` is a DataFrame with a row for each box, empty where there is none.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise UserError("results.pandas() needs pandas: pip install pandas") from error
        return Tables(self, pandas.DataFrame)

    def tolist(self) -> list[HubResults]:
        """Results of one image each."""
        return [HubResults([r]) for r in self._results]

    def print(self) -> None:
        """Print what was found and how long it took."""
        print(self)  # noqa: T201

    def render(self, labels: bool = True) -> list[Pixels]:
        """Draw the boxes on `ims`, and return them: (H, W, 3) uint8 RGB."""
        self.ims = [np.ascontiguousarray(r.plot(labels=labels)[..., ::-1]) for r in self._results]
        return self.ims

    def show(self, labels: bool = True) -> None:
        """Show the images with boxes: in a notebook below the cell, otherwise in the system's viewer, where there is a display."""
        for image in self.render(labels):
            picture = Image.fromarray(image)
            try:
                shell = importlib.import_module("IPython").get_ipython()
            except ImportError:
                shell = None
            if shell is None and has_display():
                picture.show()
            elif shell is None:
                LOG.warning("this machine has no display (DISPLAY is not set); results.save() writes the images")
                return
            else:
                importlib.import_module("IPython.display").display(picture)

    def save(self, labels: bool = True, save_dir: str | Path = "runs/detect/exp", exist_ok: bool = False) -> None:
        """Write the images with boxes to `save_dir`; where that exists and `exist_ok` is off, to ``exp2``, ``exp3`` and so on.

        Raises:
            UserError: it cannot be written.
        """
        folder = _new_folder(save_dir, exist_ok)
        for result, name in zip(self._results, _different(self.files), strict=True):
            write_image(folder / name, result.plot(labels=labels))
        LOG.info("Saved %d image%s to %s", self.n, "s" * (self.n > 1), folder)

    def crop(self, save: bool = True, save_dir: str | Path = "runs/detect/exp", exist_ok: bool = False) -> list[dict[str, Any]]:
        """Cut out each box, slightly enlarged.

        Args:
            save: write them to ``save_dir/crops/CLASS/NAME.jpg``, then NAME2.jpg and so on.
            save_dir, exist_ok: as in `save`.

        Returns:
            For each box, most confident first: `box` (4 tensors), `conf`, `cls`, `label` (name and confidence), `im` (h, w, 3) uint8 BGR.

        Raises:
            UserError: they cannot be written.
        """
        folder = _new_folder(save_dir, exist_ok) / "crops" if save else None
        found = []
        for result, name, boxes in zip(self._results, _different(self.files), self.xyxy, strict=True):
            for crop, box in zip(result.crops(), boxes, strict=True):
                label = f"{crop.name} {crop.conf:.2f}"
                found.append({"box": list(box[:4]), "conf": box[4], "cls": box[5], "label": label, "im": crop.image})
                if folder:
                    place = folder / folder_name(crop.name, crop.cls)
                    place.mkdir(parents=True, exist_ok=True)
                    numbered = (place / f"{Path(name).stem}{number}.jpg" for number in chain([""], count(2)))
                    write_image(next(path for path in numbered if not path.exists()), crop.image, sharp=True)
        if folder:
            LOG.info("Saved %d crop%s to %s", len(found), "s" * (len(found) != 1), folder)
        return found


class Tables:
    """`HubResults` whose boxes are DataFrames with the columns `BOXES`, confidence, class and name."""

    def __init__(self, results: HubResults, frame: Callable[..., Any]) -> None:
        """Turn the boxes of `results` into tables by `frame`, pandas' DataFrame."""
        self.names = results.names
        for kind, columns in (("xyxy", BOXES[0]), ("xyxyn", BOXES[0]), ("xywh", BOXES[1]), ("xywhn", BOXES[1])):
            setattr(self, kind, [self._table(frame, columns, boxes) for boxes in getattr(results, kind)])

    def _table(self, frame: Callable[..., Any], columns: Sequence[str], boxes: Tensor) -> Any:
        values = boxes.double().numpy()
        table = frame(values[:, :5], columns=[*columns, "confidence"])
        table["class"] = values[:, 5].astype(np.int64)
        table["name"] = [self.names.get(int(c), str(int(c))) for c in values[:, 5]]
        return table


def _scale(result: Results) -> Tensor:
    """(6,) what pixels are divided by; 1 for confidence and class."""
    height, width = result.image.shape[:2]
    return torch.tensor([width, height, width, height, 1.0, 1.0])


def _new_folder(save_dir: str | Path, exist_ok: bool) -> Path:
    return new_run_folder(Path(save_dir).parent, Path(save_dir).name, exist_ok=exist_ok)


def _different(files: Sequence[str]) -> list[str]:
    """The names, with numbers behind those that were there before: no image replaces another."""
    names: list[str] = []
    for file in files:
        name, number = file, 1
        while name in names:
            number += 1
            name = f"{Path(file).stem}_{number}{Path(file).suffix}"
        names.append(name)
    return names
