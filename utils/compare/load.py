"""Reading a study folder, or several studies as one.

from utils.compare import load_study
study = load_study("runs/compare/study")
pandas.DataFrame(study.records())
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from utils.compare.costs import read_costs
from utils.compare.plan_io import read_plan
from utils.compare.stopping import read_runs
from utils.compare.study import COMPARISONS, Study
from utils.compare.verdicts import read_comparisons


def load_study(folder: str | Path | Sequence[str | Path]) -> Study:
    """Read a study folder, finished or not; or several studies of one protocol as one, whose arms are compared anew.

    Raises:
        UserError: a folder holds no study, its plan cannot be read, or several studies do not fit together.
    """
    if not isinstance(folder, str | Path):
        from utils.compare.together import together  # imports torch

        return together([load_study(one) for one in folder])
    folder = Path(folder)
    plan = read_plan(folder)
    runs = read_runs(folder, plan)
    names = {v.name for v in plan.variants}  # a study that was reduced keeps the costs of the others
    costs = read_costs(folder, names)
    return Study(folder=folder, plan=plan, runs=runs, costs=costs, **read_comparisons(folder / COMPARISONS, plan, runs))
