"""What a variant costs on this machine, measured in processes of its own: ``python -m utils.compare.benchmark_worker STUDY VARIANT PART``.

Inference and training are measured apart, so that the peak memory of one is not that of the other. The process prints one line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.cli import option, parse, run
from utils.compare.plan_io import read_plan
from utils.compare.study import StudyPlan, Variant
from utils.config import Hyp
from utils.errors import UserError

if TYPE_CHECKING:
    import torch

    from models.detector import Detector

_LONGEST = 12.0  # seconds of one measurement
_PASSES, _STEPS = 60, 5
_DRAFT = 4.0
_BOXES = 4  # objects an image in the measured training steps


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CostConfig:
    """Arguments of ``python -m utils.compare.benchmark_worker``."""

    study: str = option("", "study folder", positional=True)
    variant: str = option("", "variant", positional=True)
    part: str = option("inference", "what to measure", positional=True, choices=("inference", "training"))
    device: str = option("", "cpu, mps, 0, ...; '' takes the first GPU, else the CPU")
    draft: bool = option(False, "a few steps only")


def main(argv: list[str] | None = None) -> None:
    """Measure and print.

    Raises:
        UserError: no such study, or the model cannot be built.
    """
    from utils.compare.run_worker import set_threads

    config, _ = parse(CostConfig, argv, description=__doc__ or "")
    plan = read_plan(Path(config.study))
    set_threads(plan.threads)
    from models import load_plugins
    from utils.device import select_device

    load_plugins(tuple(plan.plugins))
    device, variant = select_device(config.device), plan.variant(config.variant)
    part = inference if config.part == "inference" else training
    values = part(plan, variant, device, _DRAFT if config.draft else _LONGEST)
    print(json.dumps({**values, "device": processor(device), "threads": plan.threads}))  # noqa: T201 - what the caller reads


def processor(device: torch.device) -> str:
    """The name of the GPU or of the processor."""
    from utils.compare.provenance import device_name

    if device.type == "cuda":
        return device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def inference(plan: StudyPlan, variant: Variant, device: torch.device, longest: float) -> dict[str, Any]:
    """Time and memory of the network alone, norms folded, in float32."""
    import torch

    from utils.compare.variants import model_side

    memory = Memory(device)
    model = _model(plan, variant, device).eval().fuse()
    side, batch = model_side(model, plan.flags["imgsz"]), plan.flags["batch_size"]
    with torch.inference_mode():
        one, many = (torch.rand(n, 3, side, side, device=device).to(memory_format=torch.channels_last) for n in (1, batch))
        single = timed(lambda: model(one), device, _PASSES, longest)
        full = timed(lambda: model(many), device, _PASSES // 4, longest)
    return {
        "latency_ms": statistics.median(single) * 1e3,
        "latency_p95_ms": sorted(single)[min(round(0.95 * len(single)), len(single) - 1)] * 1e3,
        "images_per_second": batch / statistics.median(full),
        "memory_mb": memory.peak_mb(),
        "batch": batch,
    }


def training(plan: StudyPlan, variant: Variant, device: torch.device, longest: float) -> dict[str, Any]:
    """Time and memory of training steps on random images, loading not included."""
    import torch

    from utils.compare.variants import model_side
    from utils.training.amp import choose_precision, verified
    from utils.training.ema import ModelEMA
    from utils.training.losses.loss import DetectionLoss
    from utils.training.optim import build_optimizer

    memory = Memory(device)
    flags, hyp = plan.flags, Hyp(**plan.hyp)  # type: ignore[arg-type]
    model = _model(plan, variant, device).train()
    side, batch = model_side(model, flags["imgsz"]), flags["batch_size"]
    precision = verified(choose_precision(flags["amp"], device), model, side)
    criterion = DetectionLoss(model.head, hyp, side, model.nc, label_smoothing=flags["label_smoothing"])
    optimizer, average = build_optimizer(model, flags["optimizer"], hyp, batch), ModelEMA(model)
    images = torch.rand(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
    targets = torch.rand(batch * _BOXES, 6, device=device) * 0.5 + 0.1
    targets[:, 0], targets[:, 1] = torch.arange(batch, device=device).repeat_interleave(_BOXES), 0
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # random images would drive the weights away

    def step() -> None:
        with precision.autocast():
            maps = model(images)
        criterion(maps, targets)[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update()

    times = timed(step, device, _STEPS, longest)
    steps = -(-plan.data.splits["train"].images // batch) * flags["epochs"]
    seconds = statistics.median(times)
    return {"train_memory_mb": memory.peak_mb(), "train_seconds": seconds * steps, "step_seconds": seconds}


def timed(work: Callable[[], object], device: torch.device, most: int, longest: float) -> list[float]:
    """Seconds of each of `most` calls, or of as many as fit into `longest` seconds, two at least; the first two are not counted."""
    import torch

    def once() -> float:
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    begun = time.perf_counter()
    once()
    if time.perf_counter() - begun < longest / 3:
        once()
    times: list[float] = []
    while len(times) < 2 or (len(times) < most and time.perf_counter() - begun < longest):
        times.append(once())
    return times


def _model(plan: StudyPlan, variant: Variant, device: torch.device) -> Detector:
    import torch

    from models import build_model
    from models.spec.model_spec import ModelSpec

    if variant.error or not variant.spec:
        raise UserError(f"{variant.name}: {variant.error or 'its model in the study folder is damaged'}")
    names = dict(enumerate(plan.data.names))
    model = build_model(ModelSpec.from_dict(variant.spec, variant.name), len(names), names=names)
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


class Memory:
    """Peak memory from here on: of the GPU, else of this process beyond what it takes now."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._before = 0.0 if device.type == "cuda" else resident_mb()

    def peak_mb(self) -> float:
        """In 1e6 bytes."""
        import torch

        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 1e6
        from utils.compare.run_worker import peak_memory_mb

        return max(peak_memory_mb() - self._before, 0.0)


def resident_mb() -> float:
    """Memory of this process now, in 1e6 bytes; the largest so far where the system does not tell."""
    from utils.compare.run_worker import peak_memory_mb

    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return peak_memory_mb()
    return next((float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS")), peak_memory_mb())


if __name__ == "__main__":
    run(main)
