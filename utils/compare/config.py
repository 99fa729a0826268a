"""Flags of compare.py: those of train.py, and those of a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from utils.cli import option
from utils.config import TrainConfig
from utils.errors import UserError
from utils.training.search_space import SearchConfig

_NOT_HERE = "not available here: "
CONTROLS = ("params", "gflops", "reset")
MAX_NAME = 200  # bytes of a variant's name, of which files are called
_LOCAL = frozenset({"project", "name", "device", "workers", "cache", "noplots", "save_period", "save_interval"})
_OWN = frozenset({"weights", "data", "hyp", "plugins"})


def _refused(default: Any, reason: str, **argument: Any) -> Any:
    """Declare a flag of train.py that does not apply to a study."""
    return option(default, _NOT_HERE + reason, **argument)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig(SearchConfig):
    """Flags of compare.py, which include the flags of train.py that apply to a run."""

    cfgs: tuple[str, ...] = option((), "model YAMLs; the first is the baseline", nargs="+", type=str)
    arms: str = option("", "YAML of arms: models with weights, hyper-parameters and flags of their own, see docs/compare.md")
    arm: tuple[str, ...] = option(
        (), "an arm, as 'siou: yolov5n.yaml box_loss=siou'; may be repeated", action="extend", nargs="+", type=str
    )
    factors: tuple[str, ...] = option(
        (),
        "arms to combine in full: of two, A, B and A+B against the baseline, with their effects and interaction",
        nargs="+",
        type=str,
    )
    pairs: tuple[str, ...] = option((), "also compare these variants with each other; 'all' of them", nargs="+", type=str)
    predictions: tuple[str, ...] = option(
        (), "other programs' predictions for the reported images in COCO format, as 'dfine=pred.json'", action="extend", nargs="+", type=str
    )
    baseline: str = option("", "name of the variant that the others are compared with")
    seeds: tuple[int, ...] = option((3,), "number of seeds (N means 0 to N-1), or two or more seeds", nargs="+", type=int)
    folds: int = option(0, "k-fold: split train and val into so many folds for each seed; each run is measured on the fold left out")
    project: str = option("runs/compare", "folder of the studies")
    name: str = option("study", "name of the study; repeating a name continues that study")
    jobs: int = option(0, "runs at a time; 0 takes one per GPU, or on the CPU one per core, at most 4")
    engine: str = option("local", "where runs are executed: this machine, a Ray or a SLURM cluster", choices=("local", "ray", "slurm"))
    ray_address: str = option("", "Ray cluster to join (auto, HOST:PORT); '' starts Ray on this machine")
    slurm: tuple[str, ...] = option((), "options of SLURM's jobs, such as partition=gpu timeout_min=600 mem_gb=16", nargs="+", type=str)
    control: tuple[str, ...] = option(
        (),
        "add controls: the baseline with each variant's parameters or GFLOPs; or with its lost weights reset",
        nargs="+",
        type=str,
        choices=CONTROLS,
    )
    max_seeds: int = option(0, "the greatest number of seeds, if you may add some after a first look; 0: no more than --seeds")
    stop_hopeless: float = option(
        0.0, "end an arm early of which a run failed, or that is certainly so many points of AP below the baseline"
    )
    resamples: int = option(1000, "number of bootstrap resamples of the images")
    group: str = option("", "images to resample as one: a regular expression of their paths, or FILE.csv:COLUMN with a column 'image'")
    dry_run: bool = option(False, "print the plan, its estimated time and what it can detect, and exit")
    plan: float = option(0.0, "print how many seeds and images detect a difference of this many points of AP, and exit")
    pilot: str = option("", "folder of an earlier study on such data, for the variances of --plan and --dry-run")
    hours: float = option(0.0, "budget of --plan and --dry-run: what so many hours can detect")

    cfg: str = _refused("", "--cfgs names all models, the baseline first")
    seed: int = _refused(0, "--seeds gives the number of runs of each variant, or their seeds")
    resume: str = _refused("", "repeating the command continues a study", nargs="?", const="newest")
    resume_anyway: bool = _refused(False, "a study with changed data or settings is another study, with another --name")
    exist_ok: bool = _refused(False, "repeating the command continues a study, another --name begins one")
    nosave: bool = _refused(False, "a killed run resumes from its checkpoints")
    sync_bn: bool = _refused(False, "each run of a study uses one GPU; --jobs runs several at a time")
    local_rank: int = _refused(-1, "each run of a study is one process")
    evolve: int = _refused(0, "--tune N --search evolve gives every arm as many trials", nargs="?", const=300, type=int)
    augment: str = _refused("", "plug-ins are the only programs that a study's plan names")

    def __post_init__(self) -> None:
        SearchConfig.__post_init__(self)
        if self.jobs < 0:
            raise UserError(f"--jobs {self.jobs}: must be >= 1, or 0 to choose by the machine")
        if self.resamples < 100:
            raise UserError(f"--resamples {self.resamples}: must be >= 100 to estimate a confidence interval")
        for name, value in (("plan", self.plan), ("hours", self.hours), ("stop-hopeless", self.stop_hopeless)):
            if not 0 <= value < float("inf"):
                raise UserError(f"--{name} {value:g}: must be > 0")
        _check_folds(self)
        if (self.pilot or self.hours) and not (self.plan or self.dry_run):
            raise UserError("--pilot and --hours need --plan or --dry-run, which say what a study can detect")
        if 0 < self.max_seeds < len(parse_seeds(self.seeds)):
            raise UserError(f"--max-seeds {self.max_seeds}: fewer than the {len(parse_seeds(self.seeds))} of --seeds")
        if self.batch_size == -1:
            raise UserError("--batch-size -1 would give each variant its own batch size; a study needs a fixed one")
        if self.slurm and self.engine != "slurm":
            raise UserError("--slurm needs --engine slurm")
        if self.ray_address and self.engine != "ray":
            raise UserError("--ray-address needs --engine ray")
        if "reset" in self.control and not self.weights:
            raise UserError("--control reset re-initialises the start weights that a variant loses; give them with --weights")
        if {"params", "gflops"} <= {*self.control}:
            raise UserError("--control params gflops: a control has a variant's parameters or its GFLOPs; choose one")
        parse_seeds(self.seeds)


def _check_folds(config: CompareConfig) -> None:
    if config.folds < 0 or config.folds == 1:
        raise UserError(f"--folds {config.folds}: must be >= 2")
    for flag in ("plan", "pilot", "hours", "tune", "predictions"):
        if config.folds and getattr(config, flag):
            raise UserError(f"--folds has no one set of measured images, which --{flag} needs; omit one of them")


_REFUSED = {f.name: f.metadata["help"] for f in dataclasses.fields(CompareConfig) if f.metadata["help"].startswith(_NOT_HERE)}


def check_given(given: frozenset[str]) -> None:
    """Refuse flags of train.py that do not apply to a study.

    Raises:
        UserError: such a flag is given.
    """
    for name in sorted(given & _REFUSED.keys()):
        raise UserError(f"--{name.replace('_', '-')}: {_REFUSED[name]}")


def parse_seeds(values: Sequence[int]) -> tuple[int, ...]:
    """Parse ``--seeds``: N means 0 to N-1, several numbers are the seeds themselves.

    Raises:
        UserError: no, negative or repeated seeds.
    """
    if len(values) == 1:
        if values[0] < 1:
            raise UserError(f"--seeds {values[0]}: must be >= 1, and >= 3 for a useful confidence interval")
        return tuple(range(values[0]))
    if min(values) < 0:
        raise UserError(f"--seeds {min(values)}: a seed must be >= 0")
    if doubles := sorted({v for v in values if values.count(v) > 1}):
        raise UserError(f"--seeds: {doubles[0]} is given twice; the same seed repeats the same run")
    return tuple(sorted(values))


def result_flags(config: TrainConfig) -> dict[str, Any]:
    """The flags of train.py that affect a run's figures, other than models, data, weights and hyper-parameters."""
    names = [f.name for f in dataclasses.fields(TrainConfig)]
    return {n: getattr(config, n) for n in names if n not in _LOCAL | _OWN | _REFUSED.keys()}


def arm_flags() -> tuple[str, ...]:
    """The flags that an arm may have of its own: those that affect figures, but not the dataset, which all arms share."""
    return tuple(name for name in result_flags(TrainConfig()) if name not in ("single_cls", "classes"))


def local_flags(config: object) -> dict[str, Any]:
    """The flags of a study or a run that do not affect a run's figures."""
    return {n: getattr(config, n) for n in sorted(_LOCAL - {"project", "name"})}
