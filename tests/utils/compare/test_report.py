"""The report's text: numbers, sentences, safety of the page, and that pictures come from trained models."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from tests.utils.compare.studies import HOSTILE, LONG, make_gallery, make_study
from utils.compare import report
from utils.compare.data_plan import SplitPlan
from utils.compare.page import sentences as words
from utils.compare.page.choose_images import choose, evenly_spaced, true_minus_false
from utils.compare.page.escape import html as escaped
from utils.compare.page.gallery_types import Gallery
from utils.compare.page.report_data import build_report_data
from utils.compare.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def page(study: Study) -> str:
    return report.html_page(study, build_report_data(study), make_gallery(study))


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.seen: list[str] = []
        self._inside = ""
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.raw:
            self.raw[self._inside].append(data)
        else:
            self.seen.append(data)


def test_means_and_deviations_are_those_of_the_runs(study: Study) -> None:
    row = next(v for v in build_report_data(study)["variants"] if v["name"] == "yolov5n-ca")
    values = [run.last.ap for run in study.runs_of("yolov5n-ca") if run.last]
    assert row["scores"]["ap"]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert row["scores"]["ap"]["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert row["differences"]["ap"] | {"visible": 0.0124} == row["differences"]["ap"]
    assert row["ratio"]["gflops"] == pytest.approx((1.03 + 0.06) / 1.03)
    assert math.isnan(row["scores"]["small"]["mean"])
    first = [run.last.per_class[0] for run in study.runs_of("yolov5n-ca") if run.last]
    assert (row["class_ap"][0], row["class_sd"][0]) == pytest.approx((np.mean(first), np.std(first, ddof=1)), abs=1e-12)


@pytest.mark.parametrize(("seeds", "shown"), [(3, "27, 26, 25"), (4, "24 to 27")])
def test_the_best_epochs_of_many_seeds_are_a_range(tmp_path: Path, seeds: int, shown: str) -> None:
    rows = build_report_data(make_study(tmp_path, hostile=False, seeds=seeds))["variants"]
    assert next(v for v in rows if v["name"] == "yolov5n-ca")["best_epochs"] == shown


def test_a_failed_variant_and_a_missing_seed_stay_in_sight(study: Study, page: str) -> None:
    rows = {v["name"]: v for v in build_report_data(study)["variants"]}
    assert rows["yolov5n-cot"]["seeds"] == {"done": 2, "wanted": 3}
    assert rows["yolov5n-hornet"]["word"] == "no verdict"
    assert "yolov5n-hornet, seeds 0, 1, 2: failed: row 8 (Oops): no module of that name" in page
    assert "yolov5n-cot, seed 2: not finished" in page
    assert "yolov5n-ca, seed 1: resumed after epoch 7" in page


def test_no_other_curve_than_that_of_the_seeds(study: Study) -> None:
    band = build_report_data(study)["curves"]["values"][1]["metrics/mAP_0.5:0.95"]
    last = [run.curve[-1]["metrics/mAP_0.5:0.95"] for run in study.runs_of("yolov5n-ca")]
    assert band["epoch"] == list(range(30))
    assert (band["mean"][-1], band["low"][-1], band["high"][-1]) == pytest.approx((np.mean(last), min(last), max(last)), abs=1e-6)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (("better", "worse"), "a is better than base by 1.00 AP; one is worse"),
        (("better", "better"), "Both variants are better than base"),
        (("better", "better", "no verdict"), "Two of three variants are better than base; no verdict on one"),
        (("not distinguishable",), "a is not distinguishable from base"),
        (("not distinguishable",) * 2, "Neither variant is distinguishable from base"),
        (("not distinguishable",) * 3, "None of the three variants is distinguishable from base"),
        (("not distinguishable", "not distinguishable", "worse"), "Two of three variants are not distinguishable from base; one is worse"),
        (("worse", "worse"), "Both variants are worse than base"),
        (("worse",), "a is worse than base"),
        (("no verdict",), "No verdict on a"),
        (("no verdict", "no verdict"), "No verdict on either variant"),
    ],
)
def test_the_headline_follows_from_the_verdicts(found: tuple[str, ...], sentence: str) -> None:
    common = {"baseline": False, "control_of": None, "differences": {"ap": {"mean": 0.01}}}
    variants = [{"name": "abc"[i], "word": word, **common} for i, word in enumerate(found)]
    control = {**common, "name": "control-a", "word": "better", "control_of": "a"}
    assert words.headline({"baseline": "base", "variants": [{"baseline": True, "word": "baseline"}, *variants, control]}) == sentence


def test_a_gain_that_size_alone_gives_too_is_called_that() -> None:
    price = {"ratio": dict.fromkeys(("parameters", "gflops", "latency_ms", "train_seconds"), math.nan)}
    gain = {"name": "ca", "word": "better", "reason": "", "control_of": None, "differences": {}, **price}
    direct = {"mean": 0.002, "interval": [-0.01, 0.014], "word": "not distinguishable"}
    control = {"name": "control-ca", "word": "better", "control_of": "ca", "reset": False, "direct": direct}
    assert words.finding(gain, {"variants": [gain, control]}) == (
        "Against its control control-ca, the baseline with equal capacity: +0.20 AP (−1.00 to +1.40), not distinguishable: the gain may "
        "come from capacity, not from the change."
    )
    direct["word"] = "better"
    assert words.finding(gain, {"variants": [gain, control]}).endswith("(−1.00 to +1.40), better.")
    direct["word"] = "not distinguishable"
    loss = {**gain, "word": "worse"}
    assert words.finding(loss, {"variants": [loss, {**control, "reset": True}]}).endswith(
        "without the same start weights: +0.20 AP (−1.00 to +1.40), not distinguishable: the loss may come from the start weights that it "
        "loses, not from the change."
    )
    control["direct"] = {}
    assert words.finding(gain, {"variants": [gain, control]}) == ""


def test_a_look_that_was_not_the_only_one_is_told(tmp_path: Path) -> None:
    study = make_study(tmp_path, hostile=False)
    plan = dataclasses.replace(study.plan, planned=2, looks=(2,))
    data = build_report_data(dataclasses.replace(study, plan=plan))
    assert words.notes(data, (), 0)[0] == "This is exploratory: 1 of the 3 seeds were added beyond the 2 planned."


def test_images_that_are_trained_on_are_named_first(study: Study) -> None:
    notes = words.notes(build_report_data(study), study.runs, overlap=48)
    assert notes[0].startswith("48 of the measured images are also trained on")


def test_the_page_loads_nothing_and_runs_only_what_its_policy_names(page: str) -> None:
    reader = Reader(page)
    policy = next(a["content"] or "" for tag, a in reader.elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for kind, body in (("style", reader.raw["style"][0]), ("script", reader.raw["script"][1])):
        assert f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in policy
    addresses = [a[key] or "" for _, a in reader.elements for key in ("src", "href", "action", "srcset") if key in a]
    assert addresses
    assert all(address.startswith(("#", "data:image/jpeg;base64,")) for address in addresses)
    assert not [a for _, a in reader.elements if any(name.startswith("on") or name == "style" for name in a)]
    assert len(page) < 8_000_000


def test_hostile_names_are_text_on_the_page(page: str) -> None:
    reader = Reader(page)
    assert not [a for tag, a in reader.elements if tag == "img" and a.get("src") == "x"]
    assert page.count("<script") == 2
    assert HOSTILE not in page
    assert escaped(HOSTILE) in page
    assert any(HOSTILE in text for text in reader.seen)
    data = json.loads(reader.raw["script"][0])
    assert [v["name"] for v in data["variants"]][4:6] == [LONG, HOSTILE]


def test_a_name_that_looks_like_a_field_of_the_template_stays_a_name(tmp_path: Path) -> None:
    study = make_study(tmp_path, hostile=False)
    plan = dataclasses.replace(study.plan, name="{{data}}{{script}}")
    page = report.html_page(dataclasses.replace(study, plan=plan), build_report_data(study), Gallery())
    assert "<title>{{data}}{{script}} · study</title>" in page
    assert not re.search(r"\{\{(?!data|script)\w+\}\}", page)


def test_results_json_has_everything_and_no_literal_that_is_not_json(study: Study) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    content = json.loads(report.results_json(study, build_report_data(study), make_gallery(study)), parse_constant=refuse)
    assert content["variants"][1]["differences"]["ap"]["interval"] == pytest.approx([0.0041, 0.0221])
    assert content["variants"][1]["scores"]["small"]["mean"] is None
    assert len(content["runs"]) == len(study.runs)
    assert content["protocol"]["Seeds"] == "0, 1, 2"
    assert content["energy"]["without_focus"] == 0.187
    assert content["energy"]["inside_true_boxes"]["yolov5n"] == {"share": 0.41, "images": 48, "seeds": 3, "difference": None}
    assert content["energy"]["inside_true_boxes"]["yolov5n-ca"]["difference"]["high"] == 0.07


def test_a_study_without_any_finished_run_has_a_report(tmp_path: Path) -> None:
    study = make_study(tmp_path, hostile=False)
    runs = tuple(dataclasses.replace(r, state="missing", last=None, best=None, curve=()) for r in study.runs)
    empty = dataclasses.replace(study, runs=runs, costs={}, comparisons={})
    report.write_report(empty)
    assert "No verdict on any of the four variants" in (tmp_path / "report.html").read_text(encoding="utf-8")
    expected = {"report.html", "results.json", "table.md", "table.tex", "figures", "runs"}
    assert {p.name for p in tmp_path.iterdir()} == expected
    names = {"forest", "pareto", "curves", "classes"}
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {f"{n}.{kind}" for n in names for kind in ("png", "svg")}


def test_shown_are_the_images_on_which_variants_differ_and_some_at_random() -> None:
    from utils.compare.match_store import StoredMatches

    def found(right: list[int], wrong: list[int]) -> StoredMatches:
        rows = [*right, *wrong]
        matched = np.zeros((len(rows), 10, 4), bool)
        matched[: len(right)] = True
        d = np.zeros(len(rows), np.int32)
        none = np.zeros(0, np.int32)
        score = np.full(len(rows), 0.9, np.float32)
        keys = np.arange(10, 20)
        return StoredMatches(
            ("a",), keys, np.array(rows, np.int32), d, score, matched, np.zeros_like(matched), none, none, np.zeros((0, 4), bool)
        )

    runs = [found([0, 1, 2, 7, 7], []), found([0, 1], [2, 5])]
    assert true_minus_false(runs[1]).tolist() == [1, 1, -1, 0, 0, -1, 0, 0, 0, 0]
    chosen = choose(runs, differing=2, at_random=2)
    assert [(c.image, "differ" in c.why) for c in chosen[:2]] == [(12, True), (17, True)]
    assert len({c.image for c in chosen}) == 4
    assert chosen == choose(runs, differing=2, at_random=2)
    assert evenly_spaced(list(range(10)), 4) == [0, 2, 5, 7]
    assert evenly_spaced([3, 4], 4) == [3, 4]


def test_pictures_come_from_the_trained_models(tmp_path: Path, tiny_dataset: Path) -> None:
    """Two runs with weights on disk, matches of these, and the data they name: scenes of all, and a share of energy in 0..1."""
    from models import build_model
    from utils.compare.evaluate_run import measure, open_splits
    from utils.compare.page.gallery import build_gallery
    from utils.device import select_device

    study = _trained(tmp_path, tiny_dataset, build_model)
    index = open_splits(study.plan)["val"]
    for run in study.runs:
        if run.state == "done":
            measure(study.plan, run.folder, index, select_device("cpu"), 0, same=True)
    shown = build_gallery(study)
    assert shown.notes == ()
    assert len(shown.scenes) == 4
    scene = shown.scenes[0]
    assert set(scene.pictures) == {"yolov5n", "yolov5n-ca"}
    assert all(p.jpeg[:3] == b"\xff\xd8\xff" for p in scene.pictures["yolov5n-ca"] if p.view != "attention")
    assert [p.view for p in scene.pictures["yolov5n"]][:2] == ["boxes", "cam"]
    assert {f.images for f in shown.energy.values()} <= {0, 1, 2, 3, 4}
    assert 0 < shown.uniform_share < 1
    assert "Images" in report.html_page(study, build_report_data(study), shown)
    other = {"val": SplitPlan(images=4, objects=0, digest="another")}
    changed = dataclasses.replace(study, plan=dataclasses.replace(study.plan, data=dataclasses.replace(study.plan.data, splits=other)))
    assert build_gallery(changed).notes == (f"No images can be shown: {tiny_dataset}: the val split has changed since it was measured",)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.explain.rendering.attention_maps", _failing)
        assert build_gallery(study).notes[1] == "yolov5n-ca cannot be shown: an odd block"
    (study.runs[1].folder / "weights" / "last.pt").write_bytes(b"damaged")
    some = build_gallery(study)
    assert some.notes[0].startswith("yolov5n-ca cannot be shown: ")
    assert set(some.scenes[0].pictures) == {"yolov5n"}


def test_data_that_are_gone_are_told_and_the_report_goes_on(tmp_path: Path) -> None:
    from utils.compare.page.gallery import build_gallery

    notes = build_gallery(make_study(tmp_path, hostile=False)).notes
    assert len(notes) == 1
    assert notes[0].startswith("No images can be shown: ")


def _failing(*_: object) -> None:
    raise RuntimeError("an odd\n  block")


def _trained(folder: Path, data: Path, build_model: object) -> Study:
    from utils.compare.provenance import data_digest
    from utils.data.config import load_data
    from utils.data.scan import load_index
    from utils.training.checkpoint import save_checkpoint

    names = tuple(load_data(data).names.values())
    study = make_study(folder, hostile=False, names=names)
    flags = {"imgsz": 64, "batch_size": 4, "epochs": 1, "single_cls": False, "classes": None, "nms": "hard"}
    splits = {"val": SplitPlan(images=4, objects=0, digest=data_digest(load_index(load_data(data), "val")))}
    plan_data = dataclasses.replace(study.plan.data, source=str(data), names=names, splits=splits)
    plan = dataclasses.replace(study.plan, data=plan_data, flags=flags, variants=study.plan.variants[:2], seeds=(0,))
    runs = tuple(dataclasses.replace(r, curve=()) for r in study.runs if r.seed == 0 and r.variant in ("yolov5n", "yolov5n-ca"))
    for run in runs:
        (run.folder / "weights").mkdir(parents=True)
        model = build_model(f"{run.variant}.yaml", names=dict(enumerate(names)))  # type: ignore[operator]
        content = {"attune": 1, "spec": model.spec.to_dict(), "names": model.names, "model": model.state_dict(), "ema": None}
        for which in ("last", "best"):
            save_checkpoint(
                run.folder / "weights" / f"{which}.pt", {**content, "config": {}, "hyp": {}, "resume": None, "epoch": 0, "metrics": {}}
            )
    return Study(folder=folder, plan=plan, runs=runs, costs={}, comparisons={})
