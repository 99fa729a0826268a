"""Costs of variants on this machine, measured in a separate process: ``python -m utils.compare.benchmark_worker STUDY VARIANT PART``.

The times of all variants are measured in one process, in turn; memory in one for each variant and for inference and training, so that no
peak hides another. The process prints one line of JSON.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.cli import option, parse, run
from utils.compare.plan_io import read_plan
from utils.compare.study import StudyPlan, Variant
from utils.config import Hyp
from utils.device import processor_name
from utils.errors import UserError
from utils.geometry import training_side

if TYPE_CHECKING:
    import torch

    from models.detector import Detector

_TIME_LIMIT, _DRAFT_TIME_LIMIT = 8.0, 4.0  # seconds of one kind of measurement, for each variant
_ROUNDS = {"latency_ms": 60, "images_per_second": 15, "train_seconds": 9}
_MIN_ROUNDS = 6  # fewer have no median with a 95 % CI
COPY = " A/A"
"""The second copy of the baseline; no variant's name begins with a blank."""
PARTS = ("times", "inference", "training", "draft")
_OBJECTS = 4  # per image in the measured training steps


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CostConfig:
    """Arguments of ``python -m utils.compare.benchmark_worker``."""

    study: str = option("", "study folder", positional=True)
    variant: str = option("", "variant", positional=True)
    part: str = option("times", "what to measure; 'times' are those of all variants", positional=True, choices=PARTS)
    device: str = option("", "cpu, mps, 0, ...; '' takes the first GPU, else the CPU")


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
    values: dict[str, Any]
    if config.part == "times":
        values = {"times": measure_times(plan, device)}
    elif config.part == "draft":
        values = measure_draft(plan.of(variant), variant, device)
    else:
        values = measure_memory(plan.of(variant), variant, device, training=config.part == "training")
    print(json.dumps({**values, "device": processor_name(device), "threads": plan.threads}))  # noqa: T201 - read by the parent process


def measure_memory(plan: StudyPlan, variant: Variant, device: torch.device, *, training: bool) -> dict[str, float]:
    """Peak memory of inference, or of training steps."""
    peak_mb = watch_memory(device)
    call = (
        prepare_training(plan, variant, device)["train_seconds"]
        if training
        else prepare_inference(plan, variant, device)["images_per_second"]
    )
    for _ in range(2):  # a first step has no momentum yet
        call()
    return {"train_memory_mb" if training else "memory_mb": peak_mb()}


def measure_draft(plan: StudyPlan, variant: Variant, device: torch.device) -> dict[str, float]:
    """Seconds of a training step, of loading one batch, and of all of this measuring, for an estimate."""
    from utils.device import clock

    first = clock(device)
    step = prepare_training(plan, variant, device)["train_seconds"]
    times = time_rounds([step], device, 5, _DRAFT_TIME_LIMIT)[0]
    loading, begun = _load_batches(plan), clock(device)
    count = sum(1 for _ in zip(range(4), loading, strict=False))
    return {
        "step_seconds": statistics.median(times),
        "load_seconds": (clock(device) - begun) / max(count, 1),
        "seconds": clock(device) - first,
    }


def _load_batches(plan: StudyPlan) -> Iterator[object]:
    from utils.compare.evaluate_run import open_splits
    from utils.data.loading.loader import train_loader

    flags = plan.flags
    loader = train_loader(
        open_splits(plan)["train"],
        imgsz=flags["imgsz"],
        batch_size=flags["batch_size"],
        hyp=Hyp(**plan.hyp),  # type: ignore[arg-type]
        seed=0,
        workers=0,
        rect=flags["rect"],
    )
    try:
        yield from loader.epoch(0, 0)
    finally:
        loader.close()


def measure_times(plan: StudyPlan, device: torch.device) -> dict[str, Any]:
    """Times of all variants in turn: in each round one call of each, and of a second copy of the baseline, in an order that rotates.

    What disturbs the machine for longer than a call disturbs all of them alike. A variant that fails is left out.
    """
    out: dict[str, Any] = {}
    for part, prepare in (("inference", prepare_inference), ("training", prepare_training)):
        calls: dict[str, dict[str, Callable[[], object]]] = {}
        for name in (plan.baseline.name, COPY, *(v.name for v in plan.variants if not v.baseline and not v.error)):
            variant = plan.baseline if name == COPY else plan.variant(name)
            try:
                calls[name] = prepare(plan.of(variant), variant, device)
                for call in calls[name].values():
                    call()  # the first allocates memory and compiles kernels
            except (RuntimeError, UserError) as error:
                print(f"{name}: its cost of {part} cannot be measured: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
                calls.pop(name, None)
        for key in next(iter(calls.values()), {}):
            times = time_rounds([own[key] for own in calls.values()], device, _ROUNDS[key], _TIME_LIMIT * len(calls))
            for name, seconds in zip(calls, times, strict=True):
                out.setdefault(name, {})[key] = seconds
    return out


def prepare_inference(plan: StudyPlan, variant: Variant, device: torch.device) -> dict[str, Callable[[], object]]:
    """The network alone, with folded normalisation, in float32, on one image and on a batch."""
    import torch

    model = _build(plan, variant, device, trained=True).eval().fuse()
    side, batch = training_side(plan.flags["imgsz"], model.max_stride), plan.flags["batch_size"]
    one, many = (torch.rand(n, 3, side, side, device=device).to(memory_format=torch.channels_last) for n in (1, batch))

    def call(images: torch.Tensor) -> None:
        with torch.inference_mode():
            model(images)

    return {"latency_ms": functools.partial(call, one), "images_per_second": functools.partial(call, many)}


def prepare_training(plan: StudyPlan, variant: Variant, device: torch.device) -> dict[str, Callable[[], object]]:
    """Training steps on random images, without data loading."""
    import torch

    from utils.training.amp import choose_precision, verified
    from utils.training.ema import ModelEMA
    from utils.training.losses.criterion import build_criterion
    from utils.training.optim import build_optimizer

    flags, hyp = plan.flags, Hyp(**plan.hyp)  # type: ignore[arg-type]
    model = _build(plan, variant, device, trained=False).train()
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

    return {"train_seconds": step}


def time_rounds(calls: Sequence[Callable[[], object]], device: torch.device, maximum: int, time_limit: float) -> list[list[float]]:
    """Seconds of each call in 6 to `maximum` rounds, as many as fit into `time_limit` seconds, after one round of warm-up."""
    from utils.device import clock

    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    start, rounds = clock(device), 0
    while rounds < _MIN_ROUNDS or (rounds < maximum and clock(device) - start < time_limit):
        for place in range(len(calls)):
            number = (place + rounds) % len(calls)
            before = clock(device)
            calls[number]()
            times[number].append(clock(device) - before)
        rounds += 1
    return times


def _build(plan: StudyPlan, variant: Variant, device: torch.device, *, trained: bool) -> Detector:
    import torch

    from models import build_model
    from models.spec.model_spec import ModelSpec

    if variant.error or not variant.spec:
        raise UserError(f"{variant.name}: {variant.error or 'its model in the study folder is damaged'}")
    names = dict(enumerate(plan.data.names))
    spec = ModelSpec.from_dict(variant.spec, variant.name)
    model = build_model(spec.finished() if trained else spec, len(names), names=names)
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
