"""Validation from image files to metrics: img/s, CPU ms per image, peak memory.

python -m benchmarks.validation [val.py's flags; by default yolov5n on coco128 at 640]

Start-up (imports, weights, index) is not measured. CPU time includes the loader workers.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from pathlib import Path

from benchmarks.loader import cpu_seconds

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
DEFAULT = ["--weights", str(SHARED / "yolov5n.pt"), "--data", str(SHARED / "coco128" / "coco128.yaml")]


def main() -> None:
    """Print one line."""
    from utils.cli import parse
    from utils.config import ValConfig
    from val import _settings, measure, set_up

    cfg, _ = parse(ValConfig, [*DEFAULT, *sys.argv[1:]])
    bench = set_up(cfg, cfg.weights)
    once = dataclasses.replace(bench, cfg=dataclasses.replace(cfg, batch_size=1, workers=0))
    measure(once, dataclasses.replace(_settings(cfg), conf=0.9), imgsz=64)  # imports and first calls
    start, cpu = time.perf_counter(), cpu_seconds()
    evaluation, _ = measure(bench, _settings(cfg), imgsz=cfg.imgsz)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    images = evaluation.metrics.images
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{images / wall:.1f} img/s, {cpu / images * 1e3:.1f} CPU ms per image, peak {peak:.2f} GB; AP {evaluation.metrics.ap:.4f}")


if __name__ == "__main__":
    main()
