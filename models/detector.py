"""The detector: a spec's network, its strides, its forward pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.build import build_layers
from models.folding import fold_norms
from models.heads.head import Head
from models.probe import measure_strides
from models.registry import Row
from models.spec.anchors import parse_anchors
from models.spec.model_spec import ModelSpec, parse_names
from utils.errors import UserError
from utils.geometry import ceil_to_stride

if TYPE_CHECKING:
    from utils.inference.results import Results

Names = Mapping[int, str] | Sequence[str]


class _Step(NamedTuple):
    """Inputs of one row, whether its output is kept, and which outputs are dropped after it."""

    sources: tuple[int, ...]
    keep: bool
    drop: tuple[int, ...]


class Detector(nn.Module):
    """A network built from a `ModelSpec`, its last row a detection head.

    Args:
        spec: what to build.
        names: class names; None takes the spec's, or class0, class1, ...
        seed: initial weights are a function of it and of each row's origin.

    Shape:
        (B, ch, H, W), H and W multiples of `max_stride` ->
        training: list of the head's raw maps; evaluation: decoded boxes (B, N, 5 + K), see `Head.decode`

    Raises:
        UserError: the spec cannot be built; names the row.
    """

    def __init__(self, spec: ModelSpec, *, names: Names | None = None, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.names = _names(names if names is not None else spec.names, spec)
        self.model, widths = build_layers(spec, seed)
        for row, layer in zip(spec.rows, self.model, strict=True):
            if isinstance(layer, Head) != (row.index == len(self.model) - 1):
                raise UserError(f"{spec.where}: {row}: a model has one head, such as Detect, as its last row")
        if self.head.classes != self.nc:
            found = f"{spec.rows[-1]} has {self.head.classes} classes, but the model {self.nc}"
            raise UserError(f"{spec.where}: {found}; write its first argument as nc")
        strides, self._deepest = measure_strides(self.model, spec, widths)
        self.head.set_strides(strides)
        self._steps = tuple(_steps(spec.rows))

    @property
    def head(self) -> Head:
        """The detection head."""
        head = self.model[-1]
        assert isinstance(head, Head)
        return head

    @property
    def nc(self) -> int:
        """Number of classes."""
        return self.spec.nc

    @property
    def ch(self) -> int:
        """Channels of the image."""
        return self.spec.ch

    @property
    def stride(self) -> Tensor:
        """(levels,) pixels per cell."""
        return self.head.stride

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.stride.device

    @property
    def fixed_shape(self) -> None:
        """None: images may have any height and width."""

    @property
    def max_stride(self) -> int:
        """The maximum stride of any row; the sides of an image must be multiples of it."""
        return self._deepest

    def maps(self, x: Tensor) -> list[Tensor]:
        """The head's raw maps of (B, ch, H, W), in any mode."""
        saved: dict[int, Any] = {-1: x}
        out: Any = x
        for index, (layer, step) in enumerate(zip(self.model, self._steps, strict=True)):
            inputs = [out if s == index - 1 else saved[s] for s in step.sources]
            out = layer(inputs[0] if len(inputs) == 1 else inputs)
            if step.keep:
                saved[index] = out
            for used in step.drop:
                del saved[used]
        return out

    def forward(self, x: Tensor) -> Any:
        if not isinstance(x, Tensor):
            raise UserError(f"a model takes a tensor (B, {self.ch}, H, W), not {type(x).__name__}; for images: model.predict('a.jpg')")
        maps = self.maps(x)
        return maps if self.training else self.head.decode(maps)

    def augmented(self, x: Tensor) -> Tensor:
        """Test-time augmentation (YOLOv5): predictions of the image, flipped at scale 0.83 and at scale 0.67, concatenated.

        The first pass omits the level of the largest stride, the last that of the smallest.
        """
        order = self.stride.argsort().tolist()
        passes = ((1.0, False, order[:-1] or order), (0.83, True, order), (0.67, False, order[1:] or order))
        predictions = []
        for ratio, flip, keep in passes:
            image = _scaled(x.flip(3) if flip else x, ratio, self.max_stride)
            boxes = self.head.decode(self.maps(image), sorted(keep))
            boxes[..., :4] /= ratio
            if flip:
                boxes[..., 0] = x.shape[3] - boxes[..., 0]
            predictions.append(boxes)
        return torch.cat(predictions, 1)

    def fuse(self) -> Detector:
        """Fold the batch norms into the convolutions, in place; for inference."""
        fold_norms(self)
        return self

    def predict(self, sources: Any, **settings: Any) -> list[Results]:
        """Detect objects in images; see `utils.inference.predictor.predict` for sources and settings."""
        from utils.inference.predictor import predict

        return predict(self, sources, **settings)


def _steps(rows: Sequence[Row]) -> Iterator[_Step]:
    """For each row, whether its output is kept beyond the next row, and which outputs are dropped after it."""
    last: dict[int, int] = {-1: 0}
    for row in rows:
        last.update((s, row.index) for s in row.sources if s != row.index - 1)
    for row in rows:
        drop = tuple(s for s, reader in last.items() if reader == row.index)
        yield _Step(row.sources, row.index in last, drop)


def _scaled(x: Tensor, ratio: float, stride: int) -> Tensor:
    """Resize (B, C, H, W) by `ratio` and pad with grey, right and bottom, to multiples of `stride`."""
    if ratio == 1:
        return x
    H, W = x.shape[2:]
    y = F.interpolate(x, (int(H * ratio), int(W * ratio)), mode="bilinear", align_corners=False)
    height, width = (ceil_to_stride(side * ratio, stride) for side in (H, W))
    return F.pad(y, (0, width - y.shape[3], 0, height - y.shape[2]), value=0.447)


def _names(names: Names | None, spec: ModelSpec) -> dict[int, str]:
    checked = parse_names(names, spec.where)
    if checked is None:
        return {i: f"class{i}" for i in range(spec.nc)}
    if len(checked) != spec.nc:
        raise UserError(f"{spec.where}: {len(checked)} class names for {spec.nc} classes")
    return dict(enumerate(checked))


def build_detector(
    cfg: str | Path | Mapping[str, Any] | ModelSpec,
    nc: int | None = None,
    *,
    names: Names | None = None,
    ch: int | None = None,
    seed: int = 0,
    anchors: Any = None,
) -> Detector:
    """Build a model; see `models.build_model`."""
    if isinstance(cfg, ModelSpec):
        spec = cfg
    elif isinstance(cfg, Mapping):
        spec = ModelSpec.from_dict(cfg, "model")
    else:
        spec = ModelSpec.from_yaml(cfg)
    changes: dict[str, Any] = {}
    if nc is None and names is not None:
        nc = len(parse_names(names, spec.where) or ())
    if nc is not None and nc != spec.nc:
        changes |= {"nc": nc, "names": None}
    if ch is not None:
        changes["ch"] = ch
    if anchors is not None:
        changes["anchors"] = parse_anchors(anchors, spec.where)
    return Detector(dataclasses.replace(spec, **changes), names=names, seed=seed)
