"""The table of a study's tuning: how far it moved each arm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from utils.compare.page import sentences as words
from utils.compare.page.escape import html, markdown
from utils.compare.study import StudyPlan

CAPTION = (
    "Before the seeds ran, every arm had the same search: {search}. Trial 0 has the arm's own hyper-parameters. AP on val in points, of "
    "one training each, so the best of them is optimistic; the verdicts rest on the seeds alone, none of which was tuned on."
)
_HEAD = ["Variant", "Trials", "Failed", "AP, own", "AP, tuned", "Moved by", "Best trial", "Hyper-parameters"]


def tuning_data(plan: StudyPlan) -> dict[str, Any]:
    """What tuning found, for results.json."""
    arms = {v.name: {"trial": v.tuned.trial, "values": dict(v.tuned.values), "scores": [*v.tuned.scores]} for v in plan.variants if v.tuned}
    return {"tuning": {"search": str(plan.tuning), "arms": arms}} if plan.tuning else {}


def _rows(plan: StudyPlan, escape: Callable[[object], str]) -> list[list[str]]:
    out = []
    for v in plan.variants:
        if tuned := v.tuned:
            failed = sum(score is None for score in tuned.scores)
            values = ", ".join(f"{name} {value:g}" for name, value in tuned.values.items()) or "its own"
            aps = [words.points(tuned.before), words.points(tuned.after), words.signed(tuned.after - tuned.before)]
            out.append([escape(v.name), str(len(tuned.scores)), str(failed), *aps, str(tuned.trial), escape(values)])
    return out


def markdown_part(plan: StudyPlan) -> str:
    """The table for table.md; "" where nothing was tuned."""
    if not (rows := _rows(plan, markdown)):
        return ""
    head, *body = ["| " + " | ".join(row) + " |" for row in (_HEAD, *rows)]
    table = "\n".join([head, "|" + "---|" * len(_HEAD), *body])
    return f"\n**Tuning**\n\n{table}\n\n{CAPTION.format(search=markdown(plan.tuning))}\n"


def section(plan: StudyPlan) -> str:
    """The section of report.html; "" where nothing was tuned."""
    if not (rows := _rows(plan, html)):
        return ""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in _HEAD)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows)
    return (
        '<section id="tuning" aria-labelledby="tuning-title"><h2 id="tuning-title">Tuning</h2>'
        f'<p class="lead">{CAPTION.format(search=html(plan.tuning))}</p><div class="scroll" role="region" aria-labelledby="tuning-title" '
        f'tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>'
    )
