"""Cost of a variant on this machine, measured in a separate process: ``python -m utils.compare.benchmark_worker STUDY VARIANT PART``.

Inference and training are measured in separate processes, so that the peak memory of one does not hide that of the other. The process
prints one line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.cli import option, parse, run
from utils.compare.plan_io import read_plan
from utils.compare.study import StudyPlan, Variant
from utils.config import Hyp
from utils.errors import UserError
from utils.geometry import training_side

if TYPE_CHECKING:
    import torch

    from models.detector import Detector

_TIME_LIMIT, _DRAFT_TIME_LIMIT = 12.0, 4.0  # seconds of one measurement
_INFERENCE_CALLS, _TRAINING_STEPS = 60, 5
_OBJECTS = 4  # per image in the measured training steps


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
    measure = measure_inference if config.part == "inference" else measure_training
    values = measure(plan.of(variant), variant, device, _DRAFT_TIME_LIMIT if config.draft else _TIME_LIMIT)
    print(json.dumps({**values, "device": processor_name(device), "threads": plan.threads}))  # noqa: T201 - read by the parent process


def processor_name(device: torch.device) -> str:
    """The name of the GPU or the CPU."""
    from utils.compare.provenance import device_name

    if device.type == "cuda":
        return device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def measure_inference(plan: StudyPlan, variant: Variant, device: torch.device, time_limit: float) -> dict[str, Any]:
    """Time and memory of the network alone, with folded normalisation, in float32."""
    import torch

    peak_mb = watch_memory(device)
    model = _build(plan, variant, device).eval().fuse()
    side, batch = training_side(plan.flags["imgsz"], model.max_stride), plan.flags["batch_size"]
    with torch.inference_mode():
        one, many = (torch.rand(n, 3, side, side, device=device).to(memory_format=torch.channels_last) for n in (1, batch))
        single = time_calls(lambda: model(one), device, _INFERENCE_CALLS, time_limit)
        full = time_calls(lambda: model(many), device, _INFERENCE_CALLS // 4, time_limit)
    return {
        "latency_ms": statistics.median(single) * 1e3,
        "latency_p95_ms": sorted(single)[min(round(0.95 * len(single)), len(single) - 1)] * 1e3,
        "images_per_second": batch / statistics.median(full),
        "memory_mb": peak_mb(),
        "batch": batch,
    }


def measure_training(plan: StudyPlan, variant: Variant, device: torch.device, time_limit: float) -> dict[str, Any]:
    """Time and memory of training steps on random images, without data loading."""
    import torch

    from utils.training.amp import choose_precision, verified
    from utils.training.ema import ModelEMA
    from utils.training.losses.criterion import build_criterion
    from utils.training.optim import build_optimizer

    peak_mb = watch_memory(device)
    flags, hyp = plan.flags, Hyp(**plan.hyp)  # type: ignore[arg-type]
    model = _build(plan, variant, device).train()
    side, batch = training_side(flags["imgsz"], model.max_stride), flags["batch_size"]
    precision = verified(choose_precision(flags["amp"], device), model, side)
    criterion = build_criterion(model, hyp, side, label_smoothing=flags["label_smoothing"])
    optimizer, ema = build_optimizer(model, flags["optimizer"], hyp, batch), ModelEMA(model)
    images = torch.rand(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
    targets = torch.rand(batch * _OBJECTS, 6, device=device) * 0.5 + 0.1
    targets[:, 0], targets[:, 1] = torch.arange(batch, device=device).repeat_interleave(_OBJECTS), 0
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # random images would make the weights diverge

    def step() -> None:
        with precision.autocast():
            maps = model(images)
        criterion(maps, targets)[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update()

    times = time_calls(step, device, _TRAINING_STEPS, time_limit)
    steps = -(-plan.data.splits["train"].images // batch) * flags["epochs"]
    seconds = statistics.median(times)
    return {"train_memory_mb": peak_mb(), "train_seconds": seconds * steps, "step_seconds": seconds}


def time_calls(call: Callable[[], object], device: torch.device, maximum: int, time_limit: float) -> list[float]:
    """Seconds of each of 2 to `maximum` calls, as many as fit into `time_limit` seconds, after one or two warm-up calls."""
    from utils.device import clock

    start = clock(device)
    call()
    if clock(device) - start < time_limit / 3:
        call()
    times: list[float] = []
    while len(times) < 2 or (len(times) < maximum and clock(device) - start < time_limit):
        before = clock(device)
        call()
        times.append(clock(device) - before)
    return times


def _build(plan: StudyPlan, variant: Variant, device: torch.device) -> Detector:
    import torch

    from models import build_model
    from models.spec.model_spec import ModelSpec

    if variant.error or not variant.spec:
        raise UserError(f"{variant.name}: {variant.error or 'its model in the study folder is damaged'}")
    names = dict(enumerate(plan.data.names))
    model = build_model(ModelSpec.from_dict(variant.spec, variant.name), len(names), names=names)
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def watch_memory(device: torch.device) -> Callable[[], float]:
    """Return a function that gives the peak memory from now on, in 1e6 bytes: of the GPU, else of this process beyond what it uses now."""
    import torch

    from utils.device import peak_memory_mb, resident_memory_mb

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: torch.cuda.max_memory_allocated(device) / 1e6
    before = resident_memory_mb()
    return lambda: max(peak_memory_mb() - before, 0.0)


if __name__ == "__main__":
    run(main)
