"""An exported model that is used like a detector, whatever runtime runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.errors import UserError
from utils.inference.runtimes.coreml import CoreMlSession
from utils.inference.runtimes.engine import EngineSession
from utils.inference.runtimes.litert import LiteRtSession
from utils.inference.runtimes.ncnn import NcnnSession
from utils.inference.runtimes.onnx import OnnxSession
from utils.inference.runtimes.openvino import OpenVinoSession
from utils.inference.runtimes.pt2 import Pt2Session
from utils.inference.runtimes.session import Session
from utils.inference.runtimes.torchscript import TorchScriptSession
from utils.log import LOG

if TYPE_CHECKING:
    from utils.inference.results import Results

RUNTIMES: dict[str, Callable[[Path, torch.device], Session]] = {
    ".onnx": OnnxSession,
    ".torchscript": TorchScriptSession,
    ".pt2": Pt2Session,
    "_openvino_model": OpenVinoSession,
    "_ncnn_model": NcnnSession,
    ".mlpackage": CoreMlSession,
    ".tflite": LiteRtSession,
    ".engine": EngineSession,
    ".xml": OpenVinoSession,
}
"""By the end of the name of a file or folder."""

_MAX_PIXELS = 1 << 26
"""Of a batch whose size the file fixes: 16 images of 2048 x 2048."""


def runtime_of(path: str | Path) -> Callable[[Path, torch.device], Session] | None:
    """What opens an exported file, by the end of its name; None for any other file."""
    name = Path(path).name.lower()
    return next((open_session for end, open_session in RUNTIMES.items() if name.endswith(end)), None)


class ExportedModel(nn.Module):
    """A detector in an exported file.

    Args:
        path: of the file or folder.
        device: to compute on, where the runtime can.

    Attributes:
        names: class names by class id.
        nc: number of classes.
        ch: channels of the image.
        max_stride: what the sides of an image must be multiples of.
        fixed_shape: (height, width) that the file was exported for; None where it takes any.
        device: of the output.

    Shape:
        (B, ch, H, W) -> (B, N, 5 + nc), as `Detector`; of a file with NMS in it, the kept boxes alone, with an objectness of 1

    Raises:
        UserError: the file is missing, damaged, no detector, or its package is not installed.
    """

    def __init__(self, path: str | Path, device: torch.device) -> None:
        super().__init__()
        self.path, self.device = Path(path), device
        open_session = runtime_of(path)
        assert open_session is not None, path
        self._session = open_session(self.path, device)
        meta, (batch, channels, height, width) = self._session.metadata, self._session.shape
        self._batch, self._nms = batch, meta.nms
        self._warned = False
        self.ch, self.max_stride = 3, meta.stride
        self.fixed_shape = (height, width) if height and width else None
        if channels not in (3, None) or (height is None) != (width is None) or (batch or 1) * (height or 1) * (width or 1) > _MAX_PIXELS:
            shape = " x ".join("any" if side is None else str(side) for side in self._session.shape)
            raise UserError(
                f"{path}: takes images of {shape} (batch, channels, height, width); expected 3 channels, "
                f"height and width both fixed or both free, and at most {_MAX_PIXELS:,} pixels"
            )
        self.names = self._names()
        self.nc = len(self.names)

    def _names(self) -> dict[int, str]:
        """Class names, whose number a first run checks."""
        side = 8 * self.max_stride  # OpenVINO cannot pool a map that is smaller than the window, which has 7 cells in SCSA
        found = self._run(torch.zeros(self._batch or 1, 3, *(self.fixed_shape or (side, side))))
        names, what = self._session.metadata.names, " x ".join(map(str, found.shape))
        if found.ndim != 3 or len(found) != (self._batch or 1) or found.shape[2] < 6:
            raise UserError(f"{self.path}: is no YOLOv5 detector: its output is {what}, expected images x boxes x (5 + classes)")
        if self._nms:
            if found.shape[2] != 6 or names is None:
                raise UserError(f"{self.path}: its NMS gives {what}, expected images x boxes x 6, and class names in the metadata")
            return names
        if found.shape[1] < found.shape[2] and names is not None and found.shape[1] in (4 + len(names), 5 + len(names)):
            raise UserError(f"{self.path}: is no YOLOv5 detector: its output is {what}, as YOLOv8 and later write it")
        names = names or {i: f"class{i}" for i in range(found.shape[2] - 5)}
        if len(names) != found.shape[2] - 5:
            raise UserError(f"{self.path}: has {len(names)} class names for outputs of {found.shape[2] - 5} classes ({what})")
        return names

    def forward(self, x: Tensor) -> Tensor:
        """Decoded predictions, in parts of the file's batch size."""
        if self.fixed_shape and tuple(x.shape[2:]) != self.fixed_shape:
            given, fixed = (" x ".join(map(str, shape)) for shape in (x.shape[2:], self.fixed_shape))
            raise UserError(f"{self.path}: takes images of {fixed} pixels, not {given}; export with --dynamic or that --imgsz")
        if torch.is_autocast_enabled(x.device.type) and not self._warned:
            LOG.warning("--half is not used: %s computes in the precision it was exported with", self.path)
            self._warned = True
        size = self._batch or len(x)
        pred = torch.cat([self._run(F.pad(part, (0, 0) * 3 + (0, size - len(part))))[: len(part)] for part in x.float().split(size)])
        return (self._with_classes(pred) if self._nms else pred).to(x.device)

    def _run(self, images: Tensor) -> Tensor:
        return self._session(images)

    def _with_classes(self, found: Tensor) -> Tensor:
        """(B, K, 6) xyxy, confidence, class id -> (B, K, 5 + nc) predictions, which another NMS leaves as they are."""
        xyxy, conf, cls = found[..., :4], found[..., 4:5], found[..., 5].long().clamp(0, self.nc - 1)
        centre, sides = (xyxy[..., :2] + xyxy[..., 2:]) / 2, xyxy[..., 2:] - xyxy[..., :2]
        return torch.cat((centre, sides, conf, F.one_hot(cls, self.nc).to(found)), -1)

    def predict(self, sources: Any, **settings: Any) -> list[Results]:
        """Detect objects in images; see `utils.inference.predictor.predict` for sources and settings."""
        from utils.inference.predictor import predict

        return predict(self, sources, **settings)

    def augmented(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """Refuse: test-time augmentation needs the levels of the network.

        Raises:
            UserError: always.
        """
        raise UserError(f"--augment: needs the .pt that {self.path} was exported from")
