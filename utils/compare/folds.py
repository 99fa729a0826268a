"""k-fold studies: train and val together are split into folds, and each run is measured on the fold that it does not train on.

Run r of an arm has fold r % folds of the partition that seed r // folds draws; runs of the same number are pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from utils.compare.checksummed_json import write_text
from utils.compare.groups import image_groups
from utils.data.config import load_data
from utils.data.fingerprint import file_digests
from utils.data.holdout import write_coco, write_lists
from utils.data.scan import load_index
from utils.errors import UserError

if TYPE_CHECKING:
    from utils.compare.study import StudyPlan
    from utils.data.index import Index


def pool(splits: Sequence[Index]) -> tuple[tuple[Path, ...], NDArray[np.bool_]]:
    """The images of all splits, each once, and which classes (n, nc) each of them shows."""
    shown: dict[Path, NDArray[np.bool_]] = {}
    for index in splits:
        for i, path in enumerate(index.paths):
            shown[path] = np.isin(np.arange(index.nc), index.annotations_of(i)[:, 0])
    return tuple(shown), np.array([*shown.values()])


def pool_groups(group: str, paths: Sequence[Path], folds: int) -> tuple[int, ...]:
    """For each image the number of its group, which stays in one fold: that of ``--group``, else all copies of an image.

    Raises:
        UserError: an invalid ``--group``, or fewer groups than folds.
    """
    names: dict[str, int] = {}
    groups = image_groups(group, paths) if group else tuple(names.setdefault(d, len(names)) for d in file_digests(paths))
    if (count := len(set(groups))) < folds:
        what = f"{count} groups of --group" if group else f"{count} different images"
        raise UserError(f"--folds {folds}: train and val have only {what}; each fold needs at least one")
    return groups


def assign_folds(shown: NDArray[np.bool_], groups: Sequence[int], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each image: groups stay together, and each fold has about the same share of each class and of all images.

    Iterative stratification of labels (Sechidis et al., ECML 2011, https://doi.org/10.1007/978-3-642-23808-6_10), here of groups: those
    of the rarest class first, each into the fold that lacks that class most. Deterministic for a seed.

    Args:
        shown: (n, nc) which classes each image shows.
        groups: (n,) number of each image's group, from 0.
    """
    unit, random = np.asarray(groups), np.random.default_rng(seed)
    columns = np.column_stack((shown, np.ones(len(shown))))  # the classes, then all images
    table = np.zeros((unit.max() + 1, columns.shape[1]))
    np.add.at(table, unit, columns)
    lacking = np.tile(table.sum(0) / folds, (folds, 1))
    fold, order = np.full(len(table), -1), random.permutation(len(table))
    while (left := fold < 0).any():
        totals = table[left].sum(0)
        totals[:-1][totals[:-1] == 0] = np.inf
        column = int(totals[:-1].argmin()) if np.isfinite(totals[:-1]).any() else -1
        members = [g for g in order if left[g] and table[g, column]]
        for g in sorted(members, key=lambda g: -table[g, column]):
            first = random.permutation(folds)
            fold[g] = max(first, key=lambda k: (lacking[k, column], lacking[k, -1]))
            lacking[fold[g]] -= table[g]
    return fold[unit]


def fold_plan(plan: StudyPlan, study: Path, run: int) -> StudyPlan:
    """The plan of a run, whose dataset trains on the other folds and is measured on its own; its files are in the study folder.

    Raises:
        UserError: the dataset is missing, a fold shows no object, or a file cannot be written.
    """
    seed, number = divmod(run, plan.data.folds)
    data = load_data(plan.data.source)
    flags = {name: plan.flags[name] for name in ("single_cls", "classes")}
    paths, shown = pool([load_index(data, split, **flags) for split in ("train", "val")])
    fold = assign_folds(shown, plan.data.groups, plan.data.folds, seed)
    if not shown[fold == number].any():
        raise UserError(f"--folds {plan.data.folds}: fold {number} of seed {seed} shows no object; take fewer folds")
    kept = {"train": {p for p, k in zip(paths, fold, strict=True) if k != number}}
    kept["val"] = {*paths} - kept["train"]
    out = study / "folds" / f"seed{seed}-fold{number}"
    content: dict[str, list[Any]] = {"train": [], "val": []}
    entries = dict.fromkeys([*data.entries("train"), *data.entries("val")])
    try:
        out.mkdir(parents=True, exist_ok=True)
        for count, entry in enumerate(entries):
            write = write_coco if entry.suffix.lower() == ".json" else write_lists
            for split, part in write(out, str(count or ""), data, entry, kept):
                content[split].append(part)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error
    own: dict[str, Any] = {**content, "names": data.names}
    if data.keypoints:
        own["kpt_shape"] = [data.keypoints // 2, 2] if data.keypoints % 3 else [data.keypoints // 3, 3]
    write_text(out / "data.yaml", yaml.safe_dump(own, sort_keys=False, allow_unicode=True))
    return dataclasses.replace(plan, data=dataclasses.replace(plan.data, source=str(out / "data.yaml"), folds=0, groups=()))
