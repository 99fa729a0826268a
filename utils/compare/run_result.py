"""The result of a run: result.json, which holds checksums of itself and of the run's files."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.compare.checksummed_json import file_digest, read_json, write_json
from utils.compare.study import RunResult, run_folder
from utils.errors import UserError

if TYPE_CHECKING:
    from utils.compare.resampled_ap import Scores

RESULT = "result.json"
MATCHES = {"last": "last.npz", "best": "best.npz"}
"""Files of a run folder. The result is written last, so its presence means that the run is complete."""


def write_run_result(folder: Path, result: RunResult) -> None:
    """Write the result of a run whose matches and weights are already in the folder.

    Raises:
        UserError: it cannot be written.
    """
    content = {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.name not in ("curve", "folder")}
    for which in MATCHES:
        scores = getattr(result, which)
        content[which] = scores and {**dataclasses.asdict(scores), "per_class": scores.per_class.tolist()}
    files = (*MATCHES.values(), "results.csv") if result.state == "done" else ()
    content["made_with"] = dict(result.made_with)
    content["files"] = {name: file_digest(folder / name) for name in files}
    write_json(folder / RESULT, content)


def read_run_result(study: Path, variant: str, seed: int) -> RunResult:
    """Read the result of a run; a damaged or absent one has the state "missing"."""
    folder = run_folder(study, variant, seed)
    missing = RunResult(variant=variant, seed=seed, state="missing", folder=folder, curve=read_curve(folder))
    content = read_json(folder / RESULT)
    if content is None:
        return dataclasses.replace(missing, error="its result is damaged") if (folder / RESULT).exists() else missing
    if (content.get("variant"), content.get("seed")) != (variant, seed):
        return dataclasses.replace(missing, error=f"holds the result of {content.get('variant')}, seed {content.get('seed')}")
    damaged = []
    for name, digest in content.pop("files").items():
        try:
            intact = file_digest(folder / name) == digest
        except UserError:
            intact = False
        damaged += [] if intact else [name]
    if damaged:
        return dataclasses.replace(missing, error=f"{', '.join(damaged)} damaged")
    content |= {which: _scores(content[which]) for which in MATCHES}
    return RunResult(**{**content, "notes": tuple(content["notes"])}, folder=folder, curve=missing.curve)


def _scores(values: Mapping[str, Any] | None) -> Scores | None:
    if values is None:
        return None
    import numpy as np

    from utils.compare.resampled_ap import Scores

    overall = {k: math.nan if v is None else v for k, v in values.items() if k != "per_class"}
    return Scores(**overall, per_class=np.array(values["per_class"], np.float64))  # None becomes NaN


def read_curve(folder: Path) -> tuple[dict[str, float], ...]:
    """The complete rows of a run's own results.csv."""
    rows: list[dict[str, float]] = []
    try:
        with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows += [{k.strip(): float(v) for k, v in row.items()}]
    except (OSError, ValueError, AttributeError, TypeError):  # a row truncated by a kill is ignored
        pass
    return tuple(rows)
