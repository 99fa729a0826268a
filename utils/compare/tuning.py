"""Tuning the arms of a study before its seeds run: each by the same number of trials in the same space, measured on val.

The trials of an arm are a study of their own, tuning/ARM in the study folder, whose variants are the arm with other hyper-parameters. So
they are trained, killed, resumed and distributed as all runs are.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from utils.compare.executors import Task
from utils.compare.plan_io import read_plan, write_plan
from utils.compare.run_result import read_run_result
from utils.compare.study import PLAN, RunResult, StudyPlan, Variant
from utils.compare.tuning_plan import Tuned, TuningPlan
from utils.config import Hyp
from utils.errors import UserError
from utils.files.run_folders import refuse_links
from utils.log import LOG
from utils.training.search import Trial, best_trial, check_search, own_values, propose
from utils.training.search_space import SearchConfig, Space, read_space

SEED = 1_000_003
"""Of all trials, and of the search: none that a study is likely to report."""
_BASE = "baseline"

CarryOut = Callable[[Sequence[Task], int], dict[Task, str]]
"""Carries out tasks, given how many of them are done already; returns those that could not be finished, and why."""


class TrialTask(Task):
    """A trial of an arm."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self.study.name}, {self.variant}"


def tuning_plan(config: SearchConfig) -> TuningPlan | None:
    """What ``--tune``, ``--search`` and ``--space`` ask for.

    Raises:
        UserError: the library of the search is missing.
    """
    if not config.tune:
        return None
    check_search(config.search)
    return TuningPlan(trials=config.tune, search=config.search, space=tuple(f"{k}={b}" for k, b in read_space(config.space).items()))


def tune_arms(folder: Path, plan: StudyPlan, carry_out: CarryOut) -> StudyPlan:
    """Carry out the trials that are left, and return the plan with the tuned arms, which is saved.

    Raises:
        UserError: trials that could not be finished; repeating the command continues with the same trials.
    """
    tuning = plan.tuning
    arms = [v for v in plan.variants if tuning and not v.error and v.tuned is None]
    if tuning is None or not arms:
        return plan
    check_search(tuning.search)
    refuse_links(folder)
    LOG.info("tuning %d arms with %d trials each, measured on val: %s", len(arms), tuning.trials, ", ".join(tuning.space))
    searches = [_Search(folder, plan, tuning, arm) for arm in arms]
    while tasks := [task for search in searches for task in search.next_tasks()]:
        done = sum(len(search.trials) for search in searches) - len(tasks)
        if unfinished := carry_out(tasks, done):
            reasons = "".join(f"\n  {task}: {why}" for task, why in unfinished.items())
            raise UserError(f"{folder}: {len(unfinished)} trials are not finished; repeat the command to try again:{reasons}")
    found = {search.arm.name: search.conclude() for search in searches}
    plan = dataclasses.replace(plan, variants=tuple(dataclasses.replace(v, tuned=found.get(v.name, v.tuned)) for v in plan.variants))
    write_plan(folder, plan)
    return plan


class _Search:
    """The trials of an arm.

    Attributes:
        trials: the arm with the hyper-parameters of each trial so far; the first has its own.
    """

    def __init__(self, folder: Path, plan: StudyPlan, tuning: TuningPlan, arm: Variant) -> None:
        self._folder, self._plan, self._tuning, self.arm = folder / "tuning" / arm.name, plan, tuning, arm
        self._space: Space = read_space(tuning.space)
        self._own = own_values(self._space, Hyp(**plan.of(arm).hyp))  # type: ignore[arg-type]
        self.trials: list[Variant] = []
        # of a plan that is there only the values count: everything else is the study's, which was checked against the command line
        known = read_plan(self._folder).variants[1:] if (self._folder / PLAN).is_file() else ()
        for before in known[: tuning.trials]:
            self._add({name: float(value) for name in self._space if isinstance(value := before.hyp.get(name), float | int)})

    def _add(self, values: dict[str, float]) -> None:
        number = len(self.trials)
        trial = dataclasses.replace(self.arm, name=f"trial{number}", baseline=False, hyp={**self.arm.hyp, **self._own, **values})
        self.trials.append(trial)

    def next_tasks(self) -> list[Task]:
        """The trials to carry out next, those that are left of the earlier ones first; none when all are done."""
        if not (left := self._left()) and len(self.trials) < self._tuning.trials:
            more = self._tuning.trials - len(self.trials) if self._tuning.search == "random" else 1  # the others learn from results
            for _ in range(more):
                tried = [{name: float(trial.hyp[name] or 0) for name in self._space} for trial in self.trials]
                before = [Trial(values, score) for values, score in zip(tried, self._scores(), strict=True)]
                self._add(propose(self._tuning.search, self._space, before, SEED) if before else {})
            left = self._left()
        if left:
            data = dataclasses.replace(self._plan.data, measured="val", group="", groups=())
            base = dataclasses.replace(self._plan.baseline, name=_BASE)
            changes = {
                "seeds": (SEED,),
                "planned": 1,
                "looks": (),
                "control": (),
                "factors": (),
                "pairs": (),
                "tuning": None,
                "stop_hopeless": 0.0,
            }
            plan = dataclasses.replace(self._plan, variants=(base, *self.trials), data=data, **changes)  # type: ignore[arg-type]
            write_plan(self._folder, plan)
        return [TrialTask(self._folder, t.name, SEED) for t in left]

    def _results(self) -> list[RunResult]:
        return [read_run_result(self._folder, trial.name, SEED) for trial in self.trials]

    def _left(self) -> list[Variant]:
        return [trial for trial, run in zip(self.trials, self._results(), strict=True) if run.state == "missing"]

    def _scores(self) -> list[float]:
        return [run.last.ap if run.last else math.nan for run in self._results()]

    def conclude(self) -> Tuned:
        """Choose the best trial, and remove the weights of all."""
        scores = self._scores()
        best = best_trial(scores)
        if math.isnan(scores[best]):
            LOG.warning("%s: all %d trials failed; its own hyper-parameters are kept", self.arm.name, len(scores))
        for run in self._results():
            shutil.rmtree(run.folder / "weights", ignore_errors=True)
        values = {name: float(self.trials[best].hyp[name] or 0) for name in self._space} if best else {}
        return Tuned(values=values, trial=best, scores=tuple(None if math.isnan(score) else score for score in scores))
