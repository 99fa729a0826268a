"""Small files that ask for very much work: keys that all have one hash, boxes, lists and paths without end, exported files' metadata."""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.hostile_names import named_dataset

Entry = tuple[str, Any, str | None]

ONE_HASH = [1 + number * ((1 << 61) - 1) for number in range(20_000)]
"""Python's hash of a whole number is its remainder by 2**61 - 1."""
POWERS = [0.5 * 2.0 ** (-61 * number) for number in range(17)]
"""All with one hash too."""


def labels() -> dict[str, str]:
    """Label files of one image."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0.1, 0.9, (32_000, 2))
    return {
        "32 000 boxes that overlap": "".join(f"0 .5 {y:.6f} .9 .01\n" for _, y in places),
        "32 000 boxes of one place": "".join(f"0 .5 .5 {0.9 + number * 1e-6:.6f} .9\n" for number in range(32_000)),
        "32 000 tiny boxes": "".join(f"0 {x:.6f} {y:.6f} .001 .001\n" for x, y in places),
        "20 000 boxes of one hash": "".join(
            f"0 {x!r} {y!r} {w!r} {h!r}\n" for x, y, w, h in itertools.islice(itertools.product(POWERS, repeat=4), 20_000)
        ),
        "300 000 lines of three columns": "0 .5 .5\n" * 300_000,
        "a polygon of 600 000 points": "0" + " .1 .2" * 600_000 + "\n",
        "a line of two megabytes": "1" * (2 << 20),
        "two million empty lines": "\n" * (2 << 20),
    }


def jsons() -> dict[str, tuple[dict[str, Any], str | None]]:
    """COCO files, and how they are refused."""
    image, category = {"id": 1, "file_name": "0.png"}, {"id": 0, "name": "x"}
    boxes = [{"id": key, "image_id": 1, "category_id": key, "bbox": [1, 1, 9, 9]} for key in ONE_HASH]
    deep = [{"id": key, "file_name": "a/" * 300 + f"{key}.png"} for key in range(2000)]
    return {
        "images of one hash": ({"images": [{"id": key, "file_name": "0.png"} for key in ONE_HASH], "categories": [category]}, None),
        "negative ids of one hash": ({"images": [{"id": -key, "file_name": "0.png"} for key in ONE_HASH], "categories": [category]}, None),
        "categories of one hash": ({"images": [image], "categories": [{"id": k, "name": str(k)} for k in ONE_HASH]}, "needs an id"),
        "annotations of one hash": ({"images": [image], "categories": [category], "annotations": boxes}, None),
        "paths of 300 folders": ({"images": deep, "categories": [category]}, None),
    }


def lists() -> dict[str, str]:
    """Lists of images."""
    return {
        "20 000 missing images": "".join(f"images/train/gone{number}.jpg\n" for number in range(20_000)),
        "5000 missing folders": "".join(f"gone{number}/{number}.jpg\n" for number in range(5000)),
        "a path of 500 000 folders": "a/" * 500_000 + "x.jpg\n",
        "one image 100 000 times": "images/train/0.png\n" * 100_000,
    }


def work(folder: Path, canary: Path) -> Iterator[Entry]:
    """Every attack by way of work out of proportion."""
    from utils.data.doctor.diagnosis import diagnose
    from utils.data.doctor.report import as_text

    def diagnosed(path: Path) -> None:
        assert list(as_text(diagnose(path, imgsz=640, distance=10), 5))

    for at, (name, text) in enumerate(labels().items()):
        data = named_dataset(folder / f"labels{at}", ["x"])
        (data.parent / "labels" / "train" / "0.txt").write_text(text)
        yield f"doctor: {name}", lambda data=data: diagnosed(data), None
    for at, (name, (content, refusal)) in enumerate(jsons().items()):
        path = named_dataset(folder / f"coco{at}", ["x"]).with_name("instances.json")
        path.write_text(json.dumps(content))
        yield f"doctor: COCO, {name}", lambda path=path: diagnosed(path), refusal
    for at, (name, text) in enumerate(lists().items()):
        data = named_dataset(folder / f"list{at}", ["x"])
        data.with_name("list.txt").write_text(text)
        data.write_text(data.read_text().replace("train: images/train", "train: list.txt"))
        yield f"doctor: a list, {name}", lambda data=data: diagnosed(data), None
    yield from _drawn(folder)
    yield from _exported(folder)


def _drawn(folder: Path) -> Iterator[Entry]:
    from utils.evaluation.charts import plot_confusion

    matrix = np.eye(3000, dtype=np.int64)
    yield "charts: a confusion matrix of 3000 classes", lambda: plot_confusion(folder / "a.png", matrix, ["x"] * 2999), None


def _exported(folder: Path) -> Iterator[Entry]:
    from utils.inference.runtimes.exported import RUNTIMES
    from utils.inference.runtimes.metadata import parse_metadata

    tuples = itertools.islice(itertools.product(POWERS, repeat=4), 8000)
    for name, text in {
        "names by numbers of one hash": "{" + ", ".join(f"{key}: 'x'" for key in ONE_HASH) + "}",
        "names by tuples of one hash": "{" + ", ".join(f"{key}: 'x'" for key in tuples) + "}",
        "a set of one hash": "{" + ", ".join(map(str, ONE_HASH)) + "}",
        "brackets": "(" * 200_000,
        "signs": "-" * 500_000 + "1",
        "a call": "__import__('os').system('touch $ATTUNE_CANARY')",
        "digits": "9" * 1_000_000,
    }.items():
        yield f"exported: {name}", lambda text=text: parse_metadata({"names": text}, "a.onnx"), "lists no class names"

    def opened(suffix: str, at: int, files: dict[str, Any]) -> None:
        import torch

        path = folder / f"{at}{suffix}"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"a/{name}", content if isinstance(content, (str, bytes)) else json.dumps(content))
        RUNTIMES[suffix](path, torch.device("cpu"))

    for at, expression in enumerate(
        ("ops.aten.save(x)", "torch.save(x, 'y')", "fork(f, x)", "torch.from_file('/etc/passwd')", "ops.c10d.allreduce(x)", "torch._C.x(x)")
    ):
        code = f"class M(Module):\n  def forward(self, x):\n    return {expression}\n"
        yield f"torchscript: {expression}", lambda at=at, code=code: opened(".torchscript", at, {"code/__torch__.py": code}), "refused"
    model = "models/model.json"
    for at, (name, files) in enumerate(
        {
            "a target of Python": {model: {"target": "os.system"}},
            "a target of two lines": {model: {"target": "torch.ops.aten.add\nimport os"}},
            "a higher-order operator": {model: {"target": "torch.ops.higher_order.cond"}},
            "a formula that calls": {model: {"expr_str": "open('x')"}},
            "a formula that nests": {model: {"expr_str": "(" * 10_000}},
            "pickled weights": {model: {}, "data/weights/model_weights_config.json": {"w": {"use_pickle": "false"}}},
            "native code": {model: {}, "data/aotinductor/x.so": "x"},
            "a file upwards": {model: {}, "../../x": "y"},
            "JSON that nests": {model: "[" * 200_000},
        }.items()
    ):
        yield f"pt2: {name}", lambda at=at, files=files: opened(".pt2", at, files), "refused|damaged"
