"""What a format is, and what every writer of one is given."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import tomllib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.detector import Detector
from utils.config import ROOT
from utils.export.config import ExportConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A model and how it is exported.

    Attributes:
        cfg: the flags.
        model: fused, in eval mode, float32, on the device of the flags.
        images: calls give endless batches (B, 3, height, width) of float32 images in 0..1, given B, height and width.
        folder: for intermediate files; removed afterwards.
    """

    cfg: ExportConfig
    model: Detector
    images: Callable[[int, int, int], Iterator[Tensor]]
    folder: Path

    @cached_property
    def network(self) -> nn.Module:
        """The module to export: images in, decoded predictions out, both float32; with --half it computes in fp16 in between."""
        return _HalfNetwork(self.model).eval() if self.cfg.half else self.model  # exporters put back the mode that they find

    @property
    def example(self) -> Tensor:
        """An input."""
        return self._input(self.cfg.shape[0])

    def _input(self, batch: int) -> Tensor:
        return next(self.images(batch, *self.cfg.shape[2:])).to(next(self.model.parameters()).device)

    def graph_inputs(self) -> tuple[Tensor, tuple[dict[int, Any]] | None]:
        """An input for torch.export, and which of its sizes are free. A batch of 1 would become a constant."""
        if not self.cfg.dynamic:
            return self.example, None
        free = torch.export.Dim.DYNAMIC
        return self._input(max(self.cfg.shape[0], 2)), ({0: free, 2: free, 3: free},)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What the file says of itself: names and values as YOLOv5 has them, and Attune's own."""
        return {
            "description": f"{self.model.spec.where}, exported by Attune",
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "version": tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"],
            "license": "MIT (Attune); the weights keep the licence of what they were trained from",
            "task": "detect",
            "stride": self.model.max_stride,
            "names": dict(self.model.names),
            "imgsz": list(self.cfg.shape[2:]),
            "batch": self.cfg.batch_size,
            "shape": list(self.cfg.shape),
            "dynamic": self.cfg.dynamic,
            "half": self.cfg.half,
            "int8": self.cfg.int8,
            "nms": self.cfg.nms,
        }


class _HalfNetwork(nn.Module):
    """A detector whose network computes in fp16; boxes are decoded in float32, as fp16 cannot tell neighbouring pixels apart."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).half()

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.to(torch.float16))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One export format.

    Attributes:
        name: for --include.
        ending: of the file or folder, after the stem of the weights.
        packages: modules that writing or checking it imports.
        install: the command that installs them.
        write: writes a file or folder.
        options: which of "half", "int8", "dynamic" and "nms" it can have.
        runs_here: whether this machine can run it.
    """

    name: str
    ending: str
    packages: tuple[str, ...]
    install: str
    write: Callable[[Job, Path], None]
    options: frozenset[str]
    runs_here: Callable[[], bool] = lambda: True
