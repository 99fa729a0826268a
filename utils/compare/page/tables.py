"""The table of a study for a README (Markdown) and for a paper (LaTeX, booktabs)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.compare.page import sentences as words
from utils.compare.page.escape import latex, markdown
from utils.compare.page.report_data import DETECTION, METRICS, ReportData

if TYPE_CHECKING:
    from utils.compare.study import Study

Row = list[str]


def markdown_table(study: Study, data: ReportData) -> str:
    """The headline, a table of the main metric, a table of all metrics, and notes."""
    variants = data["variants"]
    main = [
        ["Variant", "AP", "Difference", "95 % CI", "p", "Verdict", "Parameters", "GFLOPs", "Latency", "FPS"],
        *(_main(v, markdown) for v in variants),
    ]
    every = [
        ["Variant", *(m.label for m in (*METRICS, *DETECTION)), "AP, best epoch", "AP at the start", "Tensors transferred"],
        *(_every(v) for v in variants),
    ]
    notes = [f"- {markdown(note)}" for note in words.notes(data, study.runs, study.plan.data.overlap)]
    parts = [
        f"**{markdown(words.headline(data))}.**",
        words.pipes(main),
        words.pipes(every),
        f"{_caption(study, data, markdown)} {words.legend(data)}",
        *(["\n".join(notes)] if notes else []),
    ]
    return "\n\n".join(parts) + "\n"


def _every(v: ReportData) -> Row:
    figures = [*(v["scores"][m.key] for m in METRICS), *(v["detection"][m.key] for m in DETECTION), v["best"]["ap"]]
    start = v["start"]
    return [markdown(v["name"]), *map(words.spread, figures), words.points(start["ap"]), start["transferred"] or words.NOTHING]


def _main(v: ReportData, escape: Callable[[object], str]) -> Row:
    gap = v["differences"].get("ap", {})
    return [
        escape(v["name"]),
        words.spread(v["scores"]["ap"]),
        words.signed(gap.get("mean")),
        words.ends(gap.get("interval")),
        words.p_value(gap.get("p")),
        v["word"],
        _cost(v, "parameters", 1e-6, "{:.2f} M"),
        _cost(v, "gflops", 1, "{:.2f}"),
        _cost(v, "latency_ms", 1, "{:.1f} ms"),
        _cost(v, "images_per_second", 1, "{:.1f}"),
    ]


def _cost(v: ReportData, key: str, factor: float, form: str) -> str:
    value, ratio = v["cost"][key], v["ratio"][key]
    if math.isnan(value):
        return words.NOTHING
    return form.format(value * factor) + ("" if v["baseline"] or math.isnan(ratio) else f" (× {ratio:.2f})")


def latex_table(study: Study, data: ReportData) -> str:
    r"""The table for ``booktabs``: P, R, F1, AP, AP50, AP75, difference with its interval and marks, parameters, GFLOPs, latency, FPS."""
    scores = ["P", "R", "F1", "AP", r"AP\textsubscript{50}", r"AP\textsubscript{75}"]
    differences = [r"$\Delta$AP", r"95\,\% CI"]
    head = ["Variant", *scores, *differences, "Params (M)", "GFLOPs", "Latency (ms)", "FPS"]
    label = "".join(c if c.isascii() and c.isalnum() else "-" for c in study.plan.name)
    lines = [
        "% Made by compare.py. Needs \\usepackage{booktabs} and \\usepackage{graphicx}.",
        r"\begin{table*}[t]",
        r"  \centering",
        f"  \\caption{{{_caption(study, data, latex)} {_MARKS}}}",
        f"  \\label{{tab:{label}}}",
        r"  \resizebox{\textwidth}{!}{%",
        r"  \begin{tabular}{l" + "r" * (len(head) - 1) + "}",
        r"    \toprule",
        "    " + " & ".join(head) + r" \\",
        r"    \midrule",
        *("    " + " & ".join(_latex_row(v)) + r" \\" for v in data["variants"]),
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


_MARKS = (
    r"Mean $\pm$ standard deviation over seeds. $\Delta$AP: mean of the paired differences. "
    r"$^{*}$\,$p<0.05$, $^{**}$\,$p<0.01$, $^{***}$\,$p<0.001$ for seeds and images together, adjusted for the number of variants; "
    r"$\uparrow$ better, $\downarrow$ worse, unmarked: not distinguishable, $\circ$ no verdict."
)
_ARROWS = {"better": r"\uparrow", "worse": r"\downarrow", "no verdict": r"\circ"}


def _latex_row(v: ReportData) -> Row:
    gap = v["differences"].get("ap", {})
    scores = [_math(values) for values in (*v["detection"].values(), *(v["scores"][key] for key in ("ap", "ap50", "ap75")))]
    digits = {"gflops": 2, "latency_ms": 1, "images_per_second": 1}
    costs = [_number(v["cost"]["parameters"] * 1e-6, 2), *(_number(v["cost"][key], n) for key, n in digits.items())]
    return [latex(v["name"]), *scores, _gain(v, gap), _pair(gap.get("interval")), *costs]


def _gain(v: ReportData, gap: ReportData) -> str:
    mean, p = gap.get("mean", math.nan), gap.get("p", math.nan)
    if math.isnan(mean):
        return "--" if v["baseline"] else rf"${_ARROWS.get(v['word'], '')}$"
    stars = "" if math.isnan(p) or v["word"] == "no verdict" else "*" * sum(p < limit for limit in (0.05, 0.01, 0.001))
    mark = "".join([stars, _ARROWS.get(v["word"], "")])
    return f"${_signed(mean)}" + (f"^{{{mark}}}$" if mark else "$")


def _signed(value: float) -> str:
    return f"{100 * value:+.2f}"


def _pair(pair: Sequence[float] | None) -> str:
    return "--" if pair is None or any(map(math.isnan, pair)) else f"$[{_signed(pair[0])}, {_signed(pair[1])}]$"


def _math(values: ReportData) -> str:
    if math.isnan(values["mean"]):
        return "--"
    return f"${100 * values['mean']:.2f}" + ("$" if math.isnan(values["sd"]) else f" \\pm {100 * values['sd']:.2f}$")


def _number(value: float, digits: int) -> str:
    return "--" if math.isnan(value) else f"{value:.{digits}f}"


def _caption(study: Study, data: ReportData, escape: Callable[[object], str]) -> str:
    plan = study.plan
    split = plan.data.splits.get(data["measured"])
    seeds = ", ".join(map(str, plan.seeds))
    epochs = f"{plan.flags['epochs']} epochs" if "epochs" in plan.flags else "epochs as planned"
    images = f" ({split.images} images of {data['measured']})" if split else ""
    where = f"Variants of {data['baseline']} on {Path(plan.data.source).name}{images}"
    arms = "".join(f" {v.name}: {'; '.join(own)}." for v in plan.variants if (own := plan.other_settings(v)))
    return escape(
        f"{where}: seeds {seeds}; {epochs}; figures of the last epoch, in points (0 to 100); "
        f"P, R and F1 at IoU 0.5 and the confidence of the best mean F1.{arms}"
    )
