"""Training steps with each detection head, one thread, alternately: CPU seconds, those of loss and assignment, and the ratio to Detect.

python -m benchmarks.heads                                      yolov5n at 320 pixels, batch size 16, float32
python -m benchmarks.heads --model yolov5s --imgsz 640 --batch 8 --heads dfl x
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

HEADS = ("dfl", "x", "decoupled", "asff")


class Step:
    """Training steps of one model on one batch, as train.py's in float32."""

    def __init__(self, cfg: str, batch: int, imgsz: int) -> None:
        import torch

        from models import build_model
        from utils.config import Hyp
        from utils.training.ema import ModelEMA
        from utils.training.losses.criterion import build_criterion
        from utils.training.optim import build_optimizer

        torch.manual_seed(0)
        hyp = Hyp()
        self.model = build_model(cfg, 80).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.criterion = build_criterion(self.model, hyp, imgsz)
        self.optimizer, self.ema = build_optimizer(self.model, "SGD", hyp, batch), ModelEMA(self.model)
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-3
        self.images = torch.rand(batch, 3, imgsz, imgsz).to(memory_format=torch.channels_last)
        self.targets = torch.rand(batch * 7, 6) * 0.5 + 0.1
        self.targets[:, 0], self.targets[:, 1] = torch.arange(batch).repeat_interleave(7), torch.arange(batch * 7) % 80

    def __call__(self) -> tuple[float, float]:
        """CPU seconds of a step, and of its loss with the backward pass to the head's maps."""
        import torch

        start = time.process_time()
        maps = self.model(self.images)
        ends = [m.detach().requires_grad_() for m in maps]
        before = time.process_time()
        self.criterion(ends, self.targets)[0].backward()
        loss = time.process_time() - before
        torch.autograd.backward(maps, [end.grad for end in ends])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update()
        return time.process_time() - start, loss


def main() -> None:
    """Print a line for each head: medians over the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolov5n")
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=7)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    cfgs = [args.model, *(f"{args.model}-{head}" for head in args.heads)]
    steps: dict[str, Any] = {cfg: Step(cfg, args.batch, args.imgsz) for cfg in cfgs}
    times: dict[str, list[tuple[float, float]]] = {cfg: [] for cfg in cfgs}
    for number in range(args.steps + 1):
        for cfg in cfgs:
            seconds = steps[cfg]()
            times[cfg] += [seconds] if number else []  # the first step is a warm-up
    medians = {cfg: [statistics.median(column) for column in zip(*rows, strict=True)] for cfg, rows in times.items()}
    base = medians[args.model]
    for cfg, (step, loss) in medians.items():
        network = (step - loss) / (base[0] - base[1])
        print(f"{cfg:20}{step:8.3f} s, x {step / base[0]:.2f}; loss {loss:.3f} s ({loss / step:.0%}); without it x {network:.2f}")


if __name__ == "__main__":
    main()
