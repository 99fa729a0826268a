"""The result of a run: result.json, which holds checksums of itself and of the run's files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.compare.checksummed_json import read_json, write_json
from utils.compare.study import FIGURES, RunResult, StartingPoint, run_folder
from utils.errors import UserError
from utils.files.plain_data import typed
from utils.versions import file_digest

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
    content["start"] = result.start and dataclasses.asdict(result.start)
    content["files"] = {name: file_digest(folder / name) for name in files}
    write_json(folder / RESULT, content)


def read_run_result(study: Path, variant: str, seed: int) -> RunResult:
    """Read the result of a run; a damaged or absent one has the state "missing"."""
    from utils.training.history import read_curve  # imports torch

    folder = run_folder(study, variant, seed)
    missing = RunResult(variant=variant, seed=seed, state="missing", folder=folder, curve=read_curve(folder))
    content = read_json(folder / RESULT)
    if content is None:
        return dataclasses.replace(missing, error="its result is damaged") if (folder / RESULT).exists() else missing
    if (content.get("variant"), content.get("seed")) != (variant, seed):
        return dataclasses.replace(missing, error=f"holds the result of {content.get('variant')}, seed {content.get('seed')}")
    try:
        files = typed(Mapping[str, str], content.pop("files", None), "files")
        scores: dict[str, Any] = {which: _scores(content.pop(which, None)) for which in MATCHES}
        result = typed(_Saved, content)
        if result.state not in ("done", "failed") or (result.state == "done" and None in scores.values()):
            raise TypeError(f"state is {result.state!r}")
    except TypeError as error:
        return dataclasses.replace(missing, error=f"its result is damaged ({error})")
    needed = {*files, *((*MATCHES.values(), "results.csv") if result.state == "done" else ())}
    if damaged := [name for name in sorted(needed) if not _intact(folder, name, files.get(name, ""))]:
        return dataclasses.replace(missing, error=f"{', '.join(damaged)} damaged")
    values: dict[str, Any] = {f.name: getattr(result, f.name) for f in dataclasses.fields(_Saved)}
    return RunResult(**values, **scores, folder=folder, curve=missing.curve)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Saved:
    """What result.json holds of a `RunResult` as it is."""

    variant: str
    seed: int
    state: str
    error: str
    split: str
    epochs: int
    best_epoch: int
    train_seconds: float
    train_memory_mb: float
    start: StartingPoint | None
    made_with: Mapping[str, str]
    notes: tuple[str, ...]


def _scores(values: Any) -> Scores | None:
    if values is None:
        return None
    import numpy as np

    from utils.compare.resampled_ap import Scores

    known = typed(Mapping[str, float | tuple[float, ...]], values, "figures")
    per_class = known.pop("per_class", None)
    if set(known) != set(FIGURES) or type(per_class) is not tuple or any(type(v) is tuple for v in known.values()):
        raise TypeError("figures are missing or unknown")
    overall = {name: math.nan if value is None else value for name, value in known.items()}
    return Scores(**overall, per_class=np.array(per_class, np.float64))


def _intact(folder: Path, name: str, digest: str) -> bool:
    """Whether a file of the run is the one that was written, and can be read."""
    from utils.compare.match_store import StoredMatches

    try:
        if file_digest(folder / Path(name).name) != digest:
            return False
        if name in MATCHES.values():
            StoredMatches.load(folder / name)
    except UserError:
        return False
    return True
