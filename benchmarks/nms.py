"""Non-maximum suppression of yolov5n's predictions at the validation threshold of 0.001: img/s, CPU ms per image, peak memory.

It is compared with a straightforward implementation, run alternately: one call per image for all candidates, offset by class.

python -m benchmarks.nms
"""

from __future__ import annotations

import functools
import resource
from typing import TYPE_CHECKING

from benchmarks.modules import timed
from benchmarks.validation import SHARED

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 7
CONF, IOU = 0.001, 0.6


def straightforward(pred: Tensor) -> list[Tensor]:
    """The definition of non_max_suppression with several labels per box, written directly."""
    import torch
    from torchvision.ops import box_convert, nms

    out = []
    for image in pred:
        found = image[image[:, 4] > CONF]
        score, boxes = found[:, 5:] * found[:, 4:5], box_convert(found[:, :4], "cxcywh", "xyxy")
        box, cls = (score > CONF).nonzero(as_tuple=True)
        candidates = torch.cat((boxes[box], score[box, cls, None], cls[:, None].float()), 1)
        candidates = candidates[candidates[:, 4].argsort(descending=True)[:30_000]]
        out.append(candidates[nms(candidates[:, :4] + candidates[:, 5:] * 7680, candidates[:, 4], IOU)[:300]])
    return out


def predictions() -> list[Tensor]:
    """The decoded predictions of yolov5n on coco128, one tensor per batch."""
    import torch

    from models import load_model
    from utils.data.config import load_data
    from utils.data.loading.loader import val_loader
    from utils.data.scan import load_index

    model = load_model(SHARED / "yolov5n.pt")
    loader = val_loader(load_index(load_data(SHARED / "coco128" / "coco128.yaml"), "val"), imgsz=640, batch_size=32, workers=0)
    with torch.inference_mode():
        return [model(batch.images.float() / 255) for batch in loader.epoch(0)]


def main() -> None:
    """Print one line per implementation."""
    import torch

    from utils.inference.nms import non_max_suppression

    batches = predictions()
    ways = {
        "utils.inference.nms": lambda pred: non_max_suppression(pred, CONF, IOU, multi_label=True),
        "straightforward": straightforward,
    }
    kept = dict.fromkeys(ways, 0)

    def suppress(name: str) -> None:
        kept[name] = sum(len(found) for pred in batches for found in ways[name](pred))

    with torch.inference_mode():
        times = timed({name: functools.partial(suppress, name) for name in ways}, ROUNDS)
    images = sum(len(pred) for pred in batches)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for name in ways:
        wall, cpu = times[name]
        rate, ms = images / wall, cpu / images * 1e3
        print(f"{name:16}{rate:5.0f} img/s, {ms:.2f} CPU ms per image, peak {peak:.2f} GB; {kept[name] / images:.0f} boxes per image")


if __name__ == "__main__":
    main()
