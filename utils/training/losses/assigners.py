"""Which cells of an output map predict which target.

Letters: A anchors of a level, n targets, M matches; ny, nx cells of the map.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_NEIGHBOURS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0), (0.0, -0.5))  # own cell, left, up, right, down


class Assignment(NamedTuple):
    """M cells of one level and what each predicts; targets and cells may occur several times."""

    image: Tensor
    """(M,) index of the image in the batch."""
    anchor: Tensor
    """(M,) index of the anchor in the level."""
    row: Tensor
    """(M,) y of the cell."""
    column: Tensor
    """(M,) x of the cell."""
    box: Tensor
    """(M, 4) centre relative to the cell's corner in -0.5..1.5, width and height; in cells."""
    cls: Tensor
    """(M,) class index."""
    target: Tensor
    """(M,) index of the target."""


def assign(targets: Tensor, anchors: Tensor, shape: tuple[int, int], limit: float, reach: float = 0.5) -> Assignment:
    """Match targets to the anchors and cells of one level.

    An anchor matches every target whose width and height differ from its own by less than the factor `limit`, in the cell that
    contains the target's centre and in the (at most two) neighbours nearest to the centre, inside the map.

    Args:
        targets: (n, 6) image, class, then cx, cy, w, h in 0..1; n may be 0.
        anchors: (A, 2) widths and heights in cells.
        shape: (ny, nx) of the map.
        limit: hyper-parameter anchor_t.
        reach: how near to a neighbour a centre must be, in cells; 1 takes all four neighbours.
    """
    ny, nx = shape
    size = targets.new_tensor([nx, ny])
    wh = targets[:, 4:6] * size
    ratio = wh[None] / anchors[:, None].to(wh)  # (A, n, 2)
    anchor, target = (torch.maximum(ratio, 1 / ratio).amax(2) < limit).nonzero(as_tuple=True)
    xy = targets[target, 2:4] * size
    back = size - xy
    low, high = (xy % 1 < reach) & (xy > 1), (back % 1 < reach) & (back > 1)  # (pairs, 2): near the cell to the left, above; right, below
    near = torch.stack([torch.ones_like(target, dtype=torch.bool), *low.unbind(1), *high.unbind(1)])  # (5, pairs)
    side, pair = near.nonzero(as_tuple=True)
    shift = targets.new_tensor(_NEIGHBOURS)[side] * (2 * reach)
    cell = (xy[pair] - shift).floor()
    box = torch.cat((xy[pair] - cell, wh[target[pair]]), 1)
    column, row = torch.minimum(cell.long().clamp(min=0), torch.tensor([nx - 1, ny - 1], device=cell.device)).unbind(1)
    image, cls = targets[target[pair], :2].long().unbind(1)
    return Assignment(image, anchor[pair], row, column, box, cls, target[pair])
