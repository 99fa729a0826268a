"""Models for ``torch.hub.load``, with YOLOv5's names and arguments.

    import torch
    model = torch.hub.load("path/to/attune", "custom", path="best.pt", source="local")
    results = model("bus.jpg")
    results.print()

Nothing is downloaded or installed. PyTorch imports this file and takes its public functions for models.
"""

from __future__ import annotations

import pathlib
import sys
import typing

import torch

if typing.TYPE_CHECKING:
    from collections.abc import Callable

dependencies = ["torch", "torchvision", "cv2", "yaml"]


def custom(
    path: str | pathlib.Path = "path/to/model.pt",
    autoshape: bool = True,
    _verbose: bool = True,
    device: str | int | torch.device | None = None,
) -> typing.Any:
    """Load a checkpoint of YOLOv5 or Attune, or an exported file.

    Args:
        path: the file.
        autoshape: return a `utils.inference.hub.HubModel`, which takes images; otherwise the module, which takes tensors and can be
            trained.
        _verbose: print a line about the model.
        device: where it runs, such as ``cpu``, ``cuda:0`` or 0; None takes the first GPU, else the CPU.

    Raises:
        UserError: no such file, or another kind of file.
    """
    _check_packages()
    from models import load_model

    model = load_model(path, device=_device(device), fuse=autoshape)
    if not autoshape:
        model.requires_grad_()
    return _wrapped(model, pathlib.Path(path).name, autoshape, _verbose)


def _official(name: str) -> Callable[..., typing.Any]:
    def load(
        pretrained: bool = True,
        channels: int = 3,
        classes: int = 80,
        autoshape: bool = True,
        _verbose: bool = True,
        device: str | int | torch.device | None = None,
    ) -> typing.Any:
        if pretrained and (channels, classes) == (3, 80):
            return custom(_weights(name), autoshape, _verbose, device)
        _check_packages()
        from models import build_model
        from models.weights.load import read_weights
        from models.weights.transfer import transfer

        model = build_model(name, classes, ch=channels)
        if pretrained:
            transfer(model, read_weights(_weights(name)))
        return _wrapped(model.to(_device(device)).eval(), name, autoshape, _verbose)

    load.__name__ = load.__qualname__ = name
    load.__doc__ = f"""{name}: with the weights of {name}.pt in the working folder or beside this file, unless `pretrained` is off.

    With other `channels` or `classes` than 3 and 80, all weights that fit are taken. For the other arguments see `custom`.
    """
    return load


yolov5n, yolov5s, yolov5m, yolov5l, yolov5x = (_official(f"yolov5{size}") for size in "nsmlx")
yolov5n6, yolov5s6, yolov5m6, yolov5l6, yolov5x6 = (_official(f"yolov5{size}6") for size in "nsmlx")


def _weights(name: str) -> pathlib.Path:
    """The weights file in the working folder, or else the one beside this file."""
    here, beside = pathlib.Path(f"{name}.pt"), pathlib.Path(__file__).parent / f"{name}.pt"
    return beside if beside.is_file() and not here.is_file() else here


def _check_packages() -> None:
    """Another project's `models` or `utils`, imported before, would be taken for this one's."""
    for name in ("models", "utils"):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and pathlib.Path(file).resolve().parent.parent != pathlib.Path(__file__).resolve().parent:
            raise ImportError(f"a package named {name} is already imported from {file}; load this model in a fresh Python process")


def _device(device: str | int | torch.device | None) -> torch.device:
    from utils.device import select_device

    return device if isinstance(device, torch.device) else select_device("" if device is None else str(device))


def _wrapped(model: typing.Any, name: str, autoshape: bool, verbose: bool) -> typing.Any:
    from utils.inference.hub import HubModel
    from utils.log import LOG, start_log

    if verbose:
        start_log()
        count = sum(p.numel() for p in model.parameters())
        LOG.info("%s: %s classes%s, on %s", name, model.nc, f", {count:,} parameters" if count else "", model.device)
    return HubModel(model) if autoshape else model


if __name__ == "__main__":
    raise SystemExit("error: hubconf.py is no command: torch.hub.load reads it; use python detect.py --weights yolov5s.pt")
