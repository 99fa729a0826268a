"""The runs of a study, measured on its images and on resamples of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from utils.compare.error_figures import ERRORS, errors
from utils.compare.match_store import StoredMatches
from utils.compare.resampled_ap import RankedDetections, Scores, average_precision, mean_ignoring_nan

_OVERALL = tuple(f.name for f in dataclasses.fields(Scores) if f.name != "per_class")
RESAMPLED = (*_OVERALL, *ERRORS)
"""The first columns of the resampled figures; the AP of each class follows."""
_FEWER = 5
"""Figures that take the AP of other matches or areas, by which no verdict is reached, are computed for one of so many resamples: 200 of
1000, which give a standard error within 5 %."""


@dataclasses.dataclass(frozen=True, slots=True)
class VariantRuns:
    """The finished runs of one variant.

    Attributes:
        matches: by seed, a function that loads them.
        protocol: by seed, what must be the same in all compared runs, by name (such as "data", "code", "torch").
        stopped: why it has no further runs, or "".
    """

    name: str
    matches: Mapping[int, Callable[[], StoredMatches]]
    protocol: Mapping[int, Mapping[str, str]]
    stopped: str = ""

    def measured(self, seeds: Sequence[int]) -> tuple[int, ...]:
        """The seeds among `seeds` with matches."""
        return tuple(s for s in seeds if s in self.matches)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MeasuredRuns:
    """The figures of a variant's runs.

    Attributes:
        runs: what was measured.
        scores: by seed.
        errors: by seed, `ERRORS`.
        resampled: by seed, (resamples, 13 + nc) figures of resampled images, see `RESAMPLED`; NaN where not computed.
        faults: what forbids a verdict: missing seeds, and runs on other images or annotations, which are left out.
    """

    runs: VariantRuns
    scores: Mapping[int, Scores]
    errors: Mapping[int, NDArray[np.float64]]
    resampled: Mapping[int, NDArray[np.float64]]
    faults: tuple[str, ...]

    def figures(self, seed: int) -> NDArray[np.float64]:
        """The observed figures, in the order of the columns of `resampled`."""
        scores = self.scores[seed]
        return np.array([*(getattr(scores, name) for name in _OVERALL), *self.errors[seed], *scores.per_class])


def measure_runs(
    given: Sequence[VariantRuns],
    seeds: Sequence[int],
    *,
    groups: Sequence[int] = (),
    resamples: int = 1000,
    seed: int = 0,
    folded: bool = False,
) -> tuple[dict[str, MeasuredRuns], int]:
    """Measure the runs of all variants, each once.

    Args:
        groups: for each image the number of its group, such as its video; groups are resampled as a whole. Empty: each image is one.
        resamples: number of bootstrap resamples of the images, the same for all runs; they depend on `seed`.
        folded: runs of different seeds are measured on images of their own, so that their variance contains that of the images;
            these are not resampled.

    Returns:
        By variant the measured runs, and the number of groups.
    """
    if folded:
        first = {s: runs.matches[s]() for runs in reversed(given) for s in runs.measured(seeds)}
        return {runs.name: _measure(runs, seeds, first, None) for runs in given}, len(first)
    reference = next((runs.matches[s]() for runs in given for s in runs.measured(seeds)), None)
    unit = np.asarray(groups, np.int64) if len(groups) else np.arange(len(reference.images) if reference else 0)
    units = int(unit.max(initial=-1)) + 1
    random = np.random.default_rng(seed)
    drawn = random.multinomial(units, np.full(units, 1 / units), size=resamples) if units else np.zeros((resamples, 0), np.int64)
    return {runs.name: _measure(runs, seeds, dict.fromkeys(seeds, reference), drawn[:, unit]) for runs in given}, units


def _measure(
    runs: VariantRuns, seeds: Sequence[int], references: Mapping[int, StoredMatches | None], weights: NDArray[np.int64] | None
) -> MeasuredRuns:
    scores, observed, resampled = {}, {}, {}
    faults = [runs.stopped] if runs.stopped else [f"seed {s} of {runs.name} is missing" for s in seeds if s not in runs.matches]
    for s in runs.measured(seeds):
        matches, reference = runs.matches[s](), references[s]
        if reference is None or not matches.same_ground_truth(reference):
            faults.append(f"seed {s} of {runs.name} was measured on other images or annotations")
            continue
        scores[s] = average_precision(matches)
        observed[s] = errors(matches, np.ones((1, len(matches.images)), np.int64))[0]
        nothing = np.zeros((2, len(RESAMPLED) + len(matches.names)))  # no variance over images
        resampled[s] = nothing if weights is None else _resampled(matches, weights)
    return MeasuredRuns(runs, scores, observed, resampled, tuple(faults))


def _resampled(matches: StoredMatches, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    table = RankedDetections(matches).average_precision(weights)
    out = np.full((len(weights), len(RESAMPLED) + table.shape[1]), np.nan)
    out[:, :3] = np.stack([mean_ignoring_nan(part.reshape(len(table), -1)) for part in (table, table[..., 0], table[..., 5])], 1)
    out[:, len(RESAMPLED) :] = table.mean(2)
    some = weights[: -(-len(weights) // _FEWER)]
    for area in (1, 2, 3):
        table = RankedDetections(matches, area).average_precision(some)
        out[: len(some), 2 + area] = mean_ignoring_nan(table.reshape(len(some), -1))
    out[: len(some), len(_OVERALL) : len(RESAMPLED)] = errors(matches, some)
    return out


def protocol_differences(baseline: VariantRuns, variant: VariantRuns, seeds: Sequence[int]) -> Iterator[str]:
    """Yield what is not the same in all runs of both variants, and where it first differs."""
    runs = [(f"{v.name}, seed {s}", v.protocol.get(s, {})) for v in (baseline, variant) for s in v.measured(seeds)]
    for key in sorted({key for _, protocol in runs for key in protocol}):
        first = runs[0][1].get(key, "unknown")
        for where, protocol in runs[1:]:
            if (value := protocol.get(key, "unknown")) != first:
                what = "the version of Attune's code" if key == "code" else key
                yield f"{what} differs: {first} ({runs[0][0]}), {value} ({where})"
                break
