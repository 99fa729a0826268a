"""Predictions of other programs as arms of a study: read in COCO's results format, matched, and compared with the baseline.

They are one set of detections, not trainings with seeds, so their interval has the noise of the images and of the baseline's seeds only.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from utils.compare.evaluate_run import open_splits
from utils.compare.match_store import StoredMatches, match_detections
from utils.compare.prediction import Prediction
from utils.compare.resampled_ap import average_precision
from utils.compare.study import StudyPlan
from utils.compare.variants import folder_name
from utils.data.config import load_data
from utils.data.index import Index
from utils.data.labels.coco_ids import Ids, read_id
from utils.errors import UserError
from utils.evaluation.metrics import Evaluator
from utils.evaluation.predictions import COCO_IDS, category_ids
from utils.files.safe_open import read_regular
from utils.log import LOG, abbreviated
from utils.versions import file_digest

if TYPE_CHECKING:
    from utils.compare.measured_runs import VariantRuns
    from utils.compare.statistics import Comparison

_MAX_BYTES = 1 << 30


def read_given(given: Sequence[str], taken: Sequence[str], plan: StudyPlan) -> tuple[Prediction, ...]:
    """Read ``--predictions``, and match them once, so that what does not fit is reported before anything is trained.

    Args:
        given: ``NAME=FILE.json``.
        taken: names of variants.

    Raises:
        UserError: a name that is taken, a file that is no COCO results file, or predictions of other images or classes.
    """
    found: dict[str, Prediction] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise UserError(f"--predictions {text}: expected NAME=FILE.json")
        name = folder_name(name, f"--predictions {text}")
        if name in (*taken, *found):
            raise UserError(f"--predictions {text}: the name {name} is taken; choose another")
        found[name] = Prediction(name=name, file=str(Path(file).resolve()), digest=file_digest(file))
        _match(found[name], plan)
    return tuple(found.values())


def matches_file(folder: Path, name: str) -> Path:
    """The matched detections of an arm of predictions in the study folder."""
    return folder / "predictions" / f"{name}.npz"


def measure_others(folder: Path, plan: StudyPlan) -> None:
    """Match the predictions that are not in the study folder yet.

    Raises:
        UserError: a file that cannot be read or written, or has changed since the study began.
    """
    for prediction in plan.predictions:
        path = matches_file(folder, prediction.name)
        if not path.is_file():
            if file_digest(prediction.file) != prediction.digest:
                raise UserError(f"{prediction.file}: has changed since the study began; restore it, or give it another name")
            try:
                path.parent.mkdir(exist_ok=True)
            except OSError as error:
                raise UserError(f"{path.parent}: cannot be created ({error.strerror or error})") from error
            _match(prediction, plan).save(path)


def compare_others(folder: Path, plan: StudyPlan, base: VariantRuns, resamples: int) -> dict[str, Comparison]:
    """Compare the measured predictions with the baseline; they are a family of their own.

    Detections that are the same for every seed differ from the baseline by as much as its seeds do: the variance over seeds is that of
    the baseline alone.
    """
    from utils.compare.measured_runs import VariantRuns
    from utils.compare.statistics import Analysis

    names = [p.name for p in plan.predictions if matches_file(folder, p.name).is_file()]
    loads = {name: functools.partial(StoredMatches.load, matches_file(folder, name)) for name in names}
    runs = [VariantRuns(name, dict.fromkeys(plan.seeds, load), base.protocol) for name, load in loads.items()]
    analysis = Analysis([base, *runs], plan.seeds, look=plan.look, groups=plan.data.groups, resamples=resamples)
    return {name: analysis.compare(base.name, [name], tests=len(names))[0] for name in names}


def _match(prediction: Prediction, plan: StudyPlan) -> StoredMatches:
    """Match the predictions with the measured split, under the reading of category ids that fits.

    Where ids fit several readings (class ids from 0, from 1, COCO's 1 to 90), that of the largest AP counts: all others are near 0.
    """
    index = open_splits(plan)[plan.data.measured]
    entries = _read(Path(prediction.file))
    image, category, rows = _columns(prediction.file, entries, index)
    used = set(category)
    sources = load_data(plan.data.source).splits[plan.data.measured]
    readings = _readings(index, [Path(s) for s in sources], single_cls=plan.flags["single_cls"])
    fitting = {name: ids for name, ids in readings.items() if used <= ids.keys()} if readings else {"": dict.fromkeys(used, 0)}
    if not fitting:
        first = next(iter(readings.values()))
        unknown = sorted(used - first.keys())
        raise UserError(
            f"{prediction.file}: category ids {abbreviated(map(str, unknown))} are none of the dataset's {len(index.names)} classes "
            f"(ids {abbreviated(map(str, sorted(first)))}); give predictions for this dataset"
        )
    wanted = plan.flags["classes"]
    found = {}
    for name, ids in fitting.items():
        cls = np.array([ids[c] for c in category], np.float32)
        kept = np.isin(cls, wanted) if wanted is not None else np.ones(len(cls), bool)
        found[name] = _matched(index, image[kept], np.column_stack((rows, cls))[kept])
    aps = {name: average_precision(matches).ap for name, matches in found.items()}
    best = max(aps, key=lambda name: -1 if math.isnan(aps[name]) else aps[name])
    LOG.info(
        "%s: %d detections of %s, category ids %s; AP %.2f points", prediction.name, len(entries), prediction.file, best, 100 * aps[best]
    )
    return found[best]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(read_regular(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    if isinstance(content, dict):
        content = content.get("annotations")  # a ground-truth file with scores, as some tools write
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        raise UserError(f"{path}: no COCO results file, which is a list of image_id, category_id, bbox and score")
    return content


def _columns(file: str, entries: Sequence[Mapping[str, Any]], index: Index) -> tuple[NDArray[np.int64], list[Any], NDArray[np.float32]]:
    """Image numbers (k,), category ids, and (k, 5) xyxy in pixels and score."""
    ids, number = Ids(index.image_ids), {key: k for k, key in enumerate(index.image_ids)}
    by_name = {name: k for k, path in enumerate(index.paths) for name in (path.name, path.stem)}
    image, category, rows, unknown = [], [], [], []
    for k, entry in enumerate(entries):
        try:
            key, bbox, score = entry["image_id"], [float(v) for v in entry["bbox"]], float(entry["score"])
            left, top, width, height = bbox
            cls = read_id(entry["category_id"])
            if cls is None or not all(map(math.isfinite, (*bbox, score))) or min(width, height) < 0:
                raise ValueError(f"bbox {bbox}, score {score}, category_id {entry['category_id']!r:.50}")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file}: entry {k} is no detection ({error!r:.200}); needs image_id, category_id, bbox and score") from error
        known = ids.find(key)
        place = number[known] if known is not None else by_name.get(str(entry.get("file_name", key)).rpartition("/")[2])
        if place is None:
            unknown.append(str(key))
            continue
        image.append(place)
        category.append(cls)
        rows.append((left, top, left + width, top + height, score))
    if unknown:
        names = list(dict.fromkeys(unknown))
        raise UserError(
            f"{file}: {len(names)} of its images are not among the {len(index)} on which figures are reported ({abbreviated(names)}); "
            f"their ids are such as {index.image_ids[0]}"
        )
    return np.array(image, np.int64), category, np.array(rows, np.float32).reshape(-1, 5)


def _readings(index: Index, sources: Sequence[Path], *, single_cls: bool) -> dict[str, dict[Any, int]]:
    """How category ids may be meant: each a mapping to class ids; none where all classes are one."""
    if single_cls:
        return {}
    count = len(index.names)
    readings = {
        "of the dataset": {c: k for k, c in category_ids(index.names, sources).items()},
        "from 0": {c: c for c in range(count)},
        "from 1": {c + 1: c for c in range(count)},
    }
    if count == len(COCO_IDS):
        readings["of COCO"] = {c: k for k, c in enumerate(COCO_IDS)}
    return readings


def _matched(index: Index, image: NDArray[np.int64], rows: NDArray[np.float32]) -> StoredMatches:
    evaluator = Evaluator(index.names)
    order = np.argsort(image, kind="stable")
    starts = np.searchsorted(image[order], np.arange(len(index) + 1))
    for k in range(len(index)):
        evaluator.add(k, rows[order[starts[k] : starts[k + 1]]], index.ground_truth(k))
    return match_detections(evaluator)
