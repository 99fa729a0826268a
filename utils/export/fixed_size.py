"""A detector for one image size, for formats that compute with no sizes: grids are constants, and arrays have four axes at most."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from models.heads.detect import Detect
from utils.export.format import Job


def fixed_size(job: Job) -> nn.Module:
    """A network for one batch and image size: (B, 3, H, W) -> (B, N, 5 + K), what `Detector` computes; heads without anchors stay."""
    return _FixedSizeNetwork(job) if isinstance(job.model.head, Detect) else job.model


class _FixedSizeNetwork(nn.Module):
    """What `Detector` computes, decoded with x and y as one axis."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model, self.batch = copy.deepcopy(job.model), job.cfg.batch_size
        head = self.model.head
        assert isinstance(head, Detect)
        head.arrange = lambda y: y  # type: ignore[method-assign]  # maps stay (B, A * (5 + K), H, W)
        self.anchors, self.outputs, self.pixels = head.anchors.shape[1], head.classes + 5, head.stride.tolist()
        for i, stride in enumerate(self.pixels):
            y, x = (torch.arange(int(side // stride), dtype=torch.float32) for side in job.cfg.shape[2:])
            self.register_buffer(f"grid{i}", torch.stack((x.repeat(len(y)), y.repeat_interleave(len(x))), -1)[None, None] - 0.5)
            self.register_buffer(f"sides{i}", (head.anchors[i] * stride)[None, :, None])

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self._decoded(i, level) for i, level in enumerate(self.model.maps(images))], 1)

    def _decoded(self, i: int, level: Tensor) -> Tensor:
        grid, sides = getattr(self, f"grid{i}"), getattr(self, f"sides{i}")
        p = level.view(self.batch, self.anchors, self.outputs, grid.shape[2]).permute(0, 1, 3, 2).sigmoid()
        centre = (p[..., 0:2] * 2 + grid) * self.pixels[i]
        size = p[..., 2:4] * p[..., 2:4] * (4 * sides)  # a power is no operator of LiteRT
        return torch.cat((centre, size, p[..., 4:]), -1).view(self.batch, -1, self.outputs)
