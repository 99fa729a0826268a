"""Non-maximum suppression of yolov5n's predictions at validation's threshold of 0.001: img/s, CPU ms per image, peak memory.

Below it, in turn with it, the straightforward way: all candidates of an image through one call, classes shifted apart.

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
    """What non_max_suppression does for several labels a box, written down as it is defined."""
    import torch
    from torchvision.ops import box_convert, nms

    out = []
    for image in pred:
        sure = image[image[:, 4] > CONF]
        score, boxes = sure[:, 5:] * sure[:, 4:5], box_convert(sure[:, :4], "cxcywh", "xyxy")
        row, label = (score > CONF).nonzero(as_tuple=True)
        rows = torch.cat((boxes[row], score[row, label, None], label[:, None].float()), 1)
        rows = rows[rows[:, 4].argsort(descending=True)[:30_000]]
        out.append(rows[nms(rows[:, :4] + rows[:, 5:] * 7680, rows[:, 4], IOU)[:300]])
    return out


def predictions() -> list[Tensor]:
    """Of yolov5n on coco128, decoded, a batch each."""
    import torch

    from models import load_model
    from utils.data.config import load_data
    from utils.data.scan import load_index
    from utils.data.loading.loader import val_loader

    model = load_model(SHARED / "yolov5n.pt")
    loader = val_loader(load_index(load_data(SHARED / "coco128" / "coco128.yaml"), "val"), imgsz=640, batch_size=32, workers=0)
    with torch.inference_mode():
        return [model(batch.images.float() / 255) for batch in loader.epoch(0)]


def main() -> None:
    """Print a line for each."""
    import torch

    from utils.inference.nms import non_max_suppression

    batches = predictions()
    ways = {
        "utils.inference.nms": lambda pred: non_max_suppression(pred, CONF, IOU, multi_label=True),
        "straightforward": straightforward,
    }
    kept = dict.fromkeys(ways, 0)

    def suppress(name: str) -> None:
        kept[name] = sum(len(rows) for pred in batches for rows in ways[name](pred))

    with torch.inference_mode():
        times = timed({name: functools.partial(suppress, name) for name in ways}, ROUNDS)
    images = sum(len(pred) for pred in batches)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for name in ways:
        wall, cpu = times[name]
        rate, ms = images / wall, cpu / images * 1e3
        print(f"{name:16}{rate:5.0f} img/s, {ms:.2f} CPU ms per image, peak {peak:.2f} GB; {kept[name] / images:.0f} boxes each")


if __name__ == "__main__":
    main()
