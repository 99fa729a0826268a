"""Reading weights: an official YOLOv5 checkpoint or one of Attune's."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.build import build_layers
from models.detector import Detector
from models.spec.model_spec import ModelSpec, parse_names
from models.weights.yolov5 import official_model, official_spec, official_state, plain
from utils.device import select_device
from utils.errors import UserError, nearest
from utils.files.checksum import has_valid_checksum
from utils.files.torch_file import read_torch_file

RELEASE = "https://github.com/ultralytics/yolov5/releases/download/v7.0/"
_COUNTER = ".num_batches_tracked"
_ASSET = re.compile(r"yolov5[nsmlx]6?\.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The model of a checkpoint.

    Attributes:
        state: state_dict, float32, on the CPU.
        spec: the network of the weights.
        names: class names by class number.
        nc: number of classes.
        source: the file.
    """

    state: dict[str, Tensor]
    spec: ModelSpec
    names: dict[int, str]
    nc: int
    source: Path


def read_weights(path: str | Path) -> Weights:
    """Read the weights of an official YOLOv5 ``.pt`` or of Attune's checkpoint; nothing in the file is executed.

    The EMA weights are used if the file has them.

    Raises:
        UserError: no such file (suggests the nearest name, or the URL of an official one), damaged, or another kind of file.
    """
    path = Path(path)
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name that is too long
        raise UserError(_missing(path))
    content = read_torch_file(path)
    if isinstance(content, dict) and "attune" in content:
        if not has_valid_checksum(path):
            raise UserError(f"{path}: the checkpoint is damaged: its checksum does not match; use an earlier one")
        return _own(content, path)
    model = official_model(content, str(path))
    spec = official_spec(model, str(path))
    return Weights(state=official_state(model, str(path)), spec=spec, names=dict(enumerate(spec.names or ())), nc=spec.nc, source=path)


def load_model(path: str | Path, *, device: str | torch.device = "cpu", fuse: bool = True) -> Detector:
    """Load a detector, ready to use: in eval mode and, unless `fuse` is off, with the batch norms folded into the convolutions.

    Args:
        device: as ``--device``, or a torch device.

    Raises:
        UserError: see `read_weights`; or the weights do not fit the model the file describes.
    """
    weights = read_weights(path)
    _check_fits(weights)
    model = Detector(weights.spec, names=weights.names)
    counters = {k: v for k, v in model.state_dict().items() if k.endswith(_COUNTER)}
    model.load_state_dict(counters | weights.state)
    model.requires_grad_(False)
    model.to(select_device(device) if isinstance(device, str) else device).eval()
    return model.fuse() if fuse else model


def _check_fits(weights: Weights) -> None:
    """Compare the tensors with the model that the file describes, before a model of another size is built.

    Batch counters, which old files lack, may be missing.

    Raises:
        UserError: tensors are missing, unknown or of another shape; names the first.
    """
    repeats = sum(weights.spec.scale.repeats(row.repeats) for row in weights.spec.rows)
    if repeats > len(weights.state) + 100:  # rows without weights: Concat, Upsample, pooling
        raise UserError(f"{weights.source}: does not fit the model it describes: {repeats} layers of {len(weights.state)} tensors")
    with torch.device("meta"):
        layers, _ = build_layers(weights.spec)
    own = {f"model.{key}": tuple(tensor.shape) for key, tensor in layers.state_dict().items()}
    given = {key: tuple(tensor.shape) for key, tensor in weights.state.items()}
    differing = [k for k in own | given if own.get(k) != given.get(k) and (k in given or not k.endswith(_COUNTER))]
    if differing:
        first, count = differing[0], f"{len(differing)} tensor{'s' * (len(differing) > 1)}"
        shapes = f"{first} is {given.get(first, 'absent')}, expected {own.get(first, 'absent')}"
        raise UserError(f"{weights.source}: does not fit the model it describes in {count}: {shapes}")


def _own(content: dict[str, Any], path: Path) -> Weights:
    try:
        state = content["ema"] or content["model"]
        spec = ModelSpec.from_dict(plain(content["spec"], str(path)), str(path))
        names = dict(enumerate(parse_names(plain(content["names"], str(path)), str(path)) or ()))
    except (KeyError, AttributeError) as error:
        raise UserError(f"{path}: incomplete checkpoint ({error}); a newer version of Attune may have written it") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{path}: the checkpoint has no weights")
    converted = {id(t): t.float() if t.is_floating_point() else t for t in state.values()}  # shared tensors stay shared
    state = {str(key): converted[id(tensor)] for key, tensor in state.items()}
    return Weights(state=state, spec=spec, names=names, nc=spec.nc, source=path)


def _missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"no weights {str(path)!r}: there is no folder {folder.absolute()}"
    hint = nearest(path.name, (p.name for p in folder.glob("*.pt")))
    official = f" (download YOLOv5's from {RELEASE}{path.name})" if _ASSET.fullmatch(path.name) else ""
    return f"no weights {path.name!r} in {folder.absolute()}{official}{hint}"
