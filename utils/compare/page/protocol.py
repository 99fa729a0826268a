"""The protocol of a study, as pairs of name and text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.compare.checksummed_json import read_json
from utils.compare.study import COMPARISONS, Study, StudyPlan

Rows = list[tuple[str, str]]
_FOLDS = (
    "{0}, of train and val together, with equal shares of each class, another partition for each seed; each run is measured on the fold "
    "that it does not train on. Runs are paired by fold and seed. Corrected resampled t (Nadeau and Bengio 2003): the variance over runs, "
    "which contains that over images, counts (1 / runs + 1 / {1}) times, since the folds share training images"
)
_END = (
    "early, after a failed run, or after two seeds or more if its mean difference from the baseline is below −{0:g} points with a "
    "confidence of 99 % for all looks together; then there is no verdict, and the other arms are tested as if it had gone on"
)


def plan_rows(study: Study) -> Rows:
    """Everything that determines the figures."""
    plan, data = study.plan, study.plan.data
    resamples = (read_json(study.folder / COMPARISONS) or {}).get("resamples", "no")
    units = f"groups of images ({data.group}: {max(data.groups) + 1} groups)" if data.groups else "the images"
    done = sum(run.state == "done" for run in study.runs)
    place = "the fold left out" if data.folds else data.measured
    bootstrap = f"paired bootstrap of the mean over seeds, {resamples} resamples of {units}, shared by all runs"
    rows = [
        ("Variants", ", ".join(v.name for v in plan.variants)),
        ("Baseline", plan.baseline.name),
        ("Seeds", ", ".join(map(str, dict.fromkeys(map(plan.seed_of, plan.seeds))))),
        *([("Folds", _FOLDS.format(data.folds, data.folds - 1))] if data.folds else []),
        ("Runs", f"{done} of {len(study.runs)} done"),
        ("Data", data.source),
        *((f"Split {name}", f"{s.images} images, {s.objects} objects, digest {s.digest}") for name, s in data.splits.items()),
        (
            "Measured on",
            f"{place}; " + ("best epoch selected on val" if data.measured == "test" else "the best epoch is selected on it, too"),
        ),
        ("Classes", f"{len(data.names)}: {', '.join(data.names)}"),
        ("Start weights", f"{plan.weights}, SHA-256 {plan.weights_digest}" if plan.weights else "none: trained from scratch"),
        ("Pairing", "runs with the same seed have the same order of samples, augmentation, and initial weights of shared layers"),
        ("Metric", plan.metric),
        ("Interval", "95 % CI over seeds and images together, simultaneous over the variants (Dunnett); the verdict rests on it alone"),
        ("Variance over seeds", "residual variance of all arms in a two-way layout of arms and seeds; an arm that varies more has its own"),
        ("Variance over images", "part of the variance over runs, since each fold has its own" if data.folds else bootstrap),
        ("Analysis", str(plan.look)),
        ("Threads of a run", str(plan.threads)),
        ("Controls", ", ".join(plan.control) or "none"),
        *([("Tuning of every arm", str(plan.tuning))] if plan.tuning else []),
        *([("End of an arm", _END.format(plan.stop_hopeless))] if plan.stop_hopeless else []),
    ]
    if not study.costs:
        return [*rows, ("Costs", "not measured")]
    first = next(iter(study.costs.values()))
    return [*rows, ("Costs measured on", f"{first.device}, {first.threads} threads, batch size {first.batch}; all variants in turn")]


def tables(study: Study) -> dict[str, Rows]:
    """Longer lists: settings, hyper-parameters, versions, plug-ins and runs."""
    plan, runs = study.plan, []
    for run in study.runs:
        trained = [f"{run.epochs} epochs in {run.train_seconds:.0f} s"] if run.epochs else []
        shown = "; ".join([run.state, *trained, *(f"{k} {v}" for k, v in run.made_with.items())])
        runs.append((f"{run.variant}, seed {run.seed}", shown))
    out = {
        "Settings of the training": _rows(plan.flags),
        "Hyper-parameters": _rows(plan.hyp),
        "Versions": _rows(plan.versions),
        "Plug-ins": _rows(plan.plugins),
        "Runs": runs,
    }
    return {title: rows for title, rows in out.items() if rows}


def _rows(values: Mapping[str, Any]) -> Rows:
    return [(str(k), ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else str(v)) for k, v in values.items()]


def kicker(plan: StudyPlan) -> str:
    """The line above the headline: data, seeds, epochs."""
    epochs, imgsz, data = plan.flags.get("epochs"), plan.flags.get("imgsz"), plan.data
    measured = f"{len(data.groups)} images in folds" if data.folds else f"{data.images(data.measured)} images measured ({data.measured})"
    count, seeds = len(plan.variants) - 1, len({plan.seed_of(run) for run in plan.seeds})
    parts = [
        f"{count} variant{'s' if count != 1 else ''} against {plan.baseline.name}",
        f"{seeds} seed{'s' if seeds != 1 else ''}" + (f" × {data.folds} folds" if data.folds else ""),
        *([f"{epochs} epochs"] if epochs else []),
        *([f"{imgsz} pixels"] if imgsz else []),
        f"data {Path(data.source).name}, {measured}",
    ]
    return " · ".join(parts)
