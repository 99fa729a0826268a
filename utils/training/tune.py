"""A search for hyper-parameters: ``train.py --tune N`` and ``--evolve N``.

The search folder holds trials/N, the run of each trial without its weights; evolve.csv, a row per trial; hyp_evolve.yaml, the best
hyper-parameters so far, for ``--hyp``; opt.yaml, the settings; and, when all trials are done, evolve.png.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from utils.config import Hyp
from utils.distributed import ranks_from
from utils.errors import DivergedError, StopError, UserError
from utils.files.atomic import write_text
from utils.files.lock import folder_lock
from utils.files.run_folders import new_run_folder, refuse_links
from utils.files.safe_open import read_regular
from utils.files.yaml_file import read_yaml
from utils.log import LOG, start_log
from utils.training.checkpointing import plain_settings
from utils.training.early_stopping import fitness
from utils.training.history import COLUMNS, read_curve
from utils.training.resume import CHANGEABLE, PLACE, newest_checkpoint
from utils.training.search import Trial, best_trial, check_search, own_values, propose
from utils.training.search_space import BOUNDS, DEFAULT, FLAGS, SearchConfig, Space, read_space, without_search
from utils.training.session import train

TRIALS, BEST, SETTINGS, PICTURE = "evolve.csv", "hyp_evolve.yaml", "opt.yaml", "evolve.png"
_METRICS = tuple(c for c in COLUMNS if c.startswith(("metrics/", "val/")))
_FREE = (CHANGEABLE - {"epochs", "data", "patience"}) | PLACE | {"tune", "evolve", "resume", "resume_anyway"}
_MAX_BYTES = 1 << 26


def tune(config: SearchConfig, hyp: Hyp, given: frozenset[str]) -> None:
    """Train one trial after the other, each from the same start, and keep the hyper-parameters of the best.

    Args:
        config: the parsed command line; with ``--resume FOLDER`` the search there goes on, with the same trials.
        hyp: the hyper-parameters of the first trial.
        given: the fields of `config` that were given.

    Raises:
        UserError: something is wrong with flags, files, data or device. A trial that diverges is none: it counts as failed.
        StopError: a signal came; everything is saved.
    """
    start_log()
    count, search = config.evolve or config.tune, "evolve" if config.evolve else config.search
    if ranks_from(os.environ).world_size > 1:
        raise UserError("--tune and --evolve train in one process; omit torchrun, and give a GPU with --device")
    check_search(search)
    space = read_space(config.space, default=BOUNDS if config.evolve else DEFAULT)  # YOLOv5 evolves all of them
    first = own_values(space, hyp)
    settings = {**plain_settings(config), "search": search, "space": {n: str(b) for n, b in space.items()}, "hyp": dataclasses.asdict(hyp)}
    folder = _open_folder(config, given, settings)
    with folder_lock(folder):
        write_text(folder / SETTINGS, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        rows = _read_rows(folder / TRIALS) if config.resume else []
        for number in range(len(rows), count):
            trials = [Trial({name: float(row[name]) for name in space}, float(row["fitness"])) for row in rows]
            values = propose(search, space, trials, config.seed) if trials else first
            changed = ", ".join(f"{name} {value:g}" for name, value in values.items() if value != first[name])
            LOG.info("\ntrial %d of %d: %s", number, count - 1, changed or "the hyper-parameters given")
            own = dataclasses.replace(hyp, **values)  # type: ignore[arg-type]
            rows.append({"trial": str(number), **_trained(config, own, given, folder / "trials" / str(number))})
            _write(folder, rows, settings)
        if not config.noplots:
            _plot(folder, rows, space)
    best = _best(rows)
    if math.isnan(float(best["fitness"])):
        raise UserError(f"{folder}: all {len(rows)} trials diverged; begin with a lower --lr0, or bound it by --space lr0=1e-5:1e-3:log")
    LOG.info("\nbest of %d trials: trial %s, fitness %s (trial 0: %s)", len(rows), best["trial"], best["fitness"], rows[0]["fitness"])
    LOG.info("to train with its hyper-parameters: --hyp %s; all trials: %s", folder / BEST, folder / TRIALS)


def _open_folder(config: SearchConfig, given: frozenset[str], settings: dict[str, Any]) -> Path:
    """Make a folder for the search, or find the one to go on with, which must have the same settings."""
    project = Path(config.project if "project" in given else "runs/evolve")
    if not config.resume:
        folder = new_run_folder(project, config.name, exist_ok=config.exist_ok)
        shutil.rmtree(folder / "trials", ignore_errors=True)
        return folder
    if config.resume == "newest":
        found = sorted(project.glob(f"*/{TRIALS}"), key=lambda p: p.stat().st_mtime_ns)
        if not found:
            raise UserError(f"--resume: no {TRIALS} below {project}; name the folder of the search")
        folder = found[-1].parent
    else:
        folder = Path(config.resume)
    refuse_links(folder)
    before = read_yaml(folder / SETTINGS)
    now = yaml.safe_load(yaml.safe_dump(settings))
    if changed := [k for k in now if k not in _FREE and before.get(k) != now[k]]:
        shown = "; ".join(f"{k}: {str(before.get(k))[:200]} before, {str(now[k])[:200]} now" for k in changed)
        raise UserError(f"--resume {folder}: the search began with other settings ({shown}); repeat its command, or begin another search")
    return folder


def _trained(config: SearchConfig, hyp: Hyp, given: frozenset[str], folder: Path) -> dict[str, str]:
    """Train a trial, or resume it, and return its row without the number."""
    figures: dict[str, float] = dict.fromkeys((*_METRICS, "fitness"), math.nan)
    try:
        if not (folder / "metrics.json").is_file():
            _train(config, hyp, given, folder)
        curve = [{**row, "fitness": fitness(row["metrics/mAP_0.5"], row["metrics/mAP_0.5:0.95"])} for row in read_curve(folder)]
        known = [row for row in curve if not math.isnan(row["fitness"])]
        if not known:
            raise UserError(f"{folder}: nothing was measured, so trials cannot be compared; the val split needs annotated objects")
        figures |= {name: value for name, value in max(known, key=lambda row: row["fitness"]).items() if name in figures}
    except DivergedError as error:
        LOG.warning("the trial failed: %s", error)
    except StopError as error:
        signal = str(error).partition(":")[0]
        raise StopError(f"{signal}: everything is saved; repeat the command with --resume {folder.parent.parent}") from error
    shutil.rmtree(folder / "weights", ignore_errors=True)
    settings = {name: "" if value is None else str(value) for name, value in dataclasses.asdict(hyp).items()}
    return {**{name: f"{value:.5g}" for name, value in figures.items()}, **settings}


def _train(config: SearchConfig, hyp: Hyp, given: frozenset[str], folder: Path) -> None:
    begun = newest_checkpoint(folder) is not None
    if not begun:
        shutil.rmtree(folder, ignore_errors=True)
    place = {"project": str(folder.parent), "name": folder.name, "exist_ok": True, "resume": str(folder) if begun else ""}
    run = dataclasses.replace(without_search(config), **place, noplots=True, nosave=False, keep_resume=False)  # type: ignore[arg-type]
    train(run, hyp, (given - PLACE - FLAGS) | {"noplots"} | ({"resume"} if begun else PLACE), dataclasses.asdict(hyp) if begun else {})


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of evolve.csv; none if there is no such file yet."""
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(read_regular(path, _MAX_BYTES).decode()), strict=True))
        for number, row in enumerate(rows):
            if int(row["trial"]) != number or None in row.values():
                raise ValueError(f"row {number} is not trial {number}")
            float(row["fitness"]), _hyp(row)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: not the trials of a search ({error}); begin another search") from error
    return rows


def _hyp(row: Mapping[str, str]) -> Hyp:
    texts = {f.name: row[f.name] for f in dataclasses.fields(Hyp)}
    numeric = {f.name for f in dataclasses.fields(Hyp) if not isinstance(f.default, str)}
    return Hyp(**{name: text if name not in numeric else float(text) if text else None for name, text in texts.items()})  # type: ignore[arg-type]


def _write(folder: Path, rows: list[dict[str, str]], settings: dict[str, Any]) -> None:
    """Write all trials, and the best hyper-parameters."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ("trial", "fitness", *_METRICS, *settings["hyp"]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    best = _best(rows)
    head = f"# The best of {len(rows)} trials: trial {best['trial']}, fitness {best['fitness']} (0.1 AP50 + 0.9 AP)\n"
    head += f"# {settings['epochs']} epochs at {settings['imgsz']} pixels; searched: {', '.join(settings['space'])}\n"
    try:
        write_text(folder / TRIALS, text.getvalue())
        write_text(folder / BEST, head + yaml.safe_dump(dataclasses.asdict(_hyp(best)), sort_keys=False))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); free space and repeat with --resume {folder}") from error


def _plot(folder: Path, rows: list[dict[str, str]], space: Space) -> None:
    from utils.training.search_plot import plot_search  # matplotlib, which the trials import only where they draw

    try:
        plot_search(folder / PICTURE, rows, space)
    except OSError as error:
        LOG.warning("%s: cannot be written (%s)", folder / PICTURE, error.strerror or error)


def _best(rows: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    return rows[best_trial([float(row["fitness"]) for row in rows])]
