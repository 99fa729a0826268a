"""Flags of export.py."""

from __future__ import annotations

import dataclasses

from utils.cli import option
from utils.config import IMGSZ, MAX_IMGSZ
from utils.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """Flags of export.py, those of YOLOv5 with their defaults."""

    weights: str = option("yolov5s.pt", "checkpoint to export: an official YOLOv5 .pt or one of Attune")
    include: tuple[str, ...] = option(("torchscript",), "formats, see docs/export.md", nargs="+", type=str)
    data: str = option("", "dataset whose images calibrate --int8 and are used for the check; by default drawn images are")
    imgsz: tuple[int, ...] = option((640, 640), "height and width in pixels, or one number for both", *IMGSZ, nargs="+", type=int)
    batch_size: int = option(1, "images per batch, where it is fixed", "--batch")
    device: str = option("cpu", "cpu, 0, ...: where the network is traced")
    half: bool = option(False, "half precision: fp16 weights")
    int8: bool = option(False, "8-bit integers, calibrated on the images of --data")
    dynamic: bool = option(False, "free batch size, height and width")
    simplify: bool = option(False, "slim ONNX graphs with onnxslim")
    opset: int = option(17, "ONNX operator set")
    nms: bool = option(False, "put NMS into the graph: the output is (batch, topk-all, 6) xyxy, confidence, class id")
    agnostic_nms: bool = option(False, "with --nms: boxes of different classes suppress each other")
    topk_per_class: int = option(100, "with --nms: maximum number of detections per class")
    topk_all: int = option(100, "with --nms: maximum number of detections per image")
    iou_thres: float = option(0.45, "with --nms: IoU above which the weaker of two boxes is dropped")
    conf_thres: float = option(0.25, "with --nms: minimum confidence of a detection")
    workspace: float = option(4.0, "TensorRT: memory for its optimisation in GB")
    plugins: tuple[str, ...] = option((), "Python files of your own that register modules", nargs="+", type=str)

    def __post_init__(self) -> None:
        for name in ("conf_thres", "iou_thres"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"--{name.replace('_', '-')} must be in 0..1, got {getattr(self, name)}")
        for name, low, high in (("batch_size", 1, 1024), ("topk_per_class", 1, 10_000), ("topk_all", 1, 10_000), ("opset", 14, 23)):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"--{name.replace('_', '-')} must be {low} to {high}, got {getattr(self, name)}")
        if len(self.imgsz) > 2 or not all(1 <= side <= MAX_IMGSZ for side in self.imgsz):
            shown = " ".join(map(str, self.imgsz))
            raise UserError(f"--imgsz must be height and width, or one number for both, of 1 to {MAX_IMGSZ} pixels, got {shown}")
        if self.half and self.int8:
            raise UserError("--half and --int8 exclude each other")
        if not 0 < self.workspace < 1000:
            raise UserError(f"--workspace must be a number of GB above 0, got {self.workspace}")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(batch, channels, height, width) of the input."""
        return self.batch_size, 3, self.imgsz[0], self.imgsz[-1]
