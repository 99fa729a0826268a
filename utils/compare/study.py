"""A study: the plan, the results of its runs, the costs of its variants, and their comparisons with the baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.compare.data_plan import DataPlan
from utils.compare.prediction import Prediction
from utils.compare.tuning_plan import Tuned, TuningPlan
from utils.errors import UserError

if TYPE_CHECKING:
    from utils.compare.costs import CostMeasurement
    from utils.compare.effects import Effect
    from utils.compare.looks import Look
    from utils.compare.match_store import StoredMatches
    from utils.compare.resampled_ap import Scores
    from utils.compare.statistics import Comparison

PLAN, COMPARISONS, RESULTS = "study.yaml", "comparisons.json", "results.csv"
"""Files of a study folder."""
FIGURES = ("ap", "ap50", "ap75", "small", "medium", "large")
"""The overall figures of `Scores`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """An arm of the study: a model, and the settings in which it differs from the study's.

    Attributes:
        name: unique in the study; the name of its folder.
        cfg: the model YAML as given.
        baseline: whether the others are compared with it.
        control_of: the variant that this changed baseline is a control of, or None: it has the variant's capacity, or with `reset` loses
            the same start weights.
        reset: names of the tensors of the start weights that a reset control does not take.
        edits: what it changes against its base, one line each.
        parameters: their number, for the classes of the dataset; 0 where it cannot be built.
        gflops: for one image of the study's size.
        spec: the resolved model, as `models.spec.model_spec.ModelSpec.from_dict` reads it; in the study folder it is
            models/NAME.yaml. Empty where it cannot be built, or where that file is damaged.
        digest: SHA-256 of `spec`.
        error: why it cannot be built, or "".
        hyp, flags: its own hyper-parameters and flags of train.py, in the place of the study's.
        weights: its own start weights, "" for none; None takes the study's.
        weights_digest: SHA-256 of that file.
        tuned: what tuning found, which takes precedence over `hyp`; None before it.
    """

    name: str
    cfg: str
    baseline: bool = False
    control_of: str | None = None
    reset: tuple[str, ...] = ()
    edits: tuple[str, ...] = ()
    parameters: int = 0
    gflops: float = 0.0
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    digest: str = ""
    error: str = ""
    hyp: Mapping[str, float | str | None] = dataclasses.field(default_factory=dict)
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: str | None = None
    weights_digest: str = ""
    tuned: Tuned | None = None

    @property
    def own_settings(self) -> dict[str, Any]:
        """Its own flags, hyper-parameters and start weights."""
        weights = {} if self.weights is None else {"weights": _described(self.weights, self.weights_digest)}
        return {**self.flags, **self.hyp, **weights}


def _described(weights: str, digest: str) -> str:
    return f"{Path(weights).name} ({digest[:16]})" if weights else "none"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """Everything that determines the figures of a study.

    Attributes:
        name: of the study.
        command: the command line that started it.
        variants: the baseline first, then in the order given; controls last.
        seeds: of each variant's runs; with folds their numbers, see `utils.compare.folds`.
        planned, looks: the greatest number of seeds, fixed when the study began; and the numbers after which seeds were added.
        weights: start weights of all runs, or "".
        weights_digest: SHA-256 of that file.
        flags: the flags of train.py that affect a run's figures.
        hyp: hyper-parameters.
        plugins: the user's own modules, path -> SHA-256.
        metric: how AP is computed, in words.
        threads: CPU threads of a run, fixed for the study since the last bits of a sum depend on them.
        control: of `utils.compare.config.CONTROLS`.
        versions: Attune's code (a digest), Python and the libraries when the study began.
        factors: arms whose main effects and interactions are reported, see `utils.compare.factors`.
        pairs: arms that are compared with each other, ("all",) for all but the controls.
        tuning: the search that each arm has before its seeds run, or None.
        predictions: of other programs, compared with the baseline.
        stop_hopeless: points of AP; an arm that is certainly worse by more, or of which a run failed, ends early; 0 for none.
    """

    name: str
    command: str
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    planned: int
    data: DataPlan
    weights: str
    weights_digest: str
    flags: Mapping[str, Any]
    hyp: Mapping[str, float | str | None]
    plugins: Mapping[str, str]
    metric: str
    threads: int
    control: tuple[str, ...]
    versions: Mapping[str, str]
    looks: tuple[int, ...] = ()
    factors: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    tuning: TuningPlan | None = None
    predictions: tuple[Prediction, ...] = ()
    stop_hopeless: float = 0.0

    @property
    def look(self) -> Look:
        """Which analysis of the study the present seeds make."""
        from utils.compare.looks import look_at

        return look_at(len(self.seeds), self.planned, self.looks)

    def seed_of(self, run: int) -> int:
        """The seed that a run is trained with."""
        return run // self.data.folds if self.data.folds else run

    @property
    def baseline(self) -> Variant:
        """The variant the others are compared with."""
        return next(v for v in self.variants if v.baseline)

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        return next(v for v in self.variants if v.name == name)

    def of(self, variant: Variant) -> StudyPlan:
        """This plan with the variant's own settings in the place of the study's."""
        own: dict[str, Any] = {} if variant.weights is None else {"weights": variant.weights, "weights_digest": variant.weights_digest}
        hyp = {**self.hyp, **variant.hyp, **(variant.tuned.values if variant.tuned else {})}
        return dataclasses.replace(self, flags={**self.flags, **variant.flags}, hyp=hyp, **own)

    def settings(self, variant: Variant) -> dict[str, Any]:
        """Flags, hyper-parameters and start weights of a variant's runs."""
        own = {**variant.own_settings, **(variant.tuned.values if variant.tuned else {})}
        return {**self.flags, **self.hyp, "weights": _described(self.weights, self.weights_digest), **own}

    def other_settings(self, variant: Variant) -> tuple[str, ...]:
        """The settings in which a variant differs from the baseline, one line each."""
        base = self.settings(self.baseline)
        pairs = ((k, base[k], value) for k, value in self.settings(variant).items() if value != base[k])
        return tuple(f"{name} {before if before != '' else 'none'} -> {now if now != '' else 'none'}" for name, before, now in pairs)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StartingPoint:
    """A run before its first step.

    Attributes:
        tensors, of: number of tensors of the start weights that it takes, and that they have.
        share: of the parameters of its model, those with the values of the start weights; 0 to 1.
        ap: on the measured split; of the weights' own head with all classes as one unless `own_classes`.
        own_classes: whether the start weights have the dataset's classes.
    """

    tensors: int
    of: int
    share: float
    ap: float
    own_classes: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run: a variant trained with a seed.

    Attributes:
        state: "done"; "failed" (see `error`): it diverged, or cannot be built or trained; "stopped": its arm ended before it, see
            `utils.compare.stopping`; "missing": not finished.
        split: the split that `last` and `best` were measured on.
        epochs: number of epochs trained.
        last, best: figures of the EMA weights of the last epoch and of the epoch that was best on val; None unless done.
        best_epoch: that epoch, from 0.
        curve: the rows of the run's own results.csv, one per epoch, by column.
        train_seconds: total training time; other runs may have shared the machine.
        train_memory_mb: peak memory of the training process in 1e6 bytes; on CUDA, of the GPU.
        made_with: versions, data and device of this run; runs in which it differs are not compared.
        notes: remarks for the reader, such as that the run was resumed.
        start: before the first step; None for a training from scratch.
        folder: the run folder, with weights/last.pt and weights/best.pt.
    """

    variant: str
    seed: int
    state: str
    folder: Path
    error: str = ""
    split: str = ""
    epochs: int = 0
    last: Scores | None = None
    best: Scores | None = None
    best_epoch: int = 0
    curve: tuple[dict[str, float], ...] = ()
    train_seconds: float = 0.0
    train_memory_mb: float = 0.0
    start: StartingPoint | None = None
    made_with: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The content of a study folder.

    Attributes:
        runs: a result for each variant and seed of the plan, in that order, including "missing" ones.
        costs: by variant, as far as measured.
        comparisons: by variant, without the baseline; empty until compare.py has compared these runs.
        control_tests: by control, its variant compared with it.
        effects: of the plan's factors.
        pairs: the plan's pairs of arms, compared.
        others: other programs' predictions, compared with the baseline.
    """

    folder: Path
    plan: StudyPlan
    runs: tuple[RunResult, ...]
    costs: Mapping[str, CostMeasurement]
    comparisons: Mapping[str, Comparison]
    control_tests: Mapping[str, Comparison] = dataclasses.field(default_factory=dict)
    effects: tuple[Effect, ...] = ()
    pairs: tuple[Comparison, ...] = ()
    others: Mapping[str, Comparison] = dataclasses.field(default_factory=dict)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants of the plan."""
        return self.plan.variants

    def run(self, variant: str, seed: int) -> RunResult:
        """The run of a variant with a seed."""
        return next(r for r in self.runs if (r.variant, r.seed) == (variant, seed))

    def runs_of(self, variant: str) -> tuple[RunResult, ...]:
        """The runs of a variant, in the order of the seeds."""
        return tuple(r for r in self.runs if r.variant == variant)

    def matches(self, variant: str, seed: int, which: str = "last") -> StoredMatches:
        """Return the matched detections of a finished run; `which` is "last" or "best".

        Raises:
            UserError: the run is not done, or the file is damaged.
        """
        from utils.compare.match_store import StoredMatches

        run = self.run(variant, seed)
        if run.state != "done":
            raise UserError(f"{variant}, seed {seed}: {run.state}{f' ({run.error})' if run.error else ''}, so it was not measured")
        return StoredMatches.load(run.folder / f"{which}.npz")

    def records(self) -> list[dict[str, Any]]:
        """Return a flat dict per run, with NaN or None where there is no value: ``pandas.DataFrame(study.records())``."""
        records = []
        for run in self.runs:
            variant, cost = self.plan.variant(run.variant), self.costs.get(run.variant)
            record: dict[str, Any] = {"variant": run.variant, "baseline": variant.baseline, "control_of": variant.control_of}
            record |= {name: getattr(run, name) for name in ("seed", "state", "error", "split", "epochs", "best_epoch")}
            if folds := self.plan.data.folds:
                record |= {"seed": run.seed // folds, "fold": run.seed % folds}
            for which, scores in (("last", run.last), ("best", run.best)):
                record |= {f"{which}_{name}": getattr(scores, name) if scores else float("nan") for name in FIGURES}
            for number, name in enumerate(self.plan.data.names):
                record[f"last_ap/{name}"] = float(run.last.per_class[number]) if run.last else float("nan")
            record |= {"parameters": variant.parameters, "gflops": variant.gflops, "train_seconds": run.train_seconds}
            record |= {name: getattr(cost, name) if cost else float("nan") for name in ("latency_ms", "images_per_second", "memory_mb")}
            records.append(record)
        return records


def run_folder(folder: Path, variant: str, seed: int) -> Path:
    """The folder of a run."""
    return folder / "runs" / variant / f"seed{seed}"


def model_file(folder: Path, variant: str) -> Path:
    """The file of a variant's resolved model, also valid as train.py's ``--cfg``."""
    return folder / "models" / f"{variant}.yaml"
