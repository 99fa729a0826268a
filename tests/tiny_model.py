"""A detector that trains in moments: a few thousand weights, two levels."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "nc": 80,
    "depth_multiple": 0.33,
    "width_multiple": 0.125,
    "anchors": [[10, 13, 16, 30], [30, 61, 62, 45]],
    "backbone": [[-1, 1, "Conv", [32, 6, 2, 2]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "C3", [64]], [-1, 1, "Conv", [128, 3, 2]]],
    "head": [[-1, 1, "Conv", [128, 3, 2]], [[3, 4], 1, "Detect", ["nc", "anchors"]]],
}
