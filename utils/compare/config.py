"""Flags of compare.py: those of train.py, and those of a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from utils.cli import option
from utils.config import TrainConfig
from utils.errors import UserError

_REFUSED = {
    "cfg": "not here: --cfgs names all models, the baseline first",
    "seed": "not here: --seeds says how many runs each variant gets, or which seeds",
    "resume": "not here: the same command again goes on with a study",
    "exist_ok": "not here: the same command again goes on with a study, another --name begins one",
    "resume_anyway": "not here: a study whose data or settings have changed is another study, with another --name",
    "nosave": "not here: a killed run goes on from its checkpoints",
    "sync_bn": "not here: each run of a study has one GPU, several runs go side by side (--jobs)",
    "local_rank": "not here: each run of a study is one process",
}
_LOCAL = frozenset({"project", "name", "device", "workers", "cache", "noplots", "save_period", "save_interval"})
_OWN = frozenset({"weights", "data", "hyp", "plugins"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig(TrainConfig):
    """Flags of compare.py. Every flag of train.py that a run may have is one too."""

    cfgs: tuple[str, ...] = option((), "model YAMLs; the first is the baseline", nargs="+", type=str)
    baseline: str = option("", "name of the variant the others are compared with")
    seeds: tuple[int, ...] = option((3,), "how many seeds (N is 0 to N-1), or the seeds themselves, two or more", nargs="+", type=int)
    project: str = option("runs/compare", "folder of the studies")
    name: str = option("study", "name of the study; the same again goes on with it")
    jobs: int = option(0, "runs at a time; 0 takes one a GPU, or on the CPU one a core, at most 4")
    engine: str = option("local", "where runs are carried out: on this machine, or on a Ray cluster", choices=("local", "ray"))
    ray_address: str = option("", "Ray cluster to join (auto, HOST:PORT); '' starts Ray on this machine")
    control: str = option("", "add the baseline widened to each variant's parameters or GFLOPs", choices=("params", "gflops"))
    resamples: int = option(1000, "resamples of the images in the bootstrap")
    dry_run: bool = option(False, "print the plan with an estimate of its time, and do nothing")

    cfg: str = option("", _REFUSED["cfg"])
    seed: int = option(0, _REFUSED["seed"])
    resume: str = option("", _REFUSED["resume"], nargs="?", const="newest")
    resume_anyway: bool = option(False, _REFUSED["resume_anyway"])
    exist_ok: bool = option(False, _REFUSED["exist_ok"])
    nosave: bool = option(False, _REFUSED["nosave"])
    sync_bn: bool = option(False, _REFUSED["sync_bn"])
    local_rank: int = option(-1, _REFUSED["local_rank"])

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        if self.jobs < 0:
            raise UserError(f"--jobs {self.jobs}: must be at least 1, or 0 to let the machine decide")
        if self.resamples < 100:
            raise UserError(f"--resamples {self.resamples}: fewer than 100 say nothing about the ends of an interval")
        if self.batch_size == -1:
            raise UserError("--batch-size -1 would give each variant its own; a study compares at one batch size, give it")
        if self.ray_address and self.engine != "ray":
            raise UserError("--ray-address is for --engine ray")
        if self.control and self.weights:
            raise UserError(
                "--control widens the baseline, and pretrained weights do not fit a wider model, so it would start from nothing "
                "while the others do not; leave --weights or --control out"
            )
        parse_seeds(self.seeds)


def check_given(given: frozenset[str]) -> None:
    """Refuse flags of train.py that make no sense in a study.

    Raises:
        UserError: says why.
    """
    for name in sorted(given & _REFUSED.keys()):
        raise UserError(f"--{name.replace('_', '-')}: {_REFUSED[name]}")


def parse_seeds(values: Sequence[int]) -> tuple[int, ...]:
    """Turn ``--seeds`` into the seeds: N means 0 to N-1, several numbers mean themselves.

    Raises:
        UserError: none, negative, or twice the same.
    """
    if len(values) == 1:
        if values[0] < 1:
            raise UserError(f"--seeds {values[0]}: a study needs at least one seed, and three for an interval worth having")
        return tuple(range(values[0]))
    if min(values) < 0:
        raise UserError(f"--seeds {min(values)}: a seed is 0 or more")
    if doubles := sorted({v for v in values if values.count(v) > 1}):
        raise UserError(f"--seeds: {doubles[0]} is given twice; the same seed gives the same run again")
    return tuple(sorted(values))


def decisive_flags(config: TrainConfig) -> dict[str, Any]:
    """Those flags of train.py that decide what a run computes, models, data, weights and hyper-parameters aside."""
    names = [f.name for f in dataclasses.fields(TrainConfig)]
    return {n: getattr(config, n) for n in names if n not in _LOCAL | _OWN | _REFUSED.keys()}


def local_flags(config: TrainConfig) -> dict[str, Any]:
    """Those flags that say how a run is carried out here, without a trace in its figures."""
    return {n: getattr(config, n) for n in sorted(_LOCAL - {"project", "name"})}


def train_config(flags: Mapping[str, Any], **more: Any) -> TrainConfig:
    """The settings of a run: the plan's flags, and what is the run's own."""
    return TrainConfig(**{**flags, **more})
