"""From the runs of a study to its comparisons, and where these are kept: the bootstrap is not for every look at a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.compare.checksummed_json import digest, read_json, write_json
from utils.compare.study import COMPARISONS, RunResult, Study, StudyPlan

if TYPE_CHECKING:
    from utils.compare.match_store import StoredMatches
    from utils.compare.statistics import Comparison, Interval, VariantRuns


def compare(study: Study, resamples: int) -> Study:
    """Compare all variants with the baseline, on the last epoch's averaged weights, and keep the outcome in the study folder.

    Raises:
        UserError: damaged matches, or the file cannot be written.
    """
    from utils.compare.statistics import compare_variants

    base, others = study.plan.baseline, [v for v in study.variants if not v.baseline]
    result = compare_variants(_arm(study, base.name), [_arm(study, v.name) for v in others], study.plan.seeds, resamples=resamples)
    comparisons = {c.name: _forbidden(c, study.plan) for c in result.comparisons}
    content = {"of": _identity(study.plan, study.runs), "resamples": resamples}
    write_json(study.folder / COMPARISONS, {**content, "variants": {k: dataclasses.asdict(c) for k, c in comparisons.items()}})
    return dataclasses.replace(study, comparisons=comparisons)


def _arm(study: Study, variant: str) -> VariantRuns:
    from utils.compare.statistics import VariantRuns

    done = [r for r in study.runs_of(variant) if r.state == "done"]
    return VariantRuns(variant, _Stored(study, variant, tuple(r.seed for r in done)), {r.seed: r.made_with for r in done})


class _Stored(Mapping[int, "StoredMatches"]):
    """A variant's matches by seed, read from their files when they are asked for."""

    def __init__(self, study: Study, variant: str, seeds: tuple[int, ...]) -> None:
        self._study, self._variant, self._seeds = study, variant, seeds

    def __getitem__(self, seed: int) -> StoredMatches:
        if seed not in self._seeds:
            raise KeyError(seed)
        return self._study.matches(self._variant, seed)

    def __iter__(self) -> Iterator[int]:
        return iter(self._seeds)

    def __len__(self) -> int:
        return len(self._seeds)


def _forbidden(comparison: Comparison, plan: StudyPlan) -> Comparison:
    """No verdict on images that were trained on."""
    if not plan.data.overlap:
        return comparison
    count, total = plan.data.overlap, plan.data.splits[plan.data.measured].images
    reason = (
        f"{count} of the {total} images of the {plan.data.measured} split are trained on too, so nothing can be said about other images."
    )
    return dataclasses.replace(comparison, verdict="no verdict", reason=reason)


def _identity(plan: StudyPlan, runs: tuple[RunResult, ...]) -> str:
    """What the comparisons follow from."""
    rows = [[r.variant, r.seed, r.state, r.made_with, r.last.ap if r.last else None] for r in runs]
    return digest([rows, plan.baseline.name, plan.data.overlap, [v.name for v in plan.variants]])


def read_comparisons(path: Path, plan: StudyPlan, runs: tuple[RunResult, ...]) -> dict[str, Comparison]:
    """The comparisons of these very runs; none where they are of others, or damaged."""
    content = read_json(path)
    if content is None or content["of"] != _identity(plan, runs):
        return {}
    return {name: _comparison(values) for name, values in content["variants"].items()}


def _comparison(values: Mapping[str, Any]) -> Comparison:
    from utils.compare.statistics import Comparison

    nan = float("nan")
    return Comparison(
        **{
            **values,
            "seeds": tuple(values["seeds"]),
            "difference": nan if values["difference"] is None else values["difference"],
            "over_seeds": _interval(values["over_seeds"]),
            "over_images": _interval(values["over_images"]),
            "figures": {k: _interval(v) for k, v in values["figures"].items()},
            "class_seeds": tuple(map(_interval, values["class_seeds"])),
            "class_images": tuple(map(_interval, values["class_images"])),
        }
    )


def _interval(values: Mapping[str, Any] | None) -> Interval | None:
    from utils.compare.statistics import Interval

    if values is None:
        return None
    known: dict[str, Any] = {k: float("nan") if v is None else v for k, v in values.items()}
    return Interval(**known)
