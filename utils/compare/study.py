"""A study as it lies in its folder: the plan, what each run measured, what each variant costs, and what follows from it.

from utils.compare import load_study
study = load_study("runs/compare/study")
pandas.DataFrame(study.records())
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError

if TYPE_CHECKING:
    from utils.compare.match_store import StoredMatches
    from utils.compare.resampled_ap import Scores
    from utils.compare.statistics import Comparison

PLAN, COSTS, COMPARISONS, RESULTS = "study.yaml", "costs.json", "comparisons.json", "results.csv"
"""Files of a study folder."""
FIGURES = ("ap", "ap50", "ap75", "small", "medium", "large")
"""The overall figures of `Scores`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One arm of the study.

    Attributes:
        name: unique in the study; the name of its folder.
        cfg: the model YAML it was given by.
        baseline: whether the others are compared with it.
        control_of: the variant whose capacity this widened baseline has, or None.
        edits: what it changes against its base, a line each.
        parameters: number of them, for the classes of the data; 0 where it cannot be built.
        gflops: of one image of the study's size.
        spec: the resolved model, as `models.spec.model_spec.ModelSpec.from_dict` reads it; in the study folder it is
            models/NAME.yaml. Empty where it cannot be built, or where that file is damaged.
        digest: SHA-256 of `spec`.
        error: why it cannot be built, or "".
    """

    name: str
    cfg: str
    baseline: bool = False
    control_of: str | None = None
    edits: tuple[str, ...] = ()
    parameters: int = 0
    gflops: float = 0.0
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    digest: str = ""
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """A split of the data: its images, its objects, and a digest of both."""

    images: int
    objects: int
    digest: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DataPlan:
    """The data of the study.

    Attributes:
        source: what ``--data`` names.
        names: the classes.
        splits: "train", "val", and "test" where there is one.
        measured: the split whose figures are reported: "test" where there is one (epochs are selected on val), else "val".
        overlap: measured images that are trained on too; no gain can be claimed on them.
    """

    source: str
    names: tuple[str, ...]
    splits: Mapping[str, SplitPlan]
    measured: str
    overlap: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """Everything that decides a study's figures.

    Attributes:
        name: of the study.
        command: the command line that began it.
        variants: the baseline first, then in the order given; controls last.
        seeds: of the runs of each variant.
        weights: start weights of all runs, or "".
        weights_digest: SHA-256 of that file.
        flags: of train.py, those that decide what a run computes.
        hyp: hyper-parameters.
        plugins: the user's own modules, path -> SHA-256.
        metric: how AP is computed, in words.
        threads: a run's CPU threads. They are fixed with the study: the last bits of a sum depend on them.
        control: "params", "gflops", or "".
        versions: of Attune's code (a digest), Python and the libraries, when the study began.
    """

    name: str
    command: str
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    data: DataPlan
    weights: str
    weights_digest: str
    flags: Mapping[str, Any]
    hyp: Mapping[str, float | None]
    plugins: Mapping[str, str]
    metric: str
    threads: int
    control: str
    versions: Mapping[str, str]

    @property
    def baseline(self) -> Variant:
        """The variant the others are compared with."""
        return next(v for v in self.variants if v.baseline)

    def variant(self, name: str) -> Variant:
        """The variant of that name."""
        return next(v for v in self.variants if v.name == name)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run: a variant trained with a seed.

    Attributes:
        state: "done"; "failed": it diverged or cannot be built or trained, `error` says why; "missing": not finished yet.
        split: what `last` and `best` were measured on.
        epochs: trained.
        last, best: figures of the last epoch's averaged weights, and of those of the epoch that was best on val; None unless done.
        best_epoch: that epoch, from 0.
        curve: the rows of the run's own results.csv, an epoch each, by column.
        train_seconds: time of the training, all its parts together; it was not alone on the machine.
        train_memory_mb: peak memory of the training process, in 1e6 bytes; on CUDA, of the GPU.
        made_with: versions, data and device of this run; runs that differ in it cannot be compared.
        notes: what a reader should know: resumed, measured again, ...
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
    made_with: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CostMeasurement:
    """What a variant costs on the machine that measured it, on which nothing else of the study ran then.

    Attributes:
        parameters: number of them.
        gflops: 1e9 floating-point operations of one image of the study's size.
        latency_ms, latency_p95_ms: median and 95th percentile of the time of one image, network only, norms folded.
        images_per_second: throughput at `batch` images at once.
        memory_mb: peak memory of inference at that batch beyond the bare program, in 1e6 bytes; on CUDA, of the GPU.
        train_memory_mb: peak memory of training at the study's batch size, likewise.
        train_seconds: of a whole training, its steps alone: the median step times their number.
        batch: images at once for the throughput.
        device: GPU or processor.
        threads: of the processor.
    """

    parameters: int
    gflops: float
    latency_ms: float
    latency_p95_ms: float
    images_per_second: float
    memory_mb: float
    train_memory_mb: float
    train_seconds: float
    batch: int
    device: str
    threads: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study folder that was read.

    Attributes:
        runs: a result for each variant and seed of the plan, in that order, "missing" ones included.
        costs: by variant; without those that were not measured (yet).
        comparisons: by variant, without the baseline; empty until compare.py has compared these very runs.
    """

    folder: Path
    plan: StudyPlan
    runs: tuple[RunResult, ...]
    costs: Mapping[str, CostMeasurement]
    comparisons: Mapping[str, Comparison]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The plan's."""
        return self.plan.variants

    def run(self, variant: str, seed: int) -> RunResult:
        """The run of a variant with a seed."""
        return next(r for r in self.runs if (r.variant, r.seed) == (variant, seed))

    def runs_of(self, variant: str) -> tuple[RunResult, ...]:
        """The runs of a variant, in the order of the seeds."""
        return tuple(r for r in self.runs if r.variant == variant)

    def matches(self, variant: str, seed: int, which: str = "last") -> StoredMatches:
        """Return what a finished run found in each image; `which` is "last" or "best".

        Raises:
            UserError: the run is not done, or the file is damaged.
        """
        from utils.compare.match_store import StoredMatches

        run = self.run(variant, seed)
        if run.state != "done":
            raise UserError(f"{variant}, seed {seed}: {run.state}{f' ({run.error})' if run.error else ''}, so there is nothing measured")
        return StoredMatches.load(run.folder / f"{which}.npz")

    def records(self) -> list[dict[str, Any]]:
        """Return a flat dict for each run, NaN and None where there is no value: ``pandas.DataFrame(study.records())``."""
        return [self._record(run) for run in self.runs]

    def _record(self, run: RunResult) -> dict[str, Any]:
        variant = self.plan.variant(run.variant)
        record: dict[str, Any] = {
            "variant": run.variant,
            "baseline": variant.baseline,
            "control_of": variant.control_of,
            "seed": run.seed,
            "state": run.state,
            "error": run.error,
            "split": run.split,
            "epochs": run.epochs,
            "best_epoch": run.best_epoch,
        }
        for which, scores in (("last", run.last), ("best", run.best)):
            record |= {f"{which}_{name}": getattr(scores, name) if scores else float("nan") for name in FIGURES}
        for number, name in enumerate(self.plan.data.names):
            record[f"last_ap/{name}"] = float(run.last.per_class[number]) if run.last else float("nan")
        cost = self.costs.get(run.variant)
        record |= {"parameters": variant.parameters, "gflops": variant.gflops, "train_seconds": run.train_seconds}
        record |= {name: getattr(cost, name) if cost else float("nan") for name in ("latency_ms", "images_per_second", "memory_mb")}
        return record


def run_folder(folder: Path, variant: str, seed: int) -> Path:
    """Where a run's files are."""
    return folder / "runs" / variant / f"seed{seed}"


def model_file(folder: Path, variant: str) -> Path:
    """Where a variant's resolved model is, for train.py's ``--cfg`` too."""
    return folder / "models" / f"{variant}.yaml"
