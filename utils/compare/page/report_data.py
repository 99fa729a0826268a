"""A study as plain data, the common source of the page, the tables, the figures and results.json."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from utils.compare.guards import start_of, warnings

if TYPE_CHECKING:
    from utils.compare.costs import CostMeasurement
    from utils.compare.intervals import Interval
    from utils.compare.statistics import Comparison
    from utils.compare.study import RunResult, StartingPoint, Study, Variant

HEADLINE = "ap"
LEVEL = "95 %"
ReportData = dict[str, Any]


class Metric(NamedTuple):
    """A metric: its name in `Scores`, its label and its description."""

    key: str
    label: str
    title: str


METRICS = (
    Metric("ap", "AP", "COCO's average precision, mean over IoU 0.50 to 0.95; the verdict rests on it"),
    Metric("ap50", "AP50", "Average precision at IoU 0.50"),
    Metric("ap75", "AP75", "Average precision at IoU 0.75"),
    Metric("small", "AP S", "AP of small objects, below 32 × 32 pixels"),
    Metric("medium", "AP M", "AP of medium objects, 32 × 32 to 96 × 96 pixels"),
    Metric("large", "AP L", "AP of large objects, above 96 × 96 pixels"),
)
DETECTION = (
    Metric("precision", "P", "Precision"),
    Metric("recall", "R", "Recall"),
    Metric("f1", "F1", "F1"),
)
"""Means over the classes at IoU 0.50 and the confidence of the best mean F1, one for each run; descriptive."""
ERROR_METRICS = (
    Metric("classification_error", "Classification", "IoU 0.5 or more with an object of another class"),
    Metric("localisation_error", "Localisation", "IoU 0.1 to 0.5 with an object of the right class"),
    Metric("both_error", "Both", "IoU 0.1 to 0.5 with an object of another class"),
    Metric("duplicate_error", "Duplicate", "IoU 0.5 or more with an object that a more confident detection found"),
    Metric("background_error", "Background", "IoU below 0.1 with every object"),
    Metric("missed_error", "Missed", "Objects that no detection found, nor would with another class or box"),
    Metric("calibration_error", "Calibration (ECE)", "Mean distance of confidence from precision, over ten bins"),
)
"""TIDE's error types, and the expected calibration error; in points, less is better."""
SERIES = (
    ("metrics/mAP_0.5:0.95", "AP", True),
    ("metrics/mAP_0.5", "AP50", True),
    ("metrics/precision", "Precision", True),
    ("metrics/recall", "Recall", True),
    ("train/box_loss", "Box loss, training", False),
    ("train/obj_loss", "Object loss, training", False),
    ("train/cls_loss", "Class loss, training", False),
    ("val/box_loss", "Box loss, validation", False),
    ("val/obj_loss", "Object loss, validation", False),
    ("val/cls_loss", "Class loss, validation", False),
)
"""Columns of a run's results.csv, their labels, and whether they are shown in points (of 100)."""
COSTS = ("parameters", "gflops", "latency_ms", "latency_p95_ms", "images_per_second", "memory_mb", "train_memory_mb", "train_seconds")
TONES = {"better": "better", "worse": "worse", "not distinguishable": "open", "no verdict": "none", "baseline": "base"}
"""CSS class of each verdict."""


def build_report_data(study: Study) -> ReportData:
    """Return the study as text, numbers (NaN where there is none), lists and dicts. AP, P, R and F1 are in 0..1.

    Raises:
        UserError: the matches of a finished run cannot be read.
    """
    order = sorted(study.variants, key=lambda v: not v.baseline)
    base = study.costs.get(study.plan.baseline.name)
    bands = [{key: _band(study.runs_of(v.name), key) for key, _, _ in SERIES} for v in order]
    curves = [{key: band for key, band in own.items() if band["epoch"]} for own in bands]
    series = [{"key": k, "label": label, "points": points} for k, label, points in SERIES if any(k in own for own in curves)]
    return {
        "name": study.plan.name,
        "metric": HEADLINE,
        "level": LEVEL,
        "metrics": [m._asdict() for m in METRICS],
        "detection": [m._asdict() for m in DETECTION],
        "look": str(look) if (look := study.plan.look).partial else "",
        "baseline": study.plan.baseline.name,
        "measured": study.plan.data.measured,
        "warnings": warnings(study),
        "classes": list(study.plan.data.names),
        "variants": [_variant(study, variant, number, base) for number, variant in enumerate(order)],
        "curves": {"series": series, "values": curves},
    }


def _variant(study: Study, variant: Variant, number: int, base: CostMeasurement | None) -> ReportData:
    from utils.compare.error_figures import file_details  # imports NumPy

    runs = study.runs_of(variant.name)
    done = [run for run in runs if run.state == "done"]
    comparison = study.comparisons.get(variant.name)
    word = "baseline" if variant.baseline else comparison.verdict if comparison else "no verdict"
    measured = study.costs.get(variant.name, variant)  # without a measurement the variant knows two of them
    ratios = study.costs[variant.name].ratios if variant.name in study.costs else {}
    cost = {key: float(getattr(measured, key, 0.0)) or math.nan for key in COSTS}
    scores = [run.last for run in done if run.last]
    direct = study.control_tests.get(variant.name)
    found = [file_details(run.folder / "last.npz") for run in done]
    per_class = [spread([float(s.per_class[c]) for s in scores]) for c in range(len(study.plan.data.names))]
    return {
        "index": number,
        "name": variant.name,
        "cfg": variant.cfg,
        "baseline": variant.baseline,
        "control_of": variant.control_of,
        "reset": bool(variant.reset),
        "start": _start(start_of(study, variant.name)),
        "subtitle": _subtitle(variant),
        "edits": [*variant.edits, *study.plan.other_settings(variant)],
        "word": word,
        "tone": TONES.get(word, "open"),
        "reason": _reason(variant, runs, comparison),
        "seeds": {"done": len(done), "wanted": len(runs)},
        "scores": {m.key: spread([getattr(run.last, m.key) for run in done if run.last]) for m in METRICS},
        "best": {m.key: spread([getattr(run.best, m.key) for run in done if run.best]) for m in METRICS},
        "detection": {m.key: spread([values[m.key] for values in found]) for m in DETECTION},
        "errors": {m.key: spread([values[m.key] for values in found]) for m in ERROR_METRICS},
        "best_epochs": _listed([run.best_epoch for run in done]),
        "class_ap": [c["mean"] for c in per_class],
        "class_sd": [c["sd"] for c in per_class],
        "differences": {m.key: _difference(comparison, m.key) for m in (*METRICS, *ERROR_METRICS)} if comparison else {},
        "direct": {**_difference(direct, HEADLINE), "word": direct.verdict} if direct else {},
        "classes": [i.mean if i else math.nan for i in comparison.classes] if comparison else [],
        "class_intervals": [_ends(i) for i in comparison.classes] if comparison else [],
        "cost": cost,
        "ratio": {k: v / b if base and (b := getattr(base, k)) else math.nan for k, v in cost.items()}
        | {k: r.value for k, r in ratios.items() if not variant.baseline},
        "ratio_ends": {k: [r.low, r.high] for k, r in ratios.items()},
    }


def _listed(epochs: Sequence[int]) -> str:
    """All of them, or of more than three the range, for a narrow column."""
    return ", ".join(map(str, epochs)) if len(epochs) <= 3 else f"{min(epochs)} to {max(epochs)}"


def _subtitle(variant: Variant) -> str:
    """What a control shares with the variant it belongs to."""
    name = variant.control_of
    if not name:
        return ""
    return f"loses the start weights that {name} loses" if variant.reset else f"same capacity as {name}, without its change"


def _start(start: StartingPoint | None) -> ReportData:
    return (
        {"transferred": "", "share": math.nan, "ap": math.nan}
        if start is None
        else {"transferred": f"{start.tensors}/{start.of}", "share": start.share, "ap": start.ap}
    )


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1), number and values; NaN where there are too few."""
    values = [float(v) for v in values if math.isfinite(v)]
    mean = statistics.fmean(values) if values else math.nan
    return {"mean": mean, "sd": statistics.stdev(values) if len(values) > 1 else math.nan, "n": len(values), "values": values}


def _reason(variant: Variant, runs: Sequence[RunResult], comparison: Comparison | None) -> str:
    if comparison and comparison.reason:
        return comparison.reason
    if variant.error:
        return f"it cannot be built: {variant.error}"
    states = [run.state for run in runs if run.state != "done"]
    return f"{len(states)} of {len(runs)} runs are {' or '.join(sorted(set(states)))}" if states else ""


def _difference(comparison: Comparison, key: str) -> ReportData:
    """A difference with its interval, adjusted for the number of variants and of figures of its family."""
    interval = comparison.interval if key == HEADLINE else comparison.figures.get(key)
    out: ReportData = {"mean": comparison.differences.get(key, math.nan), "interval": _ends(interval), "seed_share": math.nan}
    out["p"] = interval.p if interval else math.nan
    if interval and (total := interval.error_seeds**2 + interval.error_images**2):
        out["seed_share"] = interval.error_seeds**2 / total
    if key == HEADLINE:
        visible = comparison.smallest_visible
        out["visible"] = math.nan if visible is None else visible
    return out


def _ends(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval else None


def _band(runs: Sequence[RunResult], key: str) -> ReportData:
    """Mean, minimum and maximum over the seeds, epoch by epoch."""
    columns: dict[int, list[float]] = {}
    for run in runs:
        for row in run.curve:
            if key in row and math.isfinite(row[key]):
                columns.setdefault(int(row["epoch"]), []).append(row[key])
    epochs = sorted(columns)
    figures: dict[str, Callable[[list[float]], float]] = {"mean": statistics.fmean, "low": min, "high": max}
    return {"epoch": epochs, **{name: [round(figure(columns[e]), 6) for e in epochs] for name, figure in figures.items()}}
