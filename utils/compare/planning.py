"""How many seeds and images a study needs, and what a given number of them can detect."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.compare.load import load_study
from utils.compare.study import PLAN, StudyPlan
from utils.errors import UserError
from utils.log import counted

if TYPE_CHECKING:
    from utils.compare.statistics import Comparison

_MAX_SEEDS = 30
_FACTORS = (1, 2, 4, 8)  # times as many images as there are


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Variances:
    """By how much the differences of a study vary, in AP (0..1).

    Attributes:
        seeds: standard deviation of a paired difference from seed to seed.
        images: standard error of a mean difference for the choice of the images; it falls with the square root of their number.
        units: number of images, or of groups of images.
        source: the folder of the study.
    """

    seeds: float
    images: float
    units: int
    source: str


def find_pilot(pilot: str, folder: Path, *, needed: bool) -> Variances | None:
    """The variances of the pilot study, or without one of the runs that the study itself has so far.

    Args:
        needed: whether it is an error if there are none.

    Raises:
        UserError: `pilot` holds no study; or `needed`, and there is no study with an interval.
    """
    where = Path(pilot) if pilot else folder
    found = None
    if pilot or (where / PLAN).is_file():
        study = load_study(where)
        found = mean_variances([*study.comparisons.values()], _units(study.plan), str(where))
    if needed and found is None:
        raise UserError(
            f"{where}: no study with intervals there, so the variances are unknown; give one with two or more seeds of such data by --pilot"
        )
    return found


def _units(plan: StudyPlan) -> int:
    return max(plan.data.groups) + 1 if plan.data.groups else plan.data.splits[plan.data.measured].images


def mean_variances(comparisons: Sequence[Comparison], units: int, source: str) -> Variances | None:
    """The mean variances of a study's differences; None where it has no interval, or nothing varies."""
    known = [(c.interval, len(c.seeds)) for c in comparisons if c.interval]
    over_seeds = sum(i.error_seeds**2 * n for i, n in known) / max(len(known), 1)
    over_images = sum(i.error_images**2 for i, _ in known) / max(len(known), 1)
    if over_seeds + over_images == 0:
        return None
    return Variances(seeds=math.sqrt(over_seeds), images=math.sqrt(over_images), units=units, source=source)


def smallest_effect(variances: Variances, seeds: int, units: int, variants: int) -> float:
    """The minimum detectable effect (80 % power) in AP (0..1) of a study of so many seeds, images or groups, and variants."""
    import numpy as np

    from utils.compare.intervals import ALPHA, critical_value, detectable_effect
    from utils.compare.spread import SeedVariance, joint_error

    over_seeds, over_images = (np.array([v**2]) for v in (variances.seeds, variances.images * math.sqrt(variances.units / units)))
    df = np.array([float(variants * (seeds - 1))])
    equal = SeedVariance(over_seeds, df, over_seeds / 2, np.zeros(2, bool))
    error = joint_error(equal, seeds, over_images, over_images / 2, units)
    critical = critical_value(ALPHA, float(error.df[0]), float(error.correlation[0]), variants)
    return detectable_effect(math.sqrt(error.variance[0]), float(error.df[0]), critical)


def seeds_needed(variances: Variances, effect: float, units: int, variants: int) -> int | None:
    """The smallest number of seeds with which a study detects `effect`; None if 30 do not."""
    return next((n for n in range(2, _MAX_SEEDS + 1) if smallest_effect(variances, n, units, variants) <= effect), None)


def advice(plan: StudyPlan, pilot: Variances | None, *, effect: float, hours: float, seed_hours: float) -> Iterator[str]:
    """Say in a few lines what a planned study can detect.

    Args:
        effect: difference in AP to detect (0..1); 0 for none.
        hours: a budget; 0 for none.
        seed_hours: what a seed of all arms takes.
    """
    if plan.data.folds:
        yield "what it can detect is not known beforehand with folds, which share images"
        return
    if pilot is None:
        yield "what it can detect is unknown without a pilot: give an earlier study on such data by --pilot"
        return
    units, variants = _units(plan), sum(not v.baseline and not v.control_of for v in plan.variants)
    unit = "groups of images" if plan.data.groups else "images"
    yield (
        f"{pilot.source} varied by {100 * pilot.seeds:.2f} points from seed to seed (standard deviation of a difference), and its "
        f"{pilot.units} images leave a standard error of {100 * pilot.images:.2f} points"
    )

    def detects(seeds: int) -> str:
        if seeds < 2:
            return f"{counted(seeds, 'seed')}: no interval can be computed from fewer than 2"
        found = smallest_effect(pilot, seeds, units, variants)
        what = f"{seeds} seeds and {units} {unit} detect {100 * found:.2f} points of AP"
        return f"{what} (80 % power, {counted(variants, 'variant')})"

    yield detects(len(plan.seeds))
    if hours and seed_hours:
        yield f"in {hours:g} h: {detects(int(hours / seed_hours))}"
    if effect:
        yield f"to detect {100 * effect:g} points of AP:"
    for factor in _FACTORS if effect else ():
        needed = seeds_needed(pilot, effect, factor * units, variants)
        yield f"  {factor * units} {unit}{' (as there are)' if factor == 1 else ''}: {needed or f'more than {_MAX_SEEDS}'} seeds"
