"""The costs of a study's variants, and the file that keeps them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

from utils.compare.checksummed_json import read_json
from utils.files.plain_data import typed

COSTS = "costs.json"
"""In the study folder."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ratio:
    """A time relative to the baseline's, both measured in turn: the median over the rounds and its 95 % CI."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CostMeasurement:
    """The cost of a variant on the machine that measured it, while no other process of the study was running.

    Attributes:
        parameters: their number.
        gflops: 1e9 floating-point operations for one image of the study's size.
        latency_ms, latency_p95_ms: median and 95th percentile of the time of one image, network only, normalisation folded.
        images_per_second: throughput with batches of `batch` images.
        memory_mb: peak memory of inference with such batches beyond that of the idle process, in 1e6 bytes; on CUDA, of the GPU.
        train_memory_mb: peak memory of training at the study's batch size, likewise.
        train_seconds: of the steps of one training: their number times the median step.
        ratios: of latency_ms, images_per_second and train_seconds to the baseline's. Those of the baseline are of a second copy of
            it (A/A): how far they are from 1 is how far measuring can be off.
        batch: batch size of the throughput.
        device: GPU or processor.
        threads: CPU threads.
    """

    parameters: int
    gflops: float
    latency_ms: float
    latency_p95_ms: float
    images_per_second: float
    memory_mb: float
    train_memory_mb: float
    train_seconds: float
    ratios: Mapping[str, Ratio]
    batch: int
    device: str
    threads: int


def read_costs(folder: Path, names: Collection[str]) -> dict[str, CostMeasurement]:
    """The costs in costs.json of the variants `names`; without those that are damaged, which are measured again."""
    costs = {}
    for name, values in (read_json(folder / COSTS) or {}).items():
        if name in names:
            with contextlib.suppress(TypeError):
                costs[name] = typed(CostMeasurement, values)
    return costs
