"""results.csv of a study: one row per run, identical to the byte however often the study was interrupted."""

from __future__ import annotations

import csv
import io
import math

from utils.compare.checksummed_json import write_text
from utils.compare.page.escape import csv_cell
from utils.compare.study import FIGURES, RESULTS, Study


def write_results(study: Study) -> None:
    """Write results.csv: measurements only, no times, notes or paths.

    Raises:
        UserError: it cannot be written, or the matches of a finished run cannot be read.
    """
    from utils.compare.error_figures import DETAILS, file_details  # NumPy

    names = study.plan.data.names
    folds = study.plan.data.folds
    columns = ["variant", "seed", *(["fold"] if folds else []), "control_of", "state", "error", "split", "epochs", "best_epoch"]
    figures = [f"{which}/{figure}" for which in ("last", "best") for figure in FIGURES] + [f"last/{figure}" for figure in DETAILS]
    classes = [csv_cell(f"last/ap/{name}") for name in names]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *figures, *classes])
    for run in study.runs:
        control = study.plan.variant(run.variant).control_of or ""
        error = run.error if run.state in ("failed", "stopped") else ""
        number = divmod(run.seed, folds) if folds else [run.seed]
        cells = [csv_cell(run.variant), *number, csv_cell(control), run.state, csv_cell(error), run.split]
        cells += [run.epochs, run.best_epoch] if run.state == "done" else ["", ""]
        overall = [_number(getattr(scores, figure)) if scores else "" for scores in (run.last, run.best) for figure in FIGURES]
        details = file_details(run.folder / "last.npz") if run.state == "done" else {}
        overall += [_number(details.get(figure, math.nan)) for figure in DETAILS]
        per_class = [_number(float(ap)) for ap in run.last.per_class] if run.last else [""] * len(names)
        writer.writerow([*cells, *overall, *per_class])
    write_text(study.folder / RESULTS, text.getvalue())


def _number(value: float) -> str:
    """The shortest text that reads back as the same number; empty for NaN."""
    return "" if math.isnan(value) else repr(float(value))
