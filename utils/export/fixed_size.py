"""A detector for one image size, for formats that compute with no sizes: grids are constants, and arrays have four axes at most."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.heads.detect import Detect
from utils.export.format import Job


def fixed_size(job: Job) -> nn.Module:
    """A network for one batch and image size: (B, 3, H, W) -> (B, N, 5 + K), what `Detector` computes; heads other than `Detect` stay."""
    return _FixedSizeNetwork(job) if type(job.model.head) is Detect else job.model


class _FixedSizeNetwork(nn.Module):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model = copy.deepcopy(job.model)
        head = self.model.head
        assert isinstance(head, Detect)
        self.model.model[-1] = _FixedSizeHead(head, job.cfg.shape)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.model.maps(images)  # type: ignore[assignment]  # the last row decodes
        return found


class _FixedSizeHead(Detect):
    """What `Detect` and its decoding compute together, with x and y as one axis."""

    def __init__(self, head: Detect, shape: tuple[int, int, int, int]) -> None:
        super().__init__([conv.in_channels for conv in head.m], head.classes, head.anchors.shape[1])  # type: ignore[misc]
        self.batch, self.pixels = shape[0], head.stride.tolist()
        self.m, self.anchors, self.stride = head.m, head.anchors, head.stride
        for i, stride in enumerate(self.pixels):
            y, x = (torch.arange(int(side // stride), dtype=torch.float32) for side in shape[2:])
            self.register_buffer(f"grid{i}", torch.stack((x.repeat(len(y)), y.repeat_interleave(len(x))), -1)[None, None] - 0.5)
            self.register_buffer(f"sides{i}", (head.anchors[i] * stride)[None, :, None])

    def forward(self, x: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        return torch.cat([self._decoded(i, level) for i, level in enumerate([x] if isinstance(x, Tensor) else x)], 1)

    def _decoded(self, i: int, level: Tensor) -> Tensor:
        grid, sides = getattr(self, f"grid{i}"), getattr(self, f"sides{i}")
        anchors, cells, outputs = self.anchors.shape[1], grid.shape[2], self.classes + 5
        p = self.m[i](level).view(self.batch, anchors, outputs, cells).permute(0, 1, 3, 2).sigmoid()
        centre = (p[..., 0:2] * 2 + grid) * self.pixels[i]
        size = p[..., 2:4] * p[..., 2:4] * (4 * sides)  # a power is no operator of LiteRT
        return torch.cat((centre, size, p[..., 4:]), -1).view(self.batch, anchors * cells, outputs)
