"""--predictions: other programs' detections as arms with image noise only."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.utils.compare.studies import make_study
from utils.compare.data_plan import DataPlan, SplitPlan
from utils.compare.match_store import StoredMatches
from utils.compare.measured_runs import VariantRuns
from utils.compare.others import compare_others, matches_file, measure_others, read_given
from utils.compare.page.others import latex_part, markdown_part, others_data, section
from utils.compare.plan_io import read_plan, write_plan
from utils.compare.prediction import Prediction
from utils.compare.resampled_ap import average_precision
from utils.compare.study import StudyPlan
from utils.data.config import load_data
from utils.data.index import Index
from utils.data.scan import load_index
from utils.errors import UserError


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> StudyPlan:
    """A made-up plan, measured on the four images of the tiny dataset."""
    made = make_study(tmp_path_factory.mktemp("study") / "made", hostile=False, seeds=3).plan
    names = tuple(index_of(tiny_dataset).names.values())
    splits = {s: SplitPlan(images=4, objects=10, digest="") for s in ("train", "val")}
    data = DataPlan(source=str(tiny_dataset), names=names, splits=splits, measured="val")
    flags = {**made.flags, "single_cls": False, "classes": None}
    return dataclasses.replace(made, data=data, variants=made.variants[:2], flags=flags)


def index_of(data: Path) -> Index:
    return load_index(load_data(data), "val")


def perfect(index: Index, base: int = 0) -> list[dict[str, Any]]:
    """A detection at each object, of decreasing score; category ids from `base`."""
    entries = []
    for k, image in enumerate(index.image_ids):
        truth = index.ground_truth(k)
        for c, (x1, y1, x2, y2) in zip(truth.cls.tolist(), truth.xyxy.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            entries.append({"image_id": image, "category_id": c + base, "bbox": box, "score": 0.9 - 0.01 * len(entries)})
    return entries


def given(path: Path, entries: object) -> tuple[str, ...]:
    path.write_text(json.dumps(entries))
    return (f"dfine={path}",)


def ap_of(plan: StudyPlan, folder: Path, entries: object) -> float:
    """AP of predictions, read as the command line names them."""
    folder.mkdir()
    own = dataclasses.replace(plan, predictions=read_given(given(folder / "pred.json", entries), [], plan))
    measure_others(folder, own)
    return average_precision(StoredMatches.load(matches_file(folder, "dfine"))).ap


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("key", ["id", "name", "path"])
def test_ids_as_programs_write_them(plan: StudyPlan, tmp_path: Path, base: int, key: str) -> None:
    index = index_of(Path(plan.data.source))
    files = {image: path.name for image, path in zip(index.image_ids, index.paths, strict=True)}
    written = {image: {"id": str(image), "name": file, "path": f"val/{file}"}[key] for image, file in files.items()}
    entries = [{**e, "image_id": written[e["image_id"]]} for e in perfect(index, base)]
    assert ap_of(plan, tmp_path / "study", entries) == pytest.approx(1.0)
    boxes = [{**e, "bbox": [e["bbox"][0] + e["bbox"][2], *e["bbox"][1:]]} for e in entries]
    assert ap_of(plan, tmp_path / "beside", boxes) < 0.1


def test_what_val_writes_is_read_back(plan: StudyPlan, tmp_path: Path) -> None:
    from utils.evaluation.predictions import category_ids, write_json

    index = index_of(Path(plan.data.source))
    found = []
    for k in range(len(index)):
        truth = index.ground_truth(k)
        found.append((k, np.column_stack((truth.xyxy, np.full(len(truth.cls), 0.5), truth.cls)).astype(np.float32)))
    write_json(tmp_path / "val.json", found, index, category_ids(index.names, []))
    assert ap_of(plan, tmp_path / "study", json.loads((tmp_path / "val.json").read_text())) == pytest.approx(1.0)


@pytest.mark.slow
def test_predictions_are_compared_with_noise_of_images_and_of_the_baseline_alone(plan: StudyPlan, tmp_path: Path) -> None:
    index = index_of(Path(plan.data.source))
    entries, rng = perfect(index), np.random.default_rng(0)
    stored = []
    for seed in plan.seeds:  # the baseline misses some objects, others in each seed
        some = [e for e in entries if rng.random() < 0.7]
        stored.append(functools.partial(StoredMatches.load, _stored(plan, tmp_path / f"seed{seed}", some)))
    base = VariantRuns(plan.baseline.name, dict(zip(plan.seeds, stored, strict=True)), {s: {"code": "1"} for s in plan.seeds})
    other = read_given(given(tmp_path / "pred.json", entries), [], plan)
    plan = dataclasses.replace(plan, predictions=other)
    measure_others(tmp_path, plan)
    found = compare_others(tmp_path, plan, base, 200)["dfine"]
    aps = [average_precision(load()).ap for load in stored]
    assert found.difference == pytest.approx(1 - np.mean(aps))
    assert found.interval
    assert found.interval.error_seeds == pytest.approx(np.std(aps, ddof=1) / np.sqrt(len(aps)))
    study = dataclasses.replace(make_study(tmp_path / "made2", hostile=False), folder=tmp_path, plan=plan, others={"dfine": found})
    assert "| dfine † | 100.00 | 100.00 | 100.00 |" in markdown_part(study)
    assert "noise of the images and of the baseline" in section(study)
    assert r"dfine$^\dagger$ & 100.00" in latex_part(study)
    assert others_data(study)["predictions"]["dfine"]["ap"] == pytest.approx(1)


def _stored(plan: StudyPlan, folder: Path, entries: object) -> Path:
    ap_of(plan, folder, entries)
    return matches_file(folder, "dfine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "elsewhere"}, r"1 of its images are not among the 4 on which figures are reported \(elsewhere\)"),
        ({"category_id": 99}, r"category ids 99 are none of the dataset's \d+ classes"),
        ({"category_id": None}, r"entry 0 is no detection"),
        ({"bbox": [1, 2, 3]}, r"entry 0 is no detection"),
        ({"bbox": [1, 2, -3, 4]}, r"entry 0 is no detection"),
        ({"score": "high"}, r"entry 0 is no detection"),
        ({"score": float("nan")}, r"entry 0 is no detection"),
    ],
)
def test_predictions_that_do_not_fit(plan: StudyPlan, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    first, *others = perfect(index_of(Path(plan.data.source)))
    with pytest.raises(UserError, match=message):
        read_given(given(tmp_path / "pred.json", [{**first, **change}, *others]), [], plan)


def test_files_and_names_that_do_not_fit(plan: StudyPlan, tmp_path: Path) -> None:
    file = tmp_path / "pred.json"
    for content in ("[", "{}", "[]", "[1]"):
        file.write_text(content)
        with pytest.raises(UserError, match=r"cannot be read as JSON|no COCO results file"):
            read_given((f"x={file}",), [], plan)
    entries = perfect(index_of(Path(plan.data.source)))
    for names, message in ((("dfine",), "the name dfine is taken"), ((), "invalid variant name")):
        file.write_text(json.dumps(entries))
        text = f"dfine={file}" if names else f"../x={file}"
        with pytest.raises(UserError, match=message):
            read_given((text,), names, plan)
    with pytest.raises(UserError, match=r"expected NAME=FILE\.json"):
        read_given(("pred.json",), [], plan)
    own = dataclasses.replace(plan, predictions=read_given(given(file, entries), [], plan))
    file.write_text("[]")
    with pytest.raises(UserError, match="has changed since the study began"):
        measure_others(tmp_path, own)


def test_a_forged_plan_decides_no_place(plan: StudyPlan, tmp_path: Path) -> None:
    write_plan(tmp_path, dataclasses.replace(plan, predictions=(Prediction(name="../../x", file="x.json", digest="0"),)))
    with pytest.raises(UserError, match="not a valid plan of a study"):
        read_plan(tmp_path)
