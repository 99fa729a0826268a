"""The sentences of a report, all derived from the verdicts and intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from utils.compare.page.report_data import ReportData
from utils.log import abbreviated

NOTHING = "–"


def points(value: float | None, digits: int = 2) -> str:
    """AP in points (0 to 100)."""
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """A difference in AP in points, with sign."""
    return NOTHING if value is None or math.isnan(value) else ("+" if 100 * value > 0 else "") + points(value, digits)


def ends(pair: Sequence[float] | None, digits: int = 2) -> str:
    """An interval: ``+0.10 to +1.32``."""
    return NOTHING if pair is None or any(map(math.isnan, pair)) else f"{signed(pair[0], digits)} to {signed(pair[1], digits)}"


def spread(values: ReportData) -> str:
    """A mean over the seeds with its standard deviation, in points."""
    if math.isnan(values["mean"]):
        return NOTHING
    return points(values["mean"]) + ("" if math.isnan(values["sd"]) else f" ± {points(values['sd'])}")


def pipes(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    rule = "|" + "---|" + "--:|" * (len(rows[0]) - 1)
    return "\n".join([head, rule, *body])


def p_value(p: float | None) -> str:
    """A p-value."""
    return NOTHING if p is None or math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def headline(data: ReportData) -> str:
    """The main result of the study in one sentence of plain text."""
    variants = [v for v in data["variants"] if not v["baseline"] and not v["control_of"]]
    base, total = data["baseline"], len(variants)
    words = ("better", "worse", "not distinguishable", "no verdict")
    better, worse, alike, undecided = ([v for v in variants if v["word"] == word] for word in words)
    if len(undecided) == total:
        several = "either variant" if total == 2 else f"any of the {_number(total)} variants"
        return f"No verdict on {variants[0]['name'] if total == 1 else several}"
    if len(better) == 1:
        start = f"{better[0]['name']} is better than {base} by {points(better[0]['differences']['ap']['mean'])} AP"
    elif better:
        start = f"{_subject(better, total)} are better than {base}"
    elif len(alike) == total > 1:
        start = f"{'Neither variant' if total == 2 else f'None of the {_number(total)} variants'} is distinguishable from {base}"
    elif alike:
        start = f"{_subject(alike, total)} {_is(alike)} not distinguishable from {base}"
    else:
        start, worse = f"{_subject(worse, total)} {_is(worse)} worse than {base}", []
    tail = [f"{_number(len(worse))} {_is(worse)} worse"] if worse else []
    tail += [f"no verdict on {_number(len(undecided))}"] if undecided else []
    return "; ".join([start, *tail])


def _subject(rows: Sequence[ReportData], total: int) -> str:
    if len(rows) == 1:
        return str(rows[0]["name"])
    if len(rows) == total == 2:
        return "Both variants"
    return f"All {_number(total)} variants" if len(rows) == total else f"{_number(len(rows)).capitalize()} of {_number(total)} variants"


def _is(rows: Sequence[ReportData]) -> str:
    return "is" if len(rows) == 1 else "are"


def _number(count: int) -> str:
    """A small number as a word."""
    few = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return few[count] if count < len(few) else str(count)


def finding(variant: ReportData, data: ReportData) -> str:
    """The result of one variant, in a few sentences of plain text."""
    gap = variant["differences"].get("ap", {})
    sentences = []
    if gap and not math.isnan(gap["mean"]):
        sentences.append(f"{signed(gap['mean'])} AP.")
    if reason := variant["reason"].strip():
        sentences.append(reason[:1].upper() + reason[1:] + ("" if reason.endswith((".", "!", "?")) else "."))
    sentences += [_control(variant, v) for v in data["variants"] if v["control_of"] == variant["name"]]
    return " ".join(sentences)


def cost_ratios(variant: ReportData) -> str:
    """The cost of a variant, as ratios to the baseline."""
    named = (("parameters", "parameters"), ("gflops", "GFLOPs"), ("latency_ms", "latency"), ("train_seconds", "training time"))
    known = [(key, name) for key, name in named if not math.isnan(variant["ratio"][key])]
    return " · ".join(f"{name} × {variant['ratio'][key]:.2f}{ratio_ends(variant, key)}" for key, name in known)


def ratio_ends(variant: ReportData, key: str) -> str:
    """The 95 % CI of a measured ratio, in brackets."""
    low, high = variant["ratio_ends"].get(key, (math.nan, math.nan))
    return "" if math.isnan(low) else f" ({low:.2f} to {high:.2f})"


def second_copy(data: ReportData) -> str:
    """What measuring a second copy of the baseline gave (A/A): ratios no further from 1 than these say nothing."""
    ends = next(v for v in data["variants"] if v["baseline"])["ratio_ends"]
    named = (("latency_ms", "latency"), ("images_per_second", "FPS"), ("train_seconds", "training time"))
    parts = [f"{name} × {ends[key][0]:.2f} to {ends[key][1]:.2f}" for key, name in named if key in ends]
    return f" The baseline against a second copy of itself (A/A): {', '.join(parts)}." if parts else ""


def _control(variant: ReportData, control: ReportData) -> str:
    direct = control["direct"]
    if not direct or direct["word"] == "no verdict" or variant["word"] == "no verdict":
        return ""
    kind = "the baseline without the same start weights" if control["reset"] else "the baseline with equal capacity"
    end = "."
    if direct["word"] == "not distinguishable" and variant["word"] == ("worse" if control["reset"] else "better"):
        loss = ": the loss may come from the start weights that it loses, not from the change."
        end = loss if control["reset"] else ": the gain may come from capacity, not from the change."
    difference = f"{signed(direct['mean'])} AP ({ends(direct['interval'])})"
    return f"Against its control {control['name']}, {kind}: {difference}, {direct['word']}{end}"


def notes(data: ReportData, runs: Sequence[Any], overlap: int) -> list[str]:
    """The limitations of a study: which look it is, images trained on, failed and missing runs, and notes on finished ones."""
    out = [f"This is {data['look']}."] if data["look"] else []
    if overlap:
        out.append(f"{overlap} of the measured images are also trained on, so no gain can be claimed.")
    out += data["warnings"]
    by_note: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        state = {"done": "", "stopped": "", "failed": "failed"}.get(run.state, "not finished")  # the error of a stopped run says so
        for text in filter(None, (": ".join(filter(None, (state, run.error))), *run.notes)):
            by_note.setdefault((run.variant, text), []).append(str(run.seed))
    out += [f"{name}, seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}: {text}" for (name, text), seeds in by_note.items()]
    without = [v["name"] for v in data["variants"] if math.isnan(v["cost"]["latency_ms"])]
    if without:
        out.append(f"Costs were not measured{'' if len(without) == len(data['variants']) else f' of {abbreviated(without)}'}.")
    return out


def legend(data: ReportData) -> str:
    """The legend of the table."""
    effects = [v["differences"]["ap"]["visible"] for v in data["variants"] if v["differences"]]
    known = [e for e in effects if not math.isnan(e)] or [0.0]
    sizes = dict.fromkeys([points(min(known)), points(max(known))])
    effect = f" The minimum detectable effect of this study is {' to '.join(sizes)} AP." if max(known) >= 0.0001 else ""
    return (
        "The verdict is based on the 95 % CI of AP alone: it is for other seeds and other images together and adjusted for the number "
        "of variants, as is p. AP50 and AP75, the sizes, the classes and the types of error are a family each, whose intervals "
        "hold together. "
        "× is the ratio to the baseline. Best epoch: optimistic if the epoch was selected on the "
        f"measured images.{effect}{second_copy(data)}"
    )
