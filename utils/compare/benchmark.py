"""The costs of all variants, one after another on the machine that has nothing else to do now."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from utils.compare.checksummed_json import read_json, write_json
from utils.compare.executors import end, environment
from utils.compare.plan_io import write_plan
from utils.compare.study import COSTS, CostMeasurement, StudyPlan, Variant
from utils.errors import StopError
from utils.log import LOG
from utils.signals import StopRequest

_EVALUATION = 0.4
"""What an image of the validation takes, as a share of one in training: forward pass, NMS, matching."""
_START = 15.0  # seconds of a run that are neither training nor validation


def measure_costs(folder: Path, plan: StudyPlan, device: str, request: StopRequest) -> None:
    """Measure what costs.json does not hold yet, and write it down variant by variant.

    All are measured again where the machine or its threads are not those of the costs there: they could not be compared.

    Raises:
        UserError: costs.json cannot be written.
        StopError: a signal has asked to stop; what was measured is kept.
    """
    known = dict(read_json(folder / COSTS) or {})
    for variant in plan.variants:
        if variant.error or variant.name in known:
            continue
        LOG.info("measuring the cost of %s", variant.name)
        try:
            values = {part: _part(folder, variant, part, device, request) for part in ("inference", "training")}
        except OSError as error:  # no room for temporary files: a report without costs is better than none
            LOG.warning("%s: its cost cannot be measured (%s)", variant.name, error.strerror or error)
            continue
        if None in values.values():
            continue
        merged: dict[str, Any] = {**(values["training"] or {}), **(values["inference"] or {})}
        fields = {f.name for f in dataclasses.fields(CostMeasurement)}
        cost = {"parameters": variant.parameters, "gflops": variant.gflops, **{k: v for k, v in merged.items() if k in fields}}
        if any((c["device"], c["threads"]) != (cost["device"], cost["threads"]) for c in known.values()):
            LOG.warning("the costs there were measured on another machine; measuring all of them again")
            (folder / COSTS).unlink()
            measure_costs(folder, plan, device, request)
            return
        known[variant.name] = cost
        write_json(folder / COSTS, known)


def _part(folder: Path, variant: Variant, part: str, device: str, request: StopRequest, *, draft: bool = False) -> dict[str, Any] | None:
    """Run a measurement; None where the model fails in it."""
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
                        raise StopError(f"{request.by}: what was measured is kept; the same command goes on with the study") from None
        finally:
            end([process], 0.5)
        text, said = (_content(file) for file in (out, errors))
    if code == 0 and text:
        values: dict[str, Any] = json.loads(text[-1])
        return values
    LOG.warning("%s: its cost of %s cannot be measured: %s", variant.name, part, said[-1] if said else f"status {code}")
    return None


def _content(file: Any) -> list[str]:
    file.seek(0)
    return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def estimates(plan: StudyPlan, device: str, request: StopRequest) -> Generator[tuple[Variant, float | None], None, None]:
    """Yield each variant with the seconds that one run of it will take, from a few measured steps; None where they fail.

    Nothing is written but a folder that is gone afterwards.

    Raises:
        StopError: a signal has asked to stop.
    """
    with tempfile.TemporaryDirectory(prefix="attune-") as name:
        folder = Path(name)
        write_plan(folder, plan)
        for variant in plan.variants:
            values = None if variant.error else _part(folder, variant, "training", device, request, draft=True)
            yield variant, None if values is None else run_seconds(plan, float(values["step_seconds"]))


def run_seconds(plan: StudyPlan, step: float) -> float:
    """Seconds of a run whose training step takes `step`."""
    flags, splits = plan.flags, plan.data.splits
    steps = -(-splits["train"].images // flags["batch_size"])
    validations = 2 if flags["noval"] else flags["epochs"] + 1
    image = step / flags["batch_size"] * _EVALUATION
    measured = 2 * splits[plan.data.measured].images * image
    return float(_START + steps * step * flags["epochs"] + validations * splits["val"].images * image + measured)
