"""Costs of all variants, measured one after another once the machine has no runs to do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from utils.compare.checksummed_json import write_json
from utils.compare.costs import COSTS, CostMeasurement, read_costs
from utils.compare.executors import end, environment
from utils.compare.plan_io import write_plan
from utils.compare.study import StudyPlan, Variant
from utils.errors import StopError
from utils.log import LOG
from utils.signals import StopRequest

_EVALUATION_SHARE = 0.4
"""Time of a validation image (forward pass, NMS, matching) as a share of that of a training image."""
_START_SECONDS = 15.0  # of a run, neither training nor validation


def measure_costs(folder: Path, plan: StudyPlan, device: str, request: StopRequest) -> None:
    """Measure the costs missing in costs.json, and save them variant by variant.

    If the machine or its number of threads differs from the one costs.json was measured with, all costs are measured again.

    Raises:
        UserError: costs.json cannot be written.
        StopError: a signal asked to stop; what was measured is kept.
    """
    known = {name: dataclasses.asdict(cost) for name, cost in read_costs(folder, [v.name for v in plan.variants]).items()}
    for variant in plan.variants:
        if variant.error or variant.name in known:
            continue
        LOG.info("measuring the cost of %s", variant.name)
        try:
            values = {part: _measure_part(folder, variant, part, device, request) for part in ("inference", "training")}
        except OSError as error:  # no space for temporary files: a report without costs is better than none
            LOG.warning("%s: its cost cannot be measured (%s)", variant.name, error.strerror or error)
            continue
        if None in values.values():
            continue
        merged: dict[str, Any] = {**(values["training"] or {}), **(values["inference"] or {})}
        fields = {f.name for f in dataclasses.fields(CostMeasurement)}
        cost = {"parameters": variant.parameters, "gflops": variant.gflops, **{k: v for k, v in merged.items() if k in fields}}
        if any((c["device"], c["threads"]) != (cost["device"], cost["threads"]) for c in known.values()):
            LOG.warning("the saved costs were measured on another machine; measuring all of them again")
            (folder / COSTS).unlink()
            measure_costs(folder, plan, device, request)
            return
        known[variant.name] = cost
        write_json(folder / COSTS, known)


def _measure_part(
    folder: Path, variant: Variant, part: str, device: str, request: StopRequest, *, draft: bool = False
) -> dict[str, Any] | None:
    """Measure "inference" or "training" in a separate process; None where the model fails in it."""
    line = [sys.executable, "-P", "-m", "utils.compare.benchmark_worker", str(folder), variant.name, part, *(["--draft"] if draft else [])]
    line += [f"--device={device}"] if device else []
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            line, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment(), start_new_session=True
        )
        try:
            while True:
                try:
                    code = process.wait(0.2)
                    break
                except subprocess.TimeoutExpired:
                    if request.by:
                        raise StopError(f"{request.by}: the costs measured so far are saved; repeat the command to continue") from None
        finally:
            end([process], 0.5)
        out.seek(0)
        errors.seek(0)
        output, messages = ([line for line in file.read().decode(errors="replace").splitlines() if line.strip()] for file in (out, errors))
    if code == 0 and output:
        values: dict[str, Any] = json.loads(output[-1])
        return values
    LOG.warning("%s: its cost of %s cannot be measured: %s", variant.name, part, messages[-1] if messages else f"status {code}")
    return None


def estimate_run_times(plan: StudyPlan, device: str, request: StopRequest) -> Generator[tuple[Variant, float | None], None, None]:
    """Yield each variant with the estimated seconds of one of its runs, from a few measured steps; None where these fail.

    Writes to a temporary folder only.

    Raises:
        StopError: a signal asked to stop.
    """
    with tempfile.TemporaryDirectory(prefix="attune-") as name:
        folder = Path(name)
        write_plan(folder, plan)
        for variant in plan.variants:
            values = None if variant.error else _measure_part(folder, variant, "training", device, request, draft=True)
            yield variant, None if values is None else run_seconds(plan.of(variant), float(values["step_seconds"]))


def run_seconds(plan: StudyPlan, step: float) -> float:
    """Estimated seconds of a run whose training step takes `step` seconds."""
    flags, splits = plan.flags, plan.data.splits
    steps = -(-splits["train"].images // flags["batch_size"])
    validations = 2 if flags["noval"] else flags["epochs"] + 1
    image = step / flags["batch_size"] * _EVALUATION_SHARE
    measured = 2 * splits[plan.data.measured].images * image
    return float(_START_SECONDS + steps * step * flags["epochs"] + validations * splits["val"].images * image + measured)
