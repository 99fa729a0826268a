"""Non-maximum suppression of yolov5n's predictions at validation's threshold of 0.001: img/s, CPU ms per image, peak memory.

python -m benchmarks.nms
"""

from __future__ import annotations

import os
import resource
import time

from benchmarks.validation import SHARED

ROUNDS = 5
BATCHES = 4


def main() -> None:
    """Print one line."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as val.py does, before torch is imported
    import torch

    from models import load_model
    from utils.data.config import load_data
    from utils.data.index import load_index
    from utils.data.loader import val_loader
    from utils.nms import non_max_suppression

    model = load_model(SHARED / "yolov5n.pt")
    loader = val_loader(load_index(load_data(SHARED / "coco128" / "coco128.yaml"), "val"), imgsz=640, batch_size=32, workers=0)
    with torch.inference_mode():
        batches = [model(batch.images.float() / 255) for _, batch in zip(range(BATCHES), loader.epoch(0), strict=False)]
        wall, cpu, kept = [], [], 0
        for _ in range(ROUNDS):
            start, used = time.perf_counter(), time.process_time()
            kept = sum(len(rows) for pred in batches for rows in non_max_suppression(pred, 0.001, 0.6, multi_label=True))
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - used)
    images = sum(len(pred) for pred in batches)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rate, ms = images / min(wall), min(cpu) / images * 1e3
    print(f"{rate:.0f} img/s, {ms:.2f} CPU ms per image, peak {peak:.2f} GB; {kept / images:.0f} boxes each")


if __name__ == "__main__":
    main()
