"""Reading a study folder.

from utils.compare import load_study
study = load_study("runs/compare/study")
pandas.DataFrame(study.records())
"""

from __future__ import annotations

from pathlib import Path

from utils.compare.costs import read_costs
from utils.compare.plan_io import read_plan
from utils.compare.run_result import read_run_result
from utils.compare.study import COMPARISONS, Study
from utils.compare.verdicts import read_comparisons


def load_study(folder: str | Path) -> Study:
    """Read a study folder, finished or not.

    Raises:
        UserError: the folder holds no study, or its plan cannot be read.
    """
    folder = Path(folder)
    plan = read_plan(folder)
    runs = tuple(read_run_result(folder, v.name, seed) for v in plan.variants for seed in plan.seeds)
    names = {v.name for v in plan.variants}  # a study that was reduced keeps the costs of the others
    costs = read_costs(folder, names)
    return Study(folder=folder, plan=plan, runs=runs, costs=costs, **read_comparisons(folder / COMPARISONS, plan, runs))
