"""The rows of other programs' predictions: below the variants in table.md and table.tex, and a section of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from utils.compare.page import sentences as words
from utils.compare.page.escape import html, latex, markdown
from utils.compare.page.sections import chip

if TYPE_CHECKING:
    from utils.compare.resampled_ap import Scores
    from utils.compare.study import Study

MARK = "†"
CAPTION = (
    "Predictions of other programs for the same images, not trained here: one set of detections each, whose 95 % CI against {baseline} has "
    "the noise of the images and of the baseline's seeds only, not that of their own training. They are adjusted for among themselves."
)
_HEAD = ["Predictions", "AP", "AP50", "AP75", "AP S", "AP M", "AP L", "Difference", "95 % CI", "p", "Verdict"]
_KEYS = ("ap", "ap50", "ap75", "small", "medium", "large")


def _scores(study: Study, name: str) -> Scores:
    from utils.compare.match_store import StoredMatches
    from utils.compare.others import matches_file
    from utils.compare.resampled_ap import average_precision

    return average_precision(StoredMatches.load(matches_file(study.folder, name)))


def others_data(study: Study) -> dict[str, Any]:
    """The arms of predictions, for results.json."""
    found = {}
    for name, c in study.others.items():
        scores, i = _scores(study, name), c.interval
        ends = {"interval": [i.low, i.high], "p": i.p} if i else {"interval": None}
        figures = {key: getattr(scores, key) for key in _KEYS}
        found[name] = {**figures, "difference": c.difference, **ends, "verdict": c.verdict, "reason": c.reason, "noise": "images only"}
    return {"predictions": found} if found else {}


def _rows(study: Study) -> list[list[str]]:
    rows = []
    for name, c in study.others.items():
        scores, i = _scores(study, name), c.interval
        interval = (words.ends((i.low, i.high)), words.p_value(i.p)) if i else (words.NOTHING, words.NOTHING)
        rows.append([name, *(words.points(getattr(scores, key)) for key in _KEYS), words.signed(c.difference), *interval, c.verdict])
    return rows


def markdown_part(study: Study) -> str:
    """The table for table.md; "" without predictions."""
    rows = [[f"{markdown(row[0])} {MARK}", *row[1:]] for row in _rows(study)]
    caption = CAPTION.format(baseline=markdown(study.plan.baseline.name))
    return f"\n{words.pipes([_HEAD, *rows])}\n\n{MARK} {caption}\n" if rows else ""


def latex_part(study: Study) -> str:
    """A table for table.tex; "" without predictions."""
    if not (rows := _rows(study)):
        return ""
    signs = {"\u2212": "$-$", "\u2013": "--", "%": r"\%"}
    cells = ([f"{latex(row[0])}$^\\dagger$", *("".join(signs.get(c, c) for c in cell) for cell in row[1:])] for row in rows)
    head = " & ".join(_HEAD).replace("%", r"\,\%")
    body = "\n".join(f"    {' & '.join(row)} \\\\" for row in cells)
    caption = latex(CAPTION.format(baseline=study.plan.baseline.name))
    return (
        "\n\\begin{table*}[t]\n  \\centering\n"
        f"  \\caption{{$^\\dagger${caption}}}\n  \\begin{{tabular}}{{l{'r' * (len(_HEAD) - 1)}}}\n"
        f"    \\toprule\n    {head} \\\\\n    \\midrule\n{body}\n    \\bottomrule\n  \\end{{tabular}}\n\\end{{table*}}\n"
    )


def section(study: Study) -> str:
    """The section of report.html; "" without predictions."""
    if not (rows := _rows(study)):
        return ""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in _HEAD)
    values = ("".join(f"<td>{cell}</td>" for cell in (*row[1:-1], chip(row[-1]))) for row in rows)
    cells = (f'<tr><th scope="row">{html(row[0])} {MARK}</th>{value}</tr>' for row, value in zip(rows, values, strict=True))
    return (
        '<section id="others" aria-labelledby="others-title"><h2 id="others-title">Predictions of others</h2>'
        f'<p class="lead">{MARK} {html(CAPTION.format(baseline=study.plan.baseline.name))}</p><div class="scroll" role="region" '
        'aria-labelledby="others-title" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table></div></section>"
    )
