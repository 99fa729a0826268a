"""Studies from someone else: fields that are missing, unknown or of another type, arrays that do not fit, pipes in place of files.

Each is refused by a `UserError`, or the damaged part counts as missing and is measured again.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.faults.tally import Tally
from tests.utils.compare.studies import make_study
from utils.compare.checksummed_json import write_json
from utils.compare.costs import CostMeasurement
from utils.compare.load import load_study
from utils.compare.match_store import StoredMatches
from utils.compare.plan_io import write_plan
from utils.compare.results_csv import write_results
from utils.compare.study import run_folder
from utils.errors import UserError
from utils.files.checksum import write_checksum

Content = dict[str, Any]
Case = tuple[str, Callable[[Path], None]]

VALUES: tuple[Any, ...] = (None, 5, -1, "x", [], {}, [[]], True, "\udcff\x1b", {"a": {"b": []}})
NAMES = ("../x", "a/b", "..", "", "a\0b", "\udcff", "x" * 300, ".hidden", "CON", "a\nb")
RESULT: Content = {
    **{"variant": "", "seed": 0, "state": "done", "error": "", "split": "val", "epochs": 2, "best_epoch": 1, "train_seconds": 1.0},
    **{"train_memory_mb": 1.0, "made_with": {"code": "x"}, "notes": [], "files": {}, "last": None, "best": None, "start": None},
}
MATCHES: dict[str, Any] = {
    **{"version": np.array(1), "names": np.array(json.dumps(["a", "b"])), "images": np.arange(3), "image": np.zeros(2, np.int32)},
    **{"cls": np.zeros(2, np.int32), "score": np.ones(2, np.float32), "matched": np.zeros(10, np.uint8), "ignored": np.zeros(10, np.uint8)},
    **{"object_image": np.zeros(1, np.int32), "object_cls": np.zeros(1, np.int32), "object_area": np.ones((1, 4), bool)},
}


def run(folder: Path, *, short: bool) -> Tally:
    """Read a copy of the same study with each forgery."""
    tally = Tally("forged")
    straight = folder / "straight"
    straight.mkdir()
    study = make_study(straight, hostile=False, seeds=2, epochs=2)
    write_plan(straight, study.plan)
    cost = dataclasses.asdict(next(iter(study.costs.values())))
    cases = [*_plans(straight), *_costs(study.plan.baseline.name, cost), *_results(study.plan.baseline.name), *_arrays(), *_pipes()]
    for number, (what, forge) in enumerate(cases[:: 5 if short else 1]):
        place = shutil.copytree(straight, folder / str(number))
        wrong = ""
        try:
            with contextlib.suppress(UserError):
                forge(place)
        except Exception as error:  # noqa: BLE001  a traceback is what is looked for
            wrong = f"{type(error).__name__}: {str(error)[:200]}"
        tally.fault(not wrong, f"{what}: {wrong}")
    return tally


def _read(place: Path) -> None:
    study = load_study(place)
    study.records()
    write_results(study)


def _plans(straight: Path) -> Iterator[Case]:
    plan: Content = yaml.safe_load((straight / "study.yaml").read_text())

    def forged(change: Callable[[Content], object]) -> Callable[[Path], None]:
        def forge(place: Path) -> None:
            content = copy.deepcopy(plan)
            change(content)
            (place / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
            _read(place)

        return forge

    parts: dict[str, Callable[[Content], Content]] = {
        "plan": lambda p: p,
        "dataset": lambda p: p["data"],
        "split": lambda p: p["data"]["splits"]["val"],
        "variant": lambda p: p["variants"][1],
        "flags": lambda p: p["flags"],
    }
    for part, get in parts.items():
        for number, key in enumerate(get(plan)):
            value = VALUES[number % len(VALUES)]
            yield f"{part}: {key} is {value!r:.20}", forged(lambda p, get=get, key=key, value=value: get(p).update({key: value}))  # type: ignore[misc]
            yield f"{part}: no {key}", forged(lambda p, get=get, key=key: get(p).pop(key))  # type: ignore[misc]
        yield f"{part}: a field more", forged(lambda p, get=get: get(p).update(more=1))  # type: ignore[misc]
    for name in NAMES:
        yield f"a variant called {name!a:.20}", forged(lambda p, name=name: p["variants"][1].update(name=name))  # type: ignore[misc]


def _costs(variant: str, cost: Content) -> Iterator[Case]:
    kinds = {field.name: str(field.type) for field in dataclasses.fields(CostMeasurement)}
    for key, kind in kinds.items():
        for value in ("x", None, [], 1 << 80):
            if (kind, value) not in (("str", "x"), ("float", None)):  # NaN, which JSON has as null
                yield f"costs: {key} is {value!r:.10}", _cost(variant, {**cost, key: value})
    yield "costs: a field more", _cost(variant, {**cost, "more": 1})
    for value in (None, [], "x", {}):
        yield f"costs: {value!r}", _cost(variant, value)


def _cost(variant: str, value: Any) -> Callable[[Path], None]:
    def forge(place: Path) -> None:
        write_json(place / "costs.json", {variant: value})
        assert variant not in load_study(place).costs, "taken as it is"

    return forge


def _results(variant: str) -> Iterator[Case]:
    figures = dict.fromkeys(("ap", "ap50", "ap75", "small", "medium", "large"), 0.5) | {"per_class": [0.5]}
    changes: list[Content] = [{key: value} for key in RESULT for value in (None, "x", 5, [1], {"a": 1})]
    changes += [{"last": {**figures, key: value}} for key in figures for value in ("x", {})]
    changes += [{"last": figures, "best": figures, "files": files} for files in ({}, {"../../../study.yaml": "x"}, {"last.npz": "x"})]
    for change in changes:

        def forge(place: Path, change: Content = change) -> None:
            folder = run_folder(place, variant, 0)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "result.json", {**RESULT, "variant": variant, **change})
            assert load_study(place).run(variant, 0).state == "missing", "taken as it is"

        yield f"result: {change!r:.60}", forge


def _arrays() -> Iterator[Case]:
    changes: list[tuple[str, Any]] = [(key, None) for key in MATCHES]
    changes += [(key, value) for key in MATCHES for value in (np.array("x"), np.full((2, 2), 7), np.zeros(0, np.float64))]
    changes += [("score", np.full(2, np.nan, np.float32)), ("cls", np.full(2, 9, np.int32)), ("image", np.full(2, -1, np.int32))]
    changes += [("names", np.array("[" * 50_000)), ("images", np.zeros(70_000_000, np.int64)), ("more", np.zeros(1))]
    for key, value in changes:

        def forge(place: Path, key: str = key, value: Any = value) -> None:
            path = place / "last.npz"
            with path.open("w+b") as file:
                np.savez_compressed(file, **{k: v for k, v in (MATCHES | {key: value}).items() if v is not None})
                write_checksum(file)
            StoredMatches.load(path)
            raise AssertionError("taken as it is")

        yield f"matches: {key} is {value!r:.20}", forge


def _pipes() -> Iterator[Case]:
    for name in ("study.yaml", "costs.json", "comparisons.json", "models/yolov5n.yaml"):

        def forge(place: Path, name: str = name) -> None:
            (place / name).unlink(missing_ok=True)
            (place / name).parent.mkdir(exist_ok=True)
            os.mkfifo(place / name)
            load_study(place)

        yield f"a pipe as {name}", forge
