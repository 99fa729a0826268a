"""Names of losses, flags of detection, and arms of a study that are out of range, nest, or mean something to a file system."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Entry = tuple[str, Any, str | None]

BOX_LOSSES = {
    "": "unknown box loss",
    "+": "unknown box loss",
    "ciou+": "unknown box loss",
    "ciou:": None,
    "ciou:0": "above 0",
    "ciou:-1": "above 0",
    "ciou:nan": "above 0",
    "ciou:inf": "above 0",
    "nwd:1e309+ciou": "above 0",
    "nwd:1e-400": "above 0",
    "ciou:1:2": "above 0",
    "ciou:1_0": None,
    "ciou:\uff11": None,
    "ciou:0x1": "above 0",
    "ciou;nwd": "unknown box loss",
    "CIOU": "unknown box loss",
    "ciou\0": "unknown box loss",
    "\x1b[31mciou": "unknown box loss",
    "../ciou": "unknown box loss",
    "__class__": "unknown box loss",
    "inner": "unknown box loss",
    "inner-": "unknown box loss",
    "inner1e309-ciou": "unknown box loss|above 0",
    "inner0-ciou": "above 0",
    "alpha3-nwd": "alpha is a power",
    "alpha1e9-ciou": "unknown box loss|above 0",
    "inner-inner-ciou": None,
    "inner-" * 400 + "ciou": "at most 300",
    "focal-" * 3000 + "ciou": "at most 300",
    "focal-" * 200_000 + "ciou": "at most 300",
    "+".join(["ciou"] * 20_000): "at most 300",
    "x" * 1_000_000: "at most 300",
    "inner" + "9" * 100_000 + "-ciou": "at most 300",
    "ciou:" + "9" * 1_000_000: "at most 300",
    "ciou+" * 3 + "nwd:0.5": None,
    " ciou ": None,
    "wiou-v9": "unknown box loss",
    "focal0-ciou": "above 0|unknown",
    "ciou:1e3": None,
    "ciou:1001": "above 0",
}
NAMES = ("", "BCE", "focal:2", "focal\0", "../bce", "x" * 100_000, "__init__", "bce+focal", "\x1b[2J", "nan", "[focal]")


def losses(_: Path) -> Iterator[Entry]:
    """Names of losses and assigners."""
    from models import build_model
    from utils.config import Hyp
    from utils.training.losses.criterion import build_criterion

    detectors = {head: build_model(head, nc=2) for head in ("yolov5n", "yolov5n-dfl")}

    def built(head: str = "yolov5n", **names: str) -> None:
        build_criterion(detectors[head], Hyp(**names), 64)

    for text, refusal in BOX_LOSSES.items():
        yield f"box loss {text!a:.40} ({len(text)})", lambda text=text: built(box_loss=text), refusal
    for kind in ("cls_loss", "obj_loss"):
        for name in NAMES:
            yield f"{kind} {name!a:.40}", lambda kind=kind, name=name: built(**{kind: name}), "unknown"
    for name in NAMES[1:]:
        yield f"assigner {name!a:.40}", lambda name=name: built(assigner=name), "is unknown"
    for head, name in (("yolov5n", "simota"), ("yolov5n", "lead-guided"), ("yolov5n-dfl", "anchor-ratio")):
        yield f"assigner {name} for {head}", lambda head=head, name=name: built(head, assigner=name), "does not fit"


DETECT = {
    "--tile -1": "tile must be",
    "--tile 1": "tile must be",
    "--tile 31": "tile must be",
    "--tile 1e9": "--tile",
    "--tile 99999999999999999999": None,
    "--tile nan": "--tile",
    "--tile 32 --overlap 0.9": None,
    "--tile 32 --overlap nan": "overlap",
    "--tile 32 --overlap inf": "overlap",
    "--tile 32 --overlap -0.1": "overlap",
    "--tile 32 --overlap 1": "overlap",
    "--tile 32 --overlap 1e-320": None,
    "--overlap 7": None,
    "--tile 33 --overlap .89999 --imgsz 32": None,
    "--track": "single image",
    "--nms": "--nms",
    "--nms ''": "--nms",
    "--nms HARD": "--nms",
    "--nms hard,diou": "--nms",
    "--nms __class__": "--nms",
    "--nms soft-linear --iou-thres 0": None,
    "--nms soft-gaussian --iou-thres 0": None,
    "--nms matrix --iou-thres 0": None,
    "--nms cluster --iou-thres 1 --conf-thres 0": None,
    "--nms merge --conf-thres 0 --max-det 1": None,
    "--nms wbf --conf-thres 0": None,
    "--nms diou --iou-thres nan": "iou-thres",
    "--conf-thres nan": "conf-thres",
    "--conf-thres 2": "conf-thres",
    "--conf-thres -0.0": None,
    "--max-det 0": "max-det",
    "--max-det 99999999999999999999": None,
    "--max-det -5": "max-det",
    "--classes 99999999999999999999": "class",
    "--classes -1": "class",
    "--classes 0 0 0": None,
    "--imgsz 0": "imgsz",
    "--imgsz 32 32 32": "imgsz",
    "--imgsz 99999999999999999999": "imgsz",
    "--imgsz 1 1": None,
    "--imgsz -32": "imgsz",
    "--line-thickness 99999999": None,
    "--line-thickness 0": "line-thickness",
    "--line-thickness 99999999999999999999": None,
    "--attention 99999": None,
    "--attention -2": "attention",
    "--attention 99999999999999999999": None,
    "--vid-stride 99999999999999999999": None,
    "--device cuda:99999999999": "device",
    "--device cpu,cpu": "device",
    "--device ../x": "device",
    "--device -1": "device",
    "--runtime nothing": "--runtime",
    "--save-format 7": "--save-format",
    "--data nothing.yaml": "no file",
    "--plugins nothing.py": "nothing.py",
    "--plugins /dev/null": "null",
    "--plugins .": "not a .py file",
}


def tiny_weights(folder: Path, **changes: Any) -> Path:
    """A checkpoint of the smallest model, with entries changed."""
    from models import build_model
    from models.spec.model_spec import ModelSpec
    from utils.training.checkpoint import save_checkpoint

    cfg = folder / "tiny.yaml"
    cfg.write_text(
        "nc: 2\nanchors: [[10, 13, 16, 30]]\nbackbone:\n  - [-1, 1, Conv, [8, 3, 4]]\n  - [-1, 1, Conv, [8, 3, 2]]\n"
        "head:\n  - [[-1], 1, Detect, [nc, anchors]]\n"
    )
    model, spec = build_model(cfg), ModelSpec.from_yaml(cfg).to_dict()
    path = folder / f"tiny{len(list(folder.glob('*.pt')))}.pt"
    content = {
        **{"model": model.state_dict(), "ema": None, "spec": spec, "names": ["a", "b"], "epoch": 1},
        **{"metrics": {}, "config": {"imgsz": 64}, "hyp": {}, "resume": None, **changes},
    }
    save_checkpoint(path, content)
    return path


def flags(folder: Path) -> Iterator[Entry]:
    """Flags of detect.py, in this process."""
    import shlex

    import detect

    weights, image = tiny_weights(folder), folder / "a.png"
    cv2.imwrite(str(image), np.full((96, 80, 3), 90, np.uint8))

    def detected(text: str) -> None:
        from utils.errors import UserError

        words = shlex.split(text)
        fixed = ["--weights", str(weights), "--source", str(image), "--project", str(folder / "runs"), "--device", "cpu", "--imgsz", "64"]
        before = sys.argv
        sys.argv = ["detect.py", *fixed, *words]
        try:
            detect.main()
        except SystemExit as error:
            raise UserError(f"usage: {error}") from error
        finally:
            sys.argv = before

    for text, refusal in DETECT.items():
        yield f"detect {text}", lambda text=text: detected(text), refusal


NAMED = ("/etc/x", "a/b", "a\\b", "\0", "a\nb", "\udcff", "CON", "\x1b[31m", "a\u202eb")
"""Each is written as a name that a folder can have."""


def arms(folder: Path) -> Iterator[Entry]:
    """Files of ``--arms``, lines of ``--arm``, and pilots."""
    from utils.compare.arms import read_arms
    from utils.compare.config import CompareConfig
    from utils.compare.planning import find_pilot

    def read(path: Path) -> None:
        read_arms(CompareConfig(arms=str(path)))

    one = {"cfg": "yolov5n.yaml"}
    contents: dict[str, tuple[Any, str | None]] = {
        **{f"an arm called {name!a}": ({"arms": {name: one}}, "invalid variant name") for name in ("../../x", "..", ".", "", "-rf", " ")},
        **{f"an arm called {name!a:.30}": ({"arms": {name: one}}, None) for name in NAMED},
        "an arm of 300 characters": ({"arms": {"x" * 300: one}}, "has more than [0-9]+ bytes"),
        "no arms": ({}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a list of arms": ({"arms": [one]}, "yaml: (arm a: |needs|baseline|unknown)"),
        "an arm of text": ({"arms": {"a": "yolov5n"}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "an arm without a model": ({"arms": {"a": {}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a model that is a number": ({"arms": {"a": {"cfg": 5}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a model of 5000 characters": ({"arms": {"a": {"cfg": "x" * 5000}}}, None),
        "a model with a NUL": ({"arms": {"a": {"cfg": "a\0b"}}}, None),
        "an unknown baseline": ({"arms": {"a": one}, "baseline": "b"}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a baseline of lists": ({"arms": {"a": one}, "baseline": [[]]}, "yaml: (arm a: |needs|baseline|unknown)"),
        "weights that are a folder": ({"arms": {"a": {**one, "weights": "/"}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "weights that are a device": ({"arms": {"a": {**one, "weights": "/dev/zero"}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "weights of another type": ({"arms": {"a": {**one, "weights": 5}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "weights at a URL": ({"arms": {"a": {**one, "weights": "http://127.0.0.1/x.pt"}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a flag for a folder": ({"arms": {"a": {**one, "flags": {"project": "/tmp"}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a flag for a name": ({"arms": {"a": {**one, "flags": {"name": "../x"}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a flag for plug-ins": ({"arms": {"a": {**one, "flags": {"plugins": ["x.py"]}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a flag for an augmentation": (
            {"arms": {"a": {**one, "flags": {"augment": "nothing.py:f"}}}},
            "yaml: (arm a: |needs|baseline|unknown)",
        ),
        "a flag for data": ({"arms": {"a": {**one, "flags": {"data": "x.yaml"}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a flag for resuming": ({"arms": {"a": {**one, "flags": {"resume": "x.pt"}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a flag that begins with hyphens": ({"arms": {"a": {**one, "flags": {"--help": True}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "help": ({"arms": {"a": {**one, "flags": {"help": True}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a value that is a flag": ({"arms": {"a": {**one, "flags": {"freeze": ["--help"]}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a value that is the flag of a folder": (
            {"arms": {"a": {**one, "flags": {"freeze": [1, "--project", "/tmp/x"]}}}},
            "contains the flag --project",
        ),
        "an optimizer that is help": ({"arms": {"a": {**one, "flags": {"optimizer": "--help"}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a hyper-parameter that is a list": ({"arms": {"a": {**one, "hyp": {"lr0": [1, 2]}}}}, "unknown argument"),
        "a hyper-parameter that is a mapping": (
            {"arms": {"a": {**one, "hyp": {"lr0": {"a": 1}}}}},
            "yaml: (arm a: |needs|baseline|unknown)",
        ),
        "a hyper-parameter that is NaN": ({"arms": {"a": {**one, "hyp": {"lr0": float("nan")}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a hyper-parameter that is null": ({"arms": {"a": {**one, "hyp": {"lr0": None}}}}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a hyper-parameter that is help": (
            {"arms": {"a": {**one, "hyp": {"box_loss": "--help"}}}},
            "yaml: (arm a: |needs|baseline|unknown)",
        ),
        "a nested box loss": ({"arms": {"a": {**one, "hyp": {"box_loss": "focal-" * 3000 + "ciou"}}}}, None),
        "40 000 rows to freeze": ({"arms": {"a": {**one, "flags": {"freeze": list(range(40_000))}}}}, None),
        "a key that is a number": ({"arms": {"a": one}, 5: 1}, "yaml: (arm a: |needs|baseline|unknown)"),
        "a key that is null": ({"arms": {"a": {**one, None: 1}}}, "yaml: (arm a: |needs|baseline|unknown)"),
    }
    for at, (name, (content, refusal)) in enumerate(contents.items()):
        path = folder / f"{at}.yaml"
        path.write_text(json.dumps(content))
        yield f"arms: {name}", lambda path=path: read(path), refusal
    (folder / "loop.yaml").symlink_to("loop.yaml")
    os.mkfifo(folder / "pipe.yaml")
    (folder / "bomb.yaml").write_text("arms: &a\n  b: *a\n")
    (folder / "raw.yaml").write_bytes(b"arms: \xff\xfe\x00")
    for name in ("loop", "pipe", "bomb", "raw", "absent"):
        yield f"arms: a file that is a {name}", lambda name=name: read(folder / f"{name}.yaml"), "yaml"
    for line in (
        "",
        ":",
        "a",
        "a:",
        "a: 'x",
        "../a: yolov5n.yaml",
        "a: yolov5n.yaml help",
        "a: yolov5n.yaml --help",
        "a: yolov5n.yaml project=/tmp",
        "a: yolov5n.yaml lr0=",
        "a: yolov5n.yaml freeze=--project",
        "a: yolov5n.yaml weights=/dev/zero",
        "a: yolov5n.yaml weights",
    ):
        yield f"arm {line!r}", lambda line=line: read_arms(CompareConfig(arm=(line,))), "^--arm"
    (folder / "pilot").mkdir()
    os.mkfifo(folder / "pilot" / "study.yaml")
    for pilot in ("nothing", "pilot", "0.yaml", "/dev/zero", "x" * 5000, "a\0b", "/proc/self/mem"):
        yield f"pilot {pilot!a:.30}", lambda pilot=pilot: find_pilot(str(folder / pilot), folder, needed=True), "no study there"
