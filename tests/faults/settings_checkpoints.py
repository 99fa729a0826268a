"""Checkpoints of the right form whose table, class names, anchors, strides or sizes were changed by someone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.settings_flags import tiny_weights

Entry = tuple[str, Any, str | None]

VALUES: tuple[Any, ...] = (None, 0, -1, 1 << 70, 1.5, float("nan"), "x", [], {}, [[]], True, "../../x", "\udcff\x1b", [None], {"a": {}})
UNREAD = ("config", "hyp", "metrics", "epoch", "resume")
"""What loading a model does not look at."""
FITTING = {"depth_multiple": (1.5,), "activation": (None,), "names": (None, [[]], [None]), "identities": (None,), "gates": (None,)}
"""Values with which the table means the same, or has names for one class that the checkpoint's own replace."""
NAMES: dict[str, tuple[Any, str | None]] = {
    "300 000 names": (["x"] * 300_000, "too long"),
    "names of one hash": ({i * ((1 << 61) - 1): "x" for i in range(9)}, "too large a number"),
    "a long name": (["x" * 100_000, "b"], "too long"),
    "a mapping of text": ({"0": "a", "1": "b"}, "without gaps"),
    "three names": (["a", "b", "c"], "3 class names for 2 classes"),
    "one name": (["a"], "1 class names for 2 classes"),
    "names twice": (["a", "a"], None),
    "deep names": ([[[[["a"]]]], "b"], None),
}


def checkpoints(folder: Path) -> Iterator[Entry]:
    """Each changed entry, read and used on an image."""
    import torch

    from models import load_model
    from models.spec.model_spec import ModelSpec

    tiny_weights(folder)
    spec = ModelSpec.from_yaml(folder / "tiny.yaml").to_dict()
    state = load_model(folder / "tiny0.pt", fuse=False).state_dict()
    image = np.zeros((64, 64, 3), np.uint8)

    def used(changes: dict[str, Any]) -> None:
        path = tiny_weights(folder, **changes)
        try:
            load_model(path).predict([image], imgsz=64, conf=0)
        finally:
            path.unlink()

    for value in VALUES:
        for key in ("names", "spec", "model", "ema", *UNREAD):
            refusal = None if key in UNREAD or (key == "ema" and not value) else "tiny1.pt: "
            yield f"checkpoint: {key} is {value!a:.30}", lambda key=key, value=value: used({key: value}), refusal
        for key in spec:
            refusal = None if value in FITTING.get(key, ()) else "tiny1.pt: "
            table = {**copy.deepcopy(spec), key: value}
            yield f"checkpoint: {key} of the table is {value!a:.30}", lambda table=table: used({"spec": table}), refusal
    for key, tensor in state.items():
        if key.endswith(("anchors", "running_var", "num_batches_tracked")):
            empty, other = tensor.view(-1)[:0], tensor.to(torch.complex64)
            changed = {"bool": tensor.bool(), "int8": tensor.to(torch.int8), "NaN": tensor * float("nan"), "zero": tensor * 0}
            for what, new in {**changed, "empty": empty, "complex": other}.items():
                refusal = {"empty": "does not fit", "complex": "unknown kind"}.get(what)
                yield f"checkpoint: {key} is {what}", lambda key=key, new=new: used({"model": {**state, key: new}}), refusal
    for name, (value, refusal) in NAMES.items():
        yield f"checkpoint: {name}", lambda value=value: used({"names": value}), refusal
