"""Made-up studies for the tests of the report: seven variants, of which one failed and one misses a seed, hostile names, drawn pictures."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.utils.compare.synthetic import Scenes, detect, draw_scenes
from utils.compare.costs import CostMeasurement, Ratio
from utils.compare.data_plan import DataPlan, SplitPlan
from utils.compare.error_figures import ERRORS
from utils.compare.intervals import Difference, Interval
from utils.compare.others import matches_file
from utils.compare.page.gallery_types import CamEnergy, Gallery, GalleryScene, Picture
from utils.compare.prediction import Prediction
from utils.compare.resampled_ap import Scores, average_precision
from utils.compare.statistics import Comparison, verdict
from utils.compare.study import FIGURES, RunResult, StartingPoint, Study, StudyPlan, Variant
from utils.compare.tuning_plan import Tuned, TuningPlan
from utils.compare.verdicts import compare

HOSTILE = "</script><img src=x onerror=alert(1)>=1+1|`$\\input{x}$&_"
LONG = "yolov5n-coordinate-attention-after-every-stage-of-the-neck-with-gate-zero-and-reduction-thirty-two"
GAINS = {
    "yolov5n": 0.0,
    "yolov5n-ca": 0.0131,
    "yolov5n-cot": 0.004,
    "yolov5n-bot": -0.017,
    LONG: 0.001,
    HOSTILE: -0.002,
    "yolov5n-hornet": 0.0,
}
WORDS = {"yolov5n-ca": "better", "yolov5n-bot": "worse", "yolov5n-cot": "no verdict", "yolov5n-hornet": "no verdict"}
FRUITS = ("apple", "banana", "orange")


def make_study(
    folder: Path, *, hostile: bool = True, seeds: int = 3, epochs: int = 30, names: tuple[str, ...] = FRUITS, level: float = 0.42
) -> Study:
    """A study as `load_study` returns one; nothing of it was trained. Without `hostile`, only names that a person would choose."""
    rng = np.random.default_rng(0)
    names = (*names[:-1], HOSTILE) if hostile else names
    arms = {n: g for n, g in GAINS.items() if hostile or n not in (HOSTILE, LONG)}
    arms["yolov5n-ca-control"] = 0.0006
    variants = tuple(_variant(name, number) for number, name in enumerate(arms))
    runs = tuple(_run(folder, rng, name, gain, seed, epochs, len(names), level) for name, gain in arms.items() for seed in range(seeds))
    costs = {v.name: _cost(v, number) for number, v in enumerate(variants) if v.name != "yolov5n-hornet"}
    comparisons = {name: _comparison(rng, name, gain, runs, len(names)) for name, gain in arms.items() if name != "yolov5n"}
    return Study(folder=folder, plan=_plan(variants, seeds, epochs, names), runs=runs, costs=costs, comparisons=comparisons)


def _variant(name: str, number: int) -> Variant:
    edits = ("after 8: insert [1, CoordAtt, [32]], gate zero", "replace 6: [3, C3CoT, [512]]")[: 1 + number % 2] if number else ()
    return Variant(
        name=name,
        cfg=f"models/{name}.yaml",
        baseline=not number,
        control_of="yolov5n-ca" if name.endswith("control") else None,
        edits=("width_multiple 0.25 -> 0.2617",) if name.endswith("control") else edits,
        parameters=1_765_270 + 61_234 * number,
        gflops=1.03 + 0.06 * number,
        error="row 8 (Oops): no module of that name" if name == "yolov5n-hornet" else "",
    )


def _run(folder: Path, rng: np.random.Generator, name: str, gain: float, seed: int, epochs: int, nc: int, level: float) -> RunResult:
    safe = name if re.fullmatch(r"[\w.-]{1,200}", name, re.ASCII) else str(zlib.crc32(repr(name).encode()))
    where = folder / "runs" / safe / f"seed{seed}"
    if name == "yolov5n-hornet":
        return RunResult(variant=name, seed=seed, state="failed", error="row 8 (Oops): no module of that name", folder=where)
    level = level + gain + 0.006 * math.sin(7 * seed) + rng.normal(0, 0.0025)
    curve = tuple(_epoch(rng, level, e, epochs) for e in range(epochs))
    if name == "yolov5n-cot" and seed == 2:
        return RunResult(variant=name, seed=seed, state="missing", folder=where, curve=curve[:4])
    where.mkdir(parents=True)
    detect(np.random.default_rng(seed), draw_scenes(np.random.default_rng(0), 20), 2.0 + gain).save(where / "last.npz")
    last = _scores(rng, level, nc)
    best = _scores(rng, level + 0.008, nc)
    made = {"data": "6f1c…", "torch": "2.15.0", "device": "cpu"}
    return RunResult(
        variant=name,
        seed=seed,
        state="done",
        folder=where,
        split="val",
        epochs=epochs,
        last=last,
        best=best,
        best_epoch=epochs - 3 - seed,
        curve=curve,
        train_seconds=412.5 + seed,
        train_memory_mb=1233,
        made_with=made,
        start=StartingPoint(tensors=349, of=349, share=0.98, ap=0.28, own_classes=False) if name == "yolov5n-ca" else None,
        notes=("resumed after epoch 7",) if (name, seed) == ("yolov5n-ca", 1) else (),
    )


def _scores(rng: np.random.Generator, level: float, nc: int) -> Scores:
    return Scores(level, level + 0.21, level + 0.02, math.nan, level - 0.1, level + 0.12, level + rng.normal(0, 0.03, nc))


def _epoch(rng: np.random.Generator, level: float, e: int, epochs: int) -> dict[str, float]:
    ap = level * (1 - math.exp(-5 * (e + 1) / epochs)) + rng.normal(0, 0.005)
    loss = 0.02 + 0.09 * math.exp(-4 * e / epochs)
    terms = {f"{part}/{term}_loss": loss * k for part in ("train", "val") for term, k in (("box", 1.0), ("obj", 0.5), ("cls", 0.3))}
    return {
        "epoch": float(e),
        "metrics/mAP_0.5:0.95": ap,
        "metrics/mAP_0.5": ap + 0.2,
        "metrics/precision": ap + 0.3,
        "metrics/recall": ap + 0.1,
        **terms,
    }


def _cost(variant: Variant, number: int) -> CostMeasurement:
    latency = 21.5 + 2.1 * number
    return CostMeasurement(
        parameters=variant.parameters,
        gflops=variant.gflops,
        latency_ms=latency,
        latency_p95_ms=latency * 1.2,
        images_per_second=1300 / latency,
        memory_mb=310 + 11 * number,
        train_memory_mb=1200 + 80 * number,
        train_seconds=380 + 31.0 * number,
        ratios={
            "latency_ms": Ratio(latency / 21.5, latency / 21.6, latency / 21.4),
            "images_per_second": Ratio(21.5 / latency, 21.4 / latency, 21.6 / latency),
            "train_seconds": Ratio(1 + 0.08 * number, 0.98 + 0.08 * number, 1.02 + 0.08 * number),
        },
        batch=16,
        device="CPU, 2 cores",
        threads=2,
    )


def _comparison(rng: np.random.Generator, name: str, gain: float, runs: tuple[RunResult, ...], nc: int) -> Comparison:
    word = WORDS.get(name, "not distinguishable")
    if name == "yolov5n-hornet":
        nothing = dict.fromkeys((*FIGURES, *ERRORS), math.nan)
        return Comparison(name, "yolov5n", (), nothing, None, {}, (None,) * nc, None, (), word, "no seed of it is done")
    width, p = (0.009, 0.024) if word in ("better", "worse") else (0.016, 0.44)
    differences = {key: gain + k / 1000 for k, key in enumerate((*FIGURES, *ERRORS))}
    ap, *others = (Interval(d, d - width, d + width, p, 0.003, 0.001, 14) for d in differences.values())
    classes = tuple(Interval(d, d - 0.04, d + 0.04, 0.4, 0.01, 0.02, 14) for d in (gain + rng.normal(0, 0.02, nc)).tolist())
    faults = ["seed 2 of yolov5n-cot is missing"] if word == "no verdict" else []
    said, reason = verdict(Difference(ap, 2.9, (False, False), identical=False), faults=faults)
    assert said == word
    figures: dict[str, Interval | None] = dict(zip((*FIGURES[1:], *ERRORS), others, strict=True))
    differences["small"], figures["small"] = math.nan, None
    return Comparison(name, "yolov5n", (0, 1, 2), differences, ap, figures, classes, 0.0124, (), word, reason)


def _plan(variants: tuple[Variant, ...], seeds: int, epochs: int, names: tuple[str, ...]) -> StudyPlan:
    splits = {"train": SplitPlan(images=192, objects=371, digest="6f1c" * 16), "val": SplitPlan(images=48, objects=92, digest="a09b" * 16)}
    return StudyPlan(
        name="study",
        command="python compare.py --cfgs models/yolov5n.yaml models/yolov5n-{ca,cot,bot,hornet}.yaml --data fruits.yaml --seeds 3",
        variants=variants,
        seeds=tuple(range(seeds)),
        planned=seeds,
        data=DataPlan(source="fruits.yaml", names=names, splits=splits, measured="val"),
        weights="yolov5n.pt",
        weights_digest="4f83" * 16,
        flags={"epochs": epochs, "imgsz": 320, "batch_size": 16, "optimizer": "SGD"},
        hyp={"lr0": 0.01, "lrf": 0.01, "momentum": 0.937},
        plugins={},
        metric="COCO AP, 101 points, 100 detections",
        threads=1,
        control=("params",),
        versions={"code": "1f" * 8, "python": "3.11.9", "torch": "2.15.0"},
    )


def make_gallery(study: Study, scenes: int = 3) -> Gallery:
    """Drawn pictures: each variant's differ, so that a test can tell them apart."""
    shown = [v for v in study.variants if v.name != "yolov5n-hornet"]
    out = []
    for number in range(scenes):
        pictures = {}
        for place, v in enumerate(shown):
            views = [Picture(view=view, jpeg=_jpeg(number, place, view), caption="2 found, 1 missed") for view in ("boxes", "cam")]
            maps = _jpeg(number, place, "attention") if place % 3 == 1 else b""
            pictures[v.name] = [
                *views,
                Picture(view="attention", jpeg=maps, caption="8 CoordAtt" if maps else "this model has no attention block"),
            ]
        name = HOSTILE + ".jpg" if number == 1 else f"mixed_{number}.jpg"
        out.append(
            GalleryScene(
                name=name,
                why="the variants differ most here",
                size=(180, 240),
                truth=_jpeg(number, 9, "truth"),
                truth_caption="2 objects",
                pictures=pictures,
            )
        )
    energy = {v.name: CamEnergy(0.41 + 0.03 * i, 48, 3, Interval(0.03 * i, -0.01, 0.07, 0.2, 0.01, 0.02, 14)) for i, v in enumerate(shown)}
    energy["yolov5n"] = CamEnergy(0.41, 48, 3)
    return Gallery(scenes=tuple(out), energy=energy, uniform_share=0.187, seed=0)


def make_factorial(folder: Path, *, folds: int = 0) -> Study:
    """A study with every section that a page may have, of drawn detections: two factors, pairs, and an arm that ended early; without
    `folds` tuned arms and predictions of others, too."""
    made = make_study(folder / "made", hostile=False, epochs=4, names=("a", "b"))
    names = ("yolov5n", "ca", LONG, f"ca+{LONG}", HOSTILE)
    skills = dict(zip(names, (1.2, 1.9, 1.4, 2.3, 0.1), strict=True))
    seeds = range(2 * folds or 3)
    why = f"stopped after 1 of {len(seeds)} seeds: seed 0 failed"
    runs = drawn_runs(folder, made.runs[0], draw_scenes(np.random.default_rng(0), 40), skills, seeds, "done")
    ended = {"last": None, "best": None, "curve": (), "error": why}
    runs = [dataclasses.replace(r, state="stopped", **ended) if r.variant == HOSTILE and r.seed else r for r in runs]
    arms = [Variant(name=n, cfg="models/yolov5n.yaml", baseline=n == "yolov5n", parameters=1_765_270, gflops=1.03) for n in names]
    data = dataclasses.replace(made.plan.data, folds=folds, groups=tuple(range(240)) if folds else ())
    own: dict[str, Any] = {
        "variants": tuple(arms),
        "data": data,
        "control": (),
        "weights": "",
        "seeds": tuple(seeds),
        "planned": len(seeds),
    }
    if not folds:
        tuned = Tuned(values={"lr0": 0.02, "weight_decay": 0.0007}, trial=2, scores=(0.31, None, 0.334))
        own["variants"] = tuple(dataclasses.replace(arm, tuned=tuned) for arm in arms)
        own["tuning"] = TuningPlan(trials=3, search="random", space=("lr0=1e-05:0.1:log", "weight_decay=1e-05:0.001:log"))
        own["predictions"] = tuple(Prediction(name=name, file="pred.json", digest="0") for name in ("dfine", f"{LONG}-2"))
        (folder / "predictions").mkdir()
        for number, prediction in enumerate(own["predictions"]):
            detections = detect(np.random.default_rng(9), draw_scenes(np.random.default_rng(0), 40), 2.0 - number)
            detections.save(matches_file(folder, prediction.name))
    plan = dataclasses.replace(made.plan, factors=("ca", LONG), pairs=("all",), stop_hopeless=2.0, **own)
    return compare(Study(folder=folder, plan=plan, runs=tuple(runs), costs={}, comparisons={}), 100)


def _jpeg(number: int, place: int, view: str) -> bytes:
    y, x = np.mgrid[0:180, 0:240]
    centre = (60 + 20 * number + 5 * place, 90 + 10 * place)
    heat = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 1800) * 255
    image = np.stack([90 + 0.3 * x, 120 + 0.2 * y, 100 + 0.2 * x], 2).clip(0, 255).astype(np.uint8)
    if view != "boxes":
        colour = cv2.applyColorMap(heat.astype(np.uint8), cv2.COLORMAP_TURBO if view == "cam" else cv2.COLORMAP_VIRIDIS)
        image = cv2.addWeighted(image, 0.5, colour, 0.5, 0)
    cv2.rectangle(image, (centre[1] - 40, centre[0] - 35), (centre[1] + 40, centre[0] + 35), (60, 220, 90), 2)
    return bytes(cv2.imencode(".jpg", image)[1].tobytes())


def drawn_runs(
    folder: Path, template: RunResult, scenes: Scenes, skills: Mapping[str, float], seeds: Sequence[int], undone: str
) -> list[RunResult]:
    """A run of each detector and seed on the same scenes, with its matches in `folder`; a detector of skill 0 has the state `undone`."""
    runs = []
    for (name, skill), seed in itertools.product(skills.items(), seeds):
        where = folder / "runs" / name / f"seed{seed}"
        where.mkdir(parents=True)
        matches = detect(np.random.default_rng(seed), scenes, skill)
        matches.save(where / "last.npz")
        scores = average_precision(matches)
        done = dataclasses.replace(template, variant=name, seed=seed, folder=where, last=scores, best=scores)
        runs.append(done if skill else dataclasses.replace(done, state=undone, last=None, best=None))
    return runs
