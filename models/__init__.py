"""Detectors from YAML. Importing this package loads nothing; each function imports what it needs.

Example:
    >>> model = build_model("yolov5n-ca", nc=3)
    >>> model.nc, model.max_stride
    (3, 32)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from models.detector import Detector
    from models.spec.model_spec import ModelSpec
    from utils.inference.runtimes.exported import ExportedModel

__all__ = ["build_model", "list_modules", "load_model", "load_plugins"]


def build_model(
    cfg: str | Path | Mapping[str, Any] | ModelSpec,
    nc: int | None = None,
    *,
    names: Mapping[int, str] | Sequence[str] | None = None,
    ch: int | None = None,
    seed: int = 0,
    anchors: Any = None,
) -> Detector:
    """Build a detector with fresh weights, in training mode.

    Args:
        cfg: a model YAML, its name (``yolov5s``), its content, or a spec.
        nc: number of classes; None takes that of `names`, else the YAML's.
        names: class names.
        ch: channels of the image; None takes the YAML's, 3 unless it says otherwise.
        seed: the weights are a function of it; the global random state is neither read nor changed.
        anchors: overrides the YAML's: a number per level, or per level w, h pairs in pixels.

    Raises:
        UserError: no such file, or a row that cannot be built; names the row.
    """
    from models.detector import build_detector

    return build_detector(cfg, nc, names=names, ch=ch, seed=seed, anchors=anchors)


def load_model(path: str | Path, *, device: str | torch.device = "cpu", fuse: bool = True) -> Detector | ExportedModel:
    """Load an official YOLOv5 ``.pt`` or a checkpoint of Attune as a detector in evaluation mode, or an exported model by its suffix.

    Raises:
        UserError: not there, damaged, or none of these; or the package that runs an exported model is not installed.
    """
    from models.weights.load import load_model as load
    from utils.device import select_device
    from utils.inference.runtimes.exported import ExportedModel, runtime_of

    if runtime_of(path):
        return ExportedModel(path, select_device(device) if isinstance(device, str) else device)
    return load(path, device=device, fuse=fuse)


def list_modules() -> list[str]:
    """Names of all modules that a YAML may use, plug-ins included, sorted."""
    import models.build  # noqa: F401  registers the modules
    from models.registry import list_modules as registered

    return registered()


def load_plugins(paths: Sequence[str | Path]) -> None:
    """Import Python files of your own that register modules.

    Raises:
        UserError: a file is not there, or raises; names it and the line.
    """
    from models.plugins import load_plugins as load

    load(paths)
