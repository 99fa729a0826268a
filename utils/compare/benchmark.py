"""Costs of all variants, measured in turn once the machine has no runs to do, and the time that runs will take."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, Any

from utils.compare.benchmark_worker import COPY
from utils.compare.checksummed_json import write_json
from utils.compare.costs import COSTS, CostMeasurement, Ratio, read_costs
from utils.compare.executors import end, environment
from utils.compare.plan_io import write_plan
from utils.compare.study import StudyPlan, Variant
from utils.device import cpu_count
from utils.errors import StopError
from utils.log import LOG
from utils.signals import StopRequest

Estimates = Generator[tuple[Variant, float | None], None, None]

_EVALUATION_SHARE = 0.4
"""Time of a validation image (forward pass, NMS, matching) as a share of that of a training image."""
_KEYS = ("latency_ms", "images_per_second", "train_seconds")


def measure_costs(folder: Path, plan: StudyPlan, device: str, request: StopRequest) -> None:
    """Measure the costs of all variants, and save them in costs.json; those of a variant alone could not be compared.

    Nothing is done if costs.json has them all.

    Raises:
        UserError: costs.json cannot be written.
        StopError: a signal asked to stop.
    """
    variants = [v for v in plan.variants if not v.error]
    if {v.name for v in variants} <= read_costs(folder, [v.name for v in variants]).keys():
        return
    LOG.info("measuring the costs of %d variants", len(variants))
    try:
        base = plan.baseline.name
        (measured,) = _run_workers([_line(folder, base, "times", device)], request)
        if measured is None:
            return
        known = {}
        for variant in variants:
            if len(times := measured["times"].get(variant.name, {})) == len(_KEYS):
                parts = [_run_workers([_line(folder, variant.name, part, device)], request)[0] for part in ("inference", "training")]
                if None not in parts:
                    reference = measured["times"][COPY if variant.baseline else base]
                    memory = {**(parts[0] or {}), **(parts[1] or {})}
                    known[variant.name] = dataclasses.asdict(_cost(plan.of(variant), variant, times, reference, memory))
    except OSError as error:  # no space for temporary files: a report without costs is better than none
        LOG.warning("the costs cannot be measured (%s)", error.strerror or error)
        return
    write_json(folder / COSTS, known)


def _cost(
    plan: StudyPlan, variant: Variant, times: dict[str, list[float]], reference: dict[str, list[float]], memory: dict[str, Any]
) -> CostMeasurement:
    """Join what was measured of a variant; `reference` has the times of the baseline in the same rounds."""
    batch, steps = plan.flags["batch_size"], -(-plan.data.images("train") // plan.flags["batch_size"]) * plan.flags["epochs"]
    single = sorted(times["latency_ms"])
    ratios = {key: ratio(times[key], reference[key]) for key in _KEYS}
    inverse = ratios["images_per_second"]
    return CostMeasurement(
        parameters=variant.parameters,
        gflops=variant.gflops,
        latency_ms=statistics.median(single) * 1e3,
        latency_p95_ms=single[min(round(0.95 * len(single)), len(single) - 1)] * 1e3,
        images_per_second=batch / statistics.median(times["images_per_second"]),
        memory_mb=memory["memory_mb"],
        train_memory_mb=memory["train_memory_mb"],
        train_seconds=statistics.median(times["train_seconds"]) * steps,
        ratios={**ratios, "images_per_second": Ratio(1 / inverse.value, 1 / inverse.high, 1 / inverse.low)},
        batch=batch,
        device=memory["device"],
        threads=memory["threads"],
    )


def ratio(times: Sequence[float], reference: Sequence[float]) -> Ratio:
    """The median over the rounds of the ratio of two times, with its distribution-free 95 % CI: two order statistics.

    Of n values in order, the k-th and the (n + 1 - k)-th enclose the median with probability 1 - 2 B(k - 1; n, 1/2).
    """
    from scipy.stats import binom

    values = sorted(a / b for a, b in zip(times, reference, strict=True))
    rank = max(int(binom.ppf(0.025, len(values), 0.5)), 1)
    return Ratio(statistics.median(values), values[rank - 1], values[-rank])


def _line(folder: Path, variant: str, part: str, device: str) -> list[str]:
    line = [sys.executable, "-P", "-m", "utils.compare.benchmark_worker", str(folder), variant, part]
    return [*line, f"--device={device}"] if device else line


def _run_workers(lines: Sequence[Sequence[str]], request: StopRequest) -> list[dict[str, Any] | None]:
    """Run measuring processes at the same time; what each printed, with the seconds that it spent on anything else; None if it failed."""
    with contextlib.ExitStack() as stack:
        files = [[stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)] for _ in lines]
        processes = [
            subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment(), start_new_session=True)  # noqa: S603
            for line, (out, errors) in zip(lines, files, strict=True)  # our own interpreter and module
        ]
        try:
            while any(process.poll() is None for process in processes):
                if request.by:
                    raise StopError(f"{request.by}: all runs are saved; repeat the command to continue")
                time.sleep(0.1)
        finally:
            end(processes, 0.5)
        return [_output(line, process.returncode, *both) for line, process, both in zip(lines, processes, files, strict=True)]


def _output(line: Sequence[str], code: int, out: IO[bytes], errors: IO[bytes]) -> dict[str, Any] | None:
    texts = []
    for file in (out, errors):
        file.seek(0)
        texts.append([text for text in file.read().decode(errors="replace").splitlines() if text.strip()])
    output, messages = texts
    if code == 0 and output:
        for message in messages:
            if "cannot be measured" in message:
                LOG.warning(message)
        values: dict[str, Any] = json.loads(output[-1])
        return values
    LOG.warning("%s: its cost of %s cannot be measured: %s", line[5], line[6], messages[-1] if messages else f"status {code}")
    return None


def estimate_run_times(plan: StudyPlan, device: str, jobs: int, request: StopRequest) -> Estimates:
    """Yield each variant with the estimated seconds of one of its runs, from a few measured steps and batches; None where these fail.

    As many processes measure at a time as will run at a time, since they share cores and memory. Writes to a temporary folder only.

    Raises:
        StopError: a signal asked to stop.
    """
    workers = max(cpu_count() // jobs - 1, 0)  # as many as a run will have
    with tempfile.TemporaryDirectory(prefix="attune-") as name:
        folder = Path(name)
        write_plan(folder, plan)
        for variant in plan.variants:
            if variant.error:
                yield variant, None
                continue
            begun = time.monotonic()
            found = [v for v in _run_workers([_line(folder, variant.name, "draft", device)] * jobs, request) if v]
            if not found:
                yield variant, None
                continue
            step, load, spent = (statistics.fmean(v[key] for v in found) for key in ("step_seconds", "load_seconds", "seconds"))
            step = max(step, load / workers) if workers else step + load
            yield variant, run_seconds(plan.of(variant), step, time.monotonic() - begun - spent)


def run_seconds(plan: StudyPlan, step: float, start: float) -> float:
    """Estimated seconds of a run whose process takes `start` seconds to start, and whose training step takes `step`, with its batch."""
    flags, data = plan.flags, plan.data
    steps = -(-data.images("train") // flags["batch_size"])
    validations = 2 if flags["noval"] else flags["epochs"] + 1
    image = step / flags["batch_size"] * _EVALUATION_SHARE
    measured = (3 if plan.weights else 2) * data.images(data.measured) * image  # before the first step, the last and the best epoch
    return float(start + steps * step * flags["epochs"] + validations * data.images("val") * image + measured)
