"""results.csv of a study: a row a run, byte for byte the same whatever interruptions the study went through."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

from utils.compare.checksummed_json import write_text
from utils.compare.page.escape import csv_cell
from utils.compare.study import FIGURES, RESULTS, RunResult, Study

if TYPE_CHECKING:
    from utils.compare.resampled_ap import Scores


def write_results(study: Study) -> None:
    """Write results.csv: what was measured, and no times, notes or paths.

    Raises:
        UserError: it cannot be written.
    """
    names = study.plan.data.names
    columns = ["variant", "seed", "control_of", "state", "error", "split", "epochs", "best_epoch"]
    figures = [f"{which}/{figure}" for which in ("last", "best") for figure in FIGURES]
    classes = [csv_cell(f"last/ap/{name}") for name in names]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *figures, *classes])
    for run in study.runs:
        control = study.plan.variant(run.variant).control_of or ""
        cells = [csv_cell(run.variant), run.seed, csv_cell(control), run.state, csv_cell(_reason(run)), run.split]
        cells += [run.epochs, run.best_epoch] if run.state == "done" else ["", ""]
        overall = [_number(getattr(scores, figure)) if scores else "" for scores in (run.last, run.best) for figure in FIGURES]
        writer.writerow([*cells, *overall, *_per_class(run.last, len(names))])
    write_text(study.folder / RESULTS, text.getvalue())


def _reason(run: RunResult) -> str:
    return run.error if run.state == "failed" else ""


def _per_class(scores: Scores | None, nc: int) -> list[str]:
    return [_number(float(v)) for v in scores.per_class] if scores else [""] * nc


def _number(value: float) -> str:
    """As many digits as tell one value from another; nothing for NaN."""
    return "" if math.isnan(value) else repr(float(value))
