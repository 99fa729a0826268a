"""The factors of a study and its pairs of arms: the grid with tick marks that papers print, and tables of effects and of pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from utils.compare.factors import cells
from utils.compare.page import sentences as words
from utils.compare.page.escape import html, latex, markdown
from utils.compare.page.report_data import ReportData
from utils.compare.page.sections import chip

if TYPE_CHECKING:
    from utils.compare.intervals import Interval
    from utils.compare.study import Study

Table = list[list[str]]
EFFECTS = (
    "A main effect is the mean difference that a factor makes, with and without the other factors; an interaction is the difference that "
    "one makes with the other less that without it, 0 if their effects add up. The 95 % CIs are for seeds and images together and "
    "simultaneous over all effects."
)
PAIRS = (
    "The 95 % CIs are for seeds and images together and adjusted for all {count} pairs, so they are wider than those against the baseline."
)


def effect_data(study: Study) -> ReportData:
    """Effects and pairs as plain data, for results.json."""
    effects = [{"factors": [*e.factors], **_numbers(e.interval), "verdict": e.verdict, "reason": e.reason} for e in study.effects]
    pairs = [
        {"variant": c.name, "against": c.baseline, **_numbers(c.interval), "verdict": c.verdict, "reason": c.reason} for c in study.pairs
    ]
    return {"effects": effects, "pairs": pairs}


def _numbers(interval: Interval | None) -> ReportData:
    return {"mean": interval.mean, "interval": [interval.low, interval.high], "p": interval.p} if interval else {"interval": None}


def _grid(study: Study, data: ReportData, escape: Callable[[object], str], tick: str) -> Table:
    by_name, factors = {v["name"]: v for v in data["variants"]}, study.plan.factors
    rows = [[*map(escape, factors), "AP", "AP50", "AP75", "Difference", "95 % CI", "Parameters", "GFLOPs"]]
    for present, name in cells(factors, data["baseline"]).items():
        v = by_name[name]
        gap, cost = v["differences"].get("ap", {}), v["cost"]
        scores = [_spread(v["scores"][key]) for key in ("ap", "ap50", "ap75")]
        costs = [
            words.NOTHING if math.isnan(n) else f"{n:.2f}{unit}" for n, unit in ((cost["parameters"] * 1e-6, " M"), (cost["gflops"], ""))
        ]
        rows.append(
            [
                *(tick if f in present else "" for f in factors),
                *scores,
                words.signed(gap.get("mean")),
                words.ends(gap.get("interval")),
                *costs,
            ]
        )
    return rows


def _spread(values: ReportData) -> str:
    return words.points(values["mean"]) + ("" if math.isnan(values["sd"]) else f" ± {words.points(values['sd'])}")


def _effects(study: Study, escape: Callable[[object], str]) -> Table:
    rows = [(" × ".join(map(escape, e.factors)), e.interval, e.verdict) for e in study.effects]
    return [["Effect", "Difference", "95 % CI", "p", "Verdict"], *(_row(*row) for row in rows)]


def _pairs(study: Study, escape: Callable[[object], str]) -> Table:
    rows = [(f"{escape(c.name)} against {escape(c.baseline)}", c.interval, c.verdict) for c in study.pairs]
    return [["Pair", "Difference", "95 % CI", "p", "Verdict"], *(_row(*row) for row in rows)]


def _row(name: str, interval: Interval | None, verdict: str) -> list[str]:
    i = interval
    return [name, *((words.signed(i.mean), words.ends((i.low, i.high)), words.p_value(i.p)) if i else [words.NOTHING] * 3), verdict]


def markdown_parts(study: Study, data: ReportData) -> str:
    """The sections for table.md; empty without factors and pairs."""
    parts = []
    if study.effects:
        parts += ["**Factors**", _pipes(_grid(study, data, markdown, "✓")), _pipes(_effects(study, markdown)), EFFECTS]
    if study.pairs:
        parts += ["**Pairs**", _pipes(_pairs(study, markdown)), PAIRS.format(count=len(study.pairs))]
    return "".join(f"\n{part}\n" for part in parts)


def _pipes(rows: Table) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def latex_parts(study: Study, data: ReportData) -> str:
    """The tables for table.tex; empty without factors and pairs."""
    out = ""
    if study.effects:
        grid = _grid(study, data, latex, r"\checkmark")
        out += _table(grid, "c" * len(study.plan.factors), EFFECTS, "factors", study)
        out += _table(_effects(study, latex), "l", EFFECTS, "effects", study)
    if study.pairs:
        out += _table(_pairs(study, latex), "l", PAIRS.format(count=len(study.pairs)), "pairs", study)
    return out


def _table(rows: Table, left: str, caption: str, kind: str, study: Study) -> str:
    label = "".join(c if c.isascii() and c.isalnum() else "-" for c in study.plan.name)
    signs = {"±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--", "<": "$<$"}
    plain = ["".join(signs.get(c, c) for c in " & ".join(row)) for row in rows]
    head, *body = (f"    {row} \\\\" for row in (plain[0].replace(" % CI", r"\,\% CI"), *plain[1:]))
    lines = [
        "",
        r"% Needs \usepackage{amssymb} for \checkmark.",
        r"\begin{table*}[t]",
        r"  \centering",
        f"  \\caption{{{latex(caption)}}}",
        f"  \\label{{tab:{label}-{kind}}}",
        r"  \begin{tabular}{" + left + "r" * (len(rows[0]) - len(left)) + "}",
        r"    \toprule",
        head,
        r"    \midrule",
        *body,
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def links(study: Study) -> list[tuple[str, str]]:
    """The anchors of the sections that the page has, and their names."""
    return [*([("factors", "Factors")] if study.effects else []), *([("pairs", "Pairs")] if study.pairs else [])]


def html_parts(study: Study, data: ReportData) -> str:
    """The sections of the page; empty without factors and pairs."""
    out = ""
    if study.effects:
        grid = _html(_grid(study, data, html, "✓"), "factors-title", len(study.plan.factors))
        effects = _html(_effects(study, html), "factors-title")
        out += _section("factors", "Factors", EFFECTS, f"{grid}<h3>Effects</h3>\n{effects}")
    if study.pairs:
        text = PAIRS.format(count=len(study.pairs))
        out += _section("pairs", "Variants against each other", text, _html(_pairs(study, html), "pairs-title"))
    return out


def _section(key: str, title: str, text: str, tables: str) -> str:
    head = f'<h2 id="{key}-title">{title}</h2>\n<p class="lead">{text}</p>'
    return f'<section id="{key}" aria-labelledby="{key}-title">\n{head}\n{tables}</section>\n'


def _html(rows: Table, title: str, factors: int = 0) -> str:
    """A table; its first columns are the tick marks of `factors`, else its first column names the rows and its last one is the verdict."""
    head, *body = rows
    kinds = [' class="factor"'] * factors + [""] * (len(head) - factors)
    lines = []
    for row in body:
        cells = [f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)]
        if not factors:
            cells[0], cells[-1] = f'<th scope="row">{row[0]}</th>', f"<td>{chip(row[-1])}</td>"
        lines.append(f"<tr>{''.join(cells)}</tr>")
    first = "".join(f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, head, strict=True))
    table = f"<table><thead><tr>{first}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll" role="region" aria-labelledby="{title}" tabindex="0">{table}</div>\n'
