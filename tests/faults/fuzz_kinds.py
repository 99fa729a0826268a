"""What is fuzzed: for each kind a function that prepares its samples in a folder and returns one that reads a spoilt sample."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.faults.fuzz_mutations import NASTY, spoil_bytes, spoil_tokens, spoil_tree

Reader = Callable[[random.Random], object]

TINY: dict[str, Any] = {
    "nc": 2,
    "depth_multiple": 0.33,
    "width_multiple": 0.25,
    "anchors": [[10, 13, 16, 30], [30, 61, 62, 45]],
    "activation": "nn.LeakyReLU(0.1)",
    "backbone": [[-1, 1, "Conv", [32, 3, 2]], [-1, 3, "C3", [32, False]], [-1, 1, "Conv", [64, 3, 2]], [-1, 1, "SPPF", [64, 5]]],
    "head": [
        *(
            [-1, 1, "CoordAtt", [16]],
            [-1, 1, "Conv", [64, 1, 1]],
            [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
            [[-1, 1], 1, "Concat", [1]],
        ),
        *([-1, 2, "C3", [64]], [[8, 5], 1, "Detect", ["nc", "anchors"]]),
    ],
}
VARIANT: dict[str, Any] = {
    "base": "tiny.yaml",
    "nc": 3,
    "edits": [
        {"after": 1, "insert": [1, "SE", []], "gate": "zero"},
        {"replace": 4, "with": [1, "CBAM", {"reduction": 8}]},
        {"after": 5, "insert": [-1, 1, "BoT3", [64]]},
        {"remove": 3},
    ],
}
NAMES = ["cat", "traffic light"]


def _text(tree: Any, rng: random.Random, dump: Callable[[Any], str]) -> bytes:
    """A spoilt document: by its tree, its tokens or its bytes."""
    way = rng.randrange(4)
    if way < 2:
        try:
            return dump(spoil_tree(tree, rng)).encode(errors="surrogatepass")
        except yaml.YAMLError:
            return b""
    data = dump(tree).encode()
    return spoil_tokens(data, rng) if way == 2 else spoil_bytes(data, rng)


def model(folder: Path) -> Reader:
    """Model YAMLs, classic and variant, up to the built layers (without their memory)."""
    import torch

    from models.build import build_layers
    from models.spec.model_spec import ModelSpec

    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    path = folder / "case.yaml"

    def build() -> object:
        spec = ModelSpec.from_yaml(path)
        with torch.device("meta"):
            build_layers(spec)
        return ModelSpec.from_dict(spec.to_dict(), "again")

    for sample in (TINY, VARIANT):  # what PyTorch imports on the way is not charged to the first case that gets so far
        path.write_text(yaml.safe_dump(sample))
        build()

    def read(rng: random.Random) -> object:
        path.write_bytes(_text(rng.choice((TINY, VARIANT)), rng, yaml.safe_dump))
        return build()

    return read


def data(folder: Path) -> Reader:
    """Data YAMLs, up to the index of every split."""
    from utils.data.config import load_data
    from utils.data.scan import load_index

    _images(folder)
    sample = {
        "path": ".",
        "train": "images",
        "val": ["images", "list.txt"],
        "test": None,
        "nc": 2,
        "names": NAMES,
        "download": None,
        "sha256": None,
    }
    split = {"train": {"images": "images", "annotations": "labels"}, "val": "images", "names": dict(enumerate(NAMES))}
    (folder / "list.txt").write_text("images/0.png\n./images/1.png\n")
    path = folder / "case.yaml"
    path.touch()
    cache = folder / "list.txt" / "cache"  # where none can be made

    def read(rng: random.Random) -> object:
        path.write_bytes(_text(rng.choice((sample, split)), rng, yaml.safe_dump))
        config = load_data(path)
        return [load_index(config, name, cache_dir=cache).report for name in config.splits]

    return read


def hyp(folder: Path) -> Reader:
    """Hyper-parameter YAMLs."""
    from utils.config import Hyp, load_hyp

    sample = dataclasses.asdict(Hyp())
    path = folder / "case.yaml"
    path.touch()

    def read(rng: random.Random) -> object:
        path.write_bytes(_text(sample, rng, yaml.safe_dump))
        return load_hyp(path)

    return read


def labels(_: Path) -> Reader:
    """YOLO label files: what is kept lies within the image and the classes."""
    from utils.data.labels.yolo import count_classes, read_yolo

    sample = b"0 0.5 0.5 0.2 0.3\n1 0.25 0.75 0.1 0.1\n\n0 0.1 0.1 0.9 0.1 0.5 0.9\n1 .5 .5 1 1\n"

    def read(rng: random.Random) -> object:
        content = spoil_tokens(sample, rng) if rng.random() < 0.5 else spoil_bytes(sample, rng)
        count_classes(content)
        found = read_yolo(Path("case.txt"), content, 2)
        _check(found.annotations, 2)
        return found

    return read


def _check(rows: Any, nc: int) -> None:
    assert np.isfinite(rows).all(), "a label is no number"
    assert ((rows[:, 0] >= 0) & (rows[:, 0] < nc)).all(), "a class is out of range"
    assert ((rows[:, 1:] >= 0) & (rows[:, 1:] <= 1)).all(), "a box lies outside"


def _images(folder: Path) -> None:
    import cv2

    for name in ("images", "labels"):
        (folder / name).mkdir()
    for at in range(2):
        cv2.imwrite(str(folder / "images" / f"{at}.png"), np.zeros((40, 60, 3), np.uint8))
        (folder / "labels" / f"{at}.txt").write_text(f"{at} .5 .5 .2 .2\n")


def coco(folder: Path) -> Reader:
    """COCO JSONs, up to the index."""
    from utils.data.config import load_data
    from utils.data.scan import load_index

    _images(folder)
    polygon = [[5, 5, 20, 5, 20, 20], [30, 5, 40, 5, 40, 20]]
    box = {"iscrowd": 0, "area": 120.5, "bbox": [5, 5, 15, 15.5]}
    sample = {
        "images": [{"id": at, "file_name": f"{at}.png", "height": 40, "width": 60} for at in range(2)],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 3, "segmentation": polygon, **box},
            {"id": 2, "image_id": 1, "category_id": 7, "segmentation": {"counts": [1, 2], "size": [40, 60]}, **box, "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 7, "name": "dog"}],
    }
    path = folder / "case.json"
    path.touch()
    cache = folder / "images" / "0.png" / "cache"

    def read(rng: random.Random) -> object:
        path.write_bytes(_text(sample, rng, json.dumps))
        config = load_data(path)
        index = load_index(config, "val", cache_dir=cache)
        _check(index.annotations, len(config.names))
        return [index.ground_truth(i) for i in range(len(index))]

    return read


def voc(_: Path) -> Reader:
    """VOC XMLs."""
    from utils.data.labels.voc import class_names, read_voc

    bndbox = "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>35.5</ymax></bndbox>"
    sample = (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotation><filename>0.png</filename><size><width>60</width><height>40</height></size>'
        f"<object><name>cat</name><difficult>0</difficult>{bndbox}</object><object><name>dog</name>{bndbox}</object></annotation>"
    ).encode()

    def read(rng: random.Random) -> object:
        content = spoil_tokens(sample, rng) if rng.random() < 0.5 else spoil_bytes(sample, rng)
        class_names(content)
        found = read_voc(Path("case.xml"), content, {"cat": 0, "dog": 1}, (40, 60))
        _check(found.annotations, 2)
        return found

    return read


def _spoilt_archive(whole: bytes, rng: random.Random) -> bytes:
    """A checkpoint with a spoilt pickle in a sound zip, or with spoilt bytes anywhere in its head."""
    if rng.random() < 0.3:
        return spoil_bytes(whole[:4096], rng) + whole[4096:]
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl") or rng.random() < 0.01:
                content = spoil_bytes(content, rng, most=3)
            new.writestr(entry.filename, content)
    return out.getvalue()


def official(folder: Path) -> Reader:
    """Checkpoints as YOLOv5 writes them: the whole module pickled, under names that exist nowhere."""
    import torch
    from torch import nn

    from models import build_model, load_model

    yolo = types.ModuleType("models.yolo")
    yolo.Model = type("Model", (nn.Module,), {"__module__": "models.yolo"})  # type: ignore[attr-defined]
    model = yolo.Model()
    model.model = build_model(TINY).model
    vars(model).update({"yaml": TINY, "names": NAMES, "nc": 2})
    buffer = io.BytesIO()
    sys.modules["models.yolo"] = yolo
    try:
        torch.save({"epoch": 3, "model": model.half(), "ema": None, "date": "2026-01-01"}, buffer)
    finally:
        del sys.modules["models.yolo"]
    path = folder / "case.pt"
    path.touch()

    def read(rng: random.Random) -> object:
        path.write_bytes(_spoilt_archive(buffer.getvalue(), rng))
        return load_model(path).names

    return read


def own(folder: Path) -> Reader:
    """Attune's checkpoints, most of them sealed anew, so that what lies behind the checksum is reached."""
    import torch

    from models import build_model, load_model
    from utils.config import Hyp, TrainConfig
    from utils.files.checksum import write_checksum
    from utils.training.checkpointing import plain_settings
    from utils.training.resume import read_stopped

    model = build_model(TINY)
    payload = {
        "attune": 1,
        **{"spec": model.spec.to_dict(), "names": dict(enumerate(NAMES)), "model": model.state_dict(), "ema": None, "epoch": 1},
        **{"config": plain_settings(TrainConfig(epochs=5)), "hyp": dataclasses.asdict(Hyp()), "metrics": {"ap": 0.5}},
        "resume": {"best": 0.5, "best_epoch": 1},
    }
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    path = folder / "case.pt"
    path.touch()

    def read(rng: random.Random) -> object:
        if rng.random() < 0.5:
            spoilt = spoil_tree({k: v for k, v in payload.items() if k not in ("attune", "model")}, rng)
            if isinstance(spoilt, dict) and rng.random() < 0.9:
                spoilt = {"attune": 1, **spoilt, "model": payload["model"]}
            content = io.BytesIO()
            torch.save(spoilt, content)
        else:
            content = io.BytesIO(_spoilt_archive(buffer.getvalue(), rng))
        if rng.random() < 0.9 and zipfile.is_zipfile(content):
            write_checksum(content)
        path.write_bytes(content.getvalue())
        if rng.random() < 0.5:
            return load_model(path).names
        return read_stopped(path, TrainConfig(resume=str(path)), Hyp(), frozenset({"resume"}), {})

    return read


def flags(folder: Path) -> Reader:
    """Command lines of train.py, val.py and detect.py; the weights they name do not exist, so that none goes on."""
    import os

    import detect
    import train
    import val
    from utils.config import DetectConfig, Hyp, TrainConfig, ValConfig
    from utils.errors import UserError

    _images(folder)
    scripts = [("train", train.main, (TrainConfig, Hyp)), ("val", val.main, (ValConfig,)), ("detect", detect.main, (DetectConfig,))]
    values = [str(v) for v in NASTY if not isinstance(v, list | dict)] + [
        "1 2 3",
        "0.5",
        "640",
        "cpu",
        "0,1",
        "newest",
        "images",
        "*.png",
        "x.pt",
    ]
    left_out = {"view_img", "device"}  # a window, and what machines differ in

    def read(rng: random.Random) -> object:
        name, main, configs = scripts[rng.randrange(3)]
        known = ["--" + f.name.replace("_", "-") for c in configs for f in dataclasses.fields(c) if f.name not in left_out]
        given: list[str] = []
        for _ in range(rng.randint(1, 6)):
            flag = rng.choice(known)
            if rng.random() < 0.1:
                flag = spoil_bytes(flag.encode(), rng, most=1).decode(errors="replace")
            given += [flag, *rng.sample(values, rng.choice((0, 1, 1, 1, 2)))] if rng.random() < 0.9 else [f"{flag}={rng.choice(values)}"]
        own = ["--weights", "missing.pt", "--device", "cpu", "--project", "runs"]
        argv, home = sys.argv, Path.cwd()
        sys.argv = [f"{name}.py", *given, *own]
        os.chdir(folder)
        try:
            main()
        except SystemExit as end:
            if end.code or not {"-h", "--help"} & {*given}:
                raise
        else:
            if "--resume" not in given:
                raise AssertionError(f"{sys.argv}: went on without weights")
        finally:
            sys.argv = argv
            os.chdir(home)
        raise UserError("help was asked for")

    return read


KINDS: dict[str, Callable[[Path], Reader]] = {f.__name__: f for f in (model, data, hyp, labels, coco, voc, official, own, flags)}
