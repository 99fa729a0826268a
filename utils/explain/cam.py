"""Where a detector looks: the maps of its attention blocks, and LayerCAM of a detection."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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

IOU_SHARE = 0.9
"""Among the predictions whose IoU with the box is at least this share of the best one's, the most confident stands for the box."""


class Chosen(NamedTuple):
    """The detection or object to explain: a box (left, top, right, bottom) in pixels of the network's input, and a class id."""

    xyxy: Sequence[float]
    cls: int


def layer_cam(
    model: Detector, image: Tensor, chosen: Chosen, *, rows: Sequence[int] | None = None, fuse: Literal["max", "mean"] = "mean"
) -> Map:
    """LayerCAM (Jiang et al., IEEE TIP 2021) of one detection, over several rows of the model.

    The target Y is the score, objectness times class probability, of the chosen box's prediction before NMS. The map of each row's
    output A is relu(sum over channels of relu(dY/dA) * A), divided by its maximum and resized to the image. Rows that the score
    does not depend on are left out.

    Args:
        model: fused or not, in any mode; it runs in eval mode, in float32, and is left unchanged.
        image: (1, ch, H, W) in 0..1, sides multiples of the stride.
        chosen: what to explain.
        rows: whose outputs to use; None takes `cam_rows`.
        fuse: how to combine the rows' maps; "max" keeps more of the weak ones.

    Returns:
        (H, W) in 0..1; zeros where no row has a positive influence.
    """
    rows = cam_rows(model) if rows is None else rows
    with evaluating(model), torch.inference_mode(False), torch.enable_grad(), _outputs(model, rows) as outputs:
        pixels = image.detach().clone().requires_grad_()  # so that a frozen model has a graph, too
        prediction = model.head.decode(model.maps(pixels))[0]
        grads = torch.autograd.grad(_score(prediction, chosen), outputs, allow_unused=True)
    size = (int(image.shape[2]), int(image.shape[3]))
    cams = [(g.relu() * a.detach()).sum(1, keepdim=True).relu() for a, g in zip(outputs, grads, strict=True) if g is not None]
    maps = [F.interpolate(cam, size, mode="bilinear", align_corners=False)[0, 0].cpu().numpy() for cam in cams]
    maps = [m / m.max() for m in maps if m.max() > 0]
    if not maps:
        return np.zeros(size, np.float32)
    fused = np.max(maps, 0) if fuse == "max" else np.mean(maps, 0)
    return (fused / fused.max()).astype(np.float32)


def cam_rows(model: Detector) -> list[int]:
    """The rows that `layer_cam` uses: those the head reads, and those read again by a later row, the last ones of a scale.

    For a backbone or neck with several outputs, these are the rows that pick one.
    """
    rows = model.spec.rows
    again = {s for row in rows for s in row.sources if 0 <= s != row.index - 1}
    several = {s for row in rows if row.name == "Feature" for s in row.sources}
    return sorted((again | set(rows[-1].sources)) - several)


def _score(prediction: Tensor, chosen: Chosen) -> Tensor:
    """Objectness times class probability of the (N, 5 + K) prediction that stands for a box."""
    with torch.no_grad():
        scores = prediction[:, 4] * prediction[:, 5 + chosen.cls]
        target = torch.as_tensor(np.asarray(chosen.xyxy, np.float32), device=prediction.device)[None]
        overlap = iou(cxcywh_to_xyxy(prediction[:, :4]), target)
        row = scores.masked_fill(overlap < IOU_SHARE * overlap.max(), -1).argmax()
    return prediction[row, 4] * prediction[row, 5 + chosen.cls]


@contextlib.contextmanager
def _outputs(model: Detector, rows: Sequence[int]) -> Iterator[list[Tensor]]:
    """Collect the outputs of rows, in order, of a call inside."""
    outputs: list[Tensor] = []

    def collect(_: Any, __: Any, out: Any) -> None:
        outputs.extend([out] if isinstance(out, Tensor) else out)

    with contextlib.ExitStack() as stack:
        for row in sorted(set(rows)):
            assert 0 <= row < len(model.model) - 1, f"the model has no row {row} below its head"
            stack.callback(model.model[row].register_forward_hook(collect).remove)
        yield outputs


def attention_maps(model: Detector, image: Tensor, at: tuple[float, float] | None = None) -> list[tuple[str, Map]]:
    """The maps that the model's attention blocks compute for an image.

    A block is any module with a method ``attention(x)`` or ``attention(x, at)``: it takes what ``forward`` takes and returns
    the gate or the attention weights that forward uses, (B, maps, h, w). The result is the mean over the maps. A gate per channel,
    (B, C, 1, 1), has no spatial extent; its map is the share it lets through: sum(gate * |x|) / sum(|x|) over the channels.

    Args:
        model: fused or not, in any mode; it runs in eval mode and is left unchanged.
        image: (1, ch, H, W) in 0..1, sides multiples of the stride.
        at: x and y of a query position in pixels of the image. Blocks in which each position attends to others show what this one
            attends to; without it, the average over all queries.

    Returns:
        (label, (h, w) map) of each block, in the order of computation; a map has its block's size and is not normalized.

    Raises:
        UserError: a block's method returns another shape.
    """
    found: list[tuple[str, Map]] = []
    names = {module: name for name, module in model.model.named_modules() if callable(getattr(module, "attention", None))}
    inside = False  # a block may call its own parts

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
        raise UserError(f"model.{name} ({type(module).__name__}): attention(x) must return (B, maps, h, w), got {shown}")
    gate = gate[0].float()
    if gate.shape[1:] == (1, 1) and len(gate) == x.shape[1] > 1:
        strength = x[0].float().abs()
        return ((gate * strength).sum(0) / strength.sum(0).clamp(min=1e-12)).cpu().numpy()
    return gate.mean(0).cpu().numpy()


def _cell(at: tuple[float, float] | None, image: Tensor, x: Tensor) -> tuple[int, int] | None:
    """Row and column, in a block's input, of a position in the image."""
    if at is None:
        return None
    H, W = x.shape[2:]
    row, column = int(at[1] * H / image.shape[2]), int(at[0] * W / image.shape[3])
    return min(max(row, 0), H - 1), min(max(column, 0), W - 1)


def _label(model: Detector, name: str) -> str:
    """A block's row, that row's module, and the path inside it: ``9 CoordAtt``, ``8 C3CoT m.0.cot``."""
    index, _, inner = name.partition(".")
    gate = getattr(model.model[int(index)], "g", None)  # models.gate.Gate
    inner = inner.removeprefix("block").removeprefix(".") if gate is not None else inner
    opened = f" (gate {float(gate):.2g})" if isinstance(gate, Tensor) else ""
    return f"{index} {model.spec.rows[int(index)].name} {inner}".strip() + opened


def energy_inside(cam: NDArray[np.floating], xyxy: NDArray[np.floating] | Sequence[Sequence[float]] | Sequence[float]) -> float:
    """The share of a map's energy inside boxes, the energy-based pointing game (Wang et al., Score-CAM, CVPRW 2020).

    Args:
        cam: (H, W), non-negative.
        xyxy: one box or several, in pixels of the map; a pixel belongs to a box that contains its centre.

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
