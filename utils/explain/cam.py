"""Where a detector looks: the maps that its attention blocks compute, and what a detection's score rests on."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from utils.boxes import cxcywh_to_xyxy
from utils.errors import UserError
from utils.geometry import iou
from utils.inference.predictor import evaluating

if TYPE_CHECKING:
    from models.detector import Detector

Map = NDArray[np.float32]

SAME_BOX = 0.9
"""Of the boxes that overlap a detection's at least so much of the best overlap, the most confident is taken for it."""


class Chosen(NamedTuple):
    """The detection, or the object, that a map explains: a box (left, top, right, bottom) in pixels of the network's image, and a class."""

    xyxy: Sequence[float]
    cls: int


def layer_cam(
    model: Detector, image: Tensor, chosen: Chosen, *, rows: Sequence[int] | None = None, fuse: Literal["max", "mean"] = "mean"
) -> Map:
    """LayerCAM (Jiang et al., IEEE TIP 2021) of one detection, over several rows of the model.

    The target is the score, object times class, that the cell of the chosen box gives before NMS. Of each row's output A the
    map is relu(sum over channels of relu(dY/dA) * A), divided by its maximum and enlarged to the image. Rows that the score
    does not depend on add nothing.

    Args:
        model: folded or not, in any mode; it is asked in evaluation mode, in float32, and left as it was.
        image: (1, ch, H, W) in 0..1, sides multiples of the stride.
        chosen: what to explain.
        rows: whose outputs to look at; None takes `cam_rows`.
        fuse: how the rows' maps become one; a maximum keeps more of the faint ones.

    Returns:
        (H, W) in 0..1; zeros where no row has a positive influence.
    """
    rows = cam_rows(model) if rows is None else rows
    with evaluating(model), torch.inference_mode(False), torch.enable_grad(), _outputs(model, rows) as outputs:
        pixels = image.detach().clone().requires_grad_()  # so that there is a graph in a frozen model, too
        prediction = model.head.decode(model.maps(pixels))[0]
        grads = torch.autograd.grad(_score(prediction, chosen), outputs, allow_unused=True)
    size = (int(image.shape[2]), int(image.shape[3]))
    maps = [_enlarged((g.relu() * a.detach()).sum(1).relu()[0], size) for a, g in zip(outputs, grads, strict=True) if g is not None]
    maps = [m / m.max() for m in maps if m.max() > 0]
    if not maps:
        return np.zeros(size, np.float32)
    fused = np.max(maps, 0) if fuse == "max" else np.mean(maps, 0)
    return (fused / fused.max()).astype(np.float32)


def cam_rows(model: Detector) -> list[int]:
    """The rows that `layer_cam` looks at: those the head reads, and those that are read again further on, the ends of a scale.

    Of a backbone or neck with several outputs it is the rows that pick one.
    """
    rows = model.spec.rows
    again = {s for row in rows for s in row.sources if 0 <= s != row.index - 1}
    several = {s for row in rows if row.name == "Feature" for s in row.sources}
    return sorted((again | set(rows[-1].sources)) - several)


def _score(prediction: Tensor, chosen: Chosen) -> Tensor:
    """The object-times-class score of the (N, 5 + K) row that stands for a box."""
    with torch.no_grad():
        scores = prediction[:, 4] * prediction[:, 5 + chosen.cls]
        target = torch.as_tensor(np.asarray(chosen.xyxy, np.float32), device=prediction.device)[None]
        overlap = iou(cxcywh_to_xyxy(prediction[:, :4]), target)
        row = scores.masked_fill(overlap < SAME_BOX * overlap.max(), -1).argmax()
    return prediction[row, 4] * prediction[row, 5 + chosen.cls]


@contextlib.contextmanager
def _outputs(model: Detector, rows: Sequence[int]) -> Iterator[list[Tensor]]:
    """The outputs of rows, in their order, once the model was called inside."""
    outputs: list[Tensor] = []
    with contextlib.ExitStack() as stack:
        for row in sorted(set(rows)):
            assert 0 <= row < len(model.model) - 1, f"the model has no row {row} below its head"
            stack.callback(model.model[row].register_forward_hook(lambda _, __, out: outputs.append(out)).remove)
        yield outputs


def _enlarged(cam: Tensor, size: tuple[int, int]) -> Map:
    return F.interpolate(cam[None, None], size, mode="bilinear", align_corners=False)[0, 0].cpu().numpy()


def attention_maps(model: Detector, image: Tensor, at: tuple[float, float] | None = None) -> list[tuple[str, Map]]:
    """The maps that the model's attention blocks compute for an image.

    A block is any module with a method ``attention(x)`` or ``attention(x, at)``: it takes what ``forward`` takes and returns
    the gate or the shares that forward uses, (B, maps, h, w). The mean over the maps is shown. A gate of one number a channel,
    (B, C, 1, 1), has no place of its own; of it is shown what it lets through: sum(gate * |x|) / sum(|x|) over the channels.

    Args:
        model: folded or not, in any mode; it is asked in evaluation mode and left as it was.
        image: (1, ch, H, W) in 0..1, sides multiples of the stride.
        at: x and y of a place in pixels of the image. Blocks in which each place attends to others show what this one attends to;
            without it, what all attend to on average.

    Returns:
        (label, (h, w) map) of each block, in the order in which they compute; a map is as large as its block's, and not normalised.

    Raises:
        UserError: a block's method returns something else.
    """
    found: list[tuple[str, Map]] = []
    names = {module: name for name, module in model.model.named_modules() if callable(getattr(module, "attention", None))}
    inside = False  # a block may ask its own parts

    def collect(module: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        nonlocal inside
        if inside:
            return
        inside = True
        found.append((_label(model, names[module]), _map(module, inputs[0], names[module], _cell(at, image, inputs[0]))))
        inside = False

    with evaluating(model), torch.no_grad(), contextlib.ExitStack() as stack:
        for module in names:
            stack.callback(module.register_forward_hook(collect).remove)
        model.maps(image)
    return found


def _map(module: nn.Module, x: Tensor, name: str, cell: tuple[int, int] | None) -> Map:
    method = module.attention
    assert callable(method)
    gate = method(x, cell) if len(inspect.signature(method).parameters) > 1 else method(x)
    if not isinstance(gate, Tensor) or gate.dim() != 4 or len(gate) != len(x):
        shown = tuple(gate.shape) if isinstance(gate, Tensor) else type(gate).__name__
        raise UserError(f"model.{name} ({type(module).__name__}): attention(x) returns (B, maps, h, w), not {shown}")
    gate = gate[0].float()
    if gate.shape[1:] == (1, 1) and len(gate) == x.shape[1] > 1:
        strength = x[0].float().abs()
        return ((gate * strength).sum(0) / strength.sum(0).clamp(min=1e-12)).cpu().numpy()
    return gate.mean(0).cpu().numpy()


def _cell(at: tuple[float, float] | None, image: Tensor, x: Tensor) -> tuple[int, int] | None:
    """Row and column, in a block's input, of a place in the image."""
    if at is None:
        return None
    H, W = x.shape[2:]
    row, column = int(at[1] * H / image.shape[2]), int(at[0] * W / image.shape[3])
    return min(max(row, 0), H - 1), min(max(column, 0), W - 1)


def _label(model: Detector, name: str) -> str:
    """A block's row, that row's module, and the way inside it: ``9 CoordAtt``, ``8 C3CoT m.0.cot``."""
    index, _, inner = name.partition(".")
    gate = getattr(model.model[int(index)], "g", None)  # models.gate.Gate
    inner = inner.removeprefix("block").removeprefix(".") if gate is not None else inner
    opened = f" (gate {float(gate):.2g})" if isinstance(gate, Tensor) else ""
    return f"{index} {model.spec.rows[int(index)].name} {inner}".strip() + opened


def energy_inside(cam: NDArray[np.floating], xyxy: NDArray[np.floating] | Sequence[Sequence[float]] | Sequence[float]) -> float:
    """The share of a map's energy inside boxes, the energy-based pointing game (Wang et al., Score-CAM, CVPRW 2020).

    Args:
        cam: (H, W), not negative.
        xyxy: one box or several, in pixels of the map; a pixel belongs to a box that its centre lies in.

    Returns:
        0..1; NaN for a map of zeros.
    """
    H, W = cam.shape
    y, x = np.mgrid[0:H, 0:W] + 0.5
    inside = np.zeros((H, W), bool)
    for left, top, right, bottom in np.asarray(xyxy, np.float64).reshape(-1, 4):
        inside |= (left <= x) & (x < right) & (top <= y) & (y < bottom)
    total = float(cam.sum(dtype=np.float64))
    return float(cam[inside].sum(dtype=np.float64)) / total if total > 0 else float("nan")
