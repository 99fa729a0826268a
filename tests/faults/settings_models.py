"""Heads and scales of a model table that make no sense, and files of pretrained weights that are something else."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.hostile_pickles import archive, programs

Entry = tuple[str, Any, str | None]

HEADS = ("Detect", "DetectDFL", "Decoupled_Detect", "DetectX", "EffDecHead", "IDetect")
TABLE = """{settings}
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 4]]
  - {row}
head:
  - [[0, 1, 2], 1, {head}, {args}]
"""
SETTINGS: dict[str, tuple[str, str | None]] = {
    text: (text, refusal)
    for text, refusal in {
        "nc: 0": "nc",
        "nc: -1": "nc",
        "nc: 65537": "nc",
        "nc: 65536": "computes",
        "nc: 60000": "computes",
        "nc: 1e3": "nc",
        "nc: true": "nc",
        "nc: [2]": "nc",
        "nc: .nan": "nc",
        "nc: 99999999999999999999": "nc",
        "nc: '2'": "nc",
        "nc: null": "nc",
        "ch: 0": "ch",
        "ch: 65536": "ch",
        "ch: 1": None,
        "ch: -3": "ch",
        "anchors: 0": "anchors",
        "anchors: 101": "anchors",
        "anchors: 100": None,
        "anchors: -1": "anchors",
        "anchors: true": "anchors",
        "anchors: []": "anchors",
        "anchors: [[]]": "anchors",
        "anchors: [[1]]": "anchors",
        "anchors: [[1, 2]]": "levels|anchors",
        "anchors: [[0, 0], [1, 1], [1, 1]]": "anchors",
        "anchors: [[-1, 1], [1, 1], [1, 1]]": "anchors",
        "anchors: [[.nan, 1], [1, 1], [1, 1]]": "anchors",
        "anchors: [[.inf, 1], [1, 1], [1, 1]]": "anchors",
        "anchors: [[1e308, 1e308], [1, 1], [1, 1]]": "row 3|anchors",
        "anchors: [[1e-320, 1], [1, 1], [1, 1]]": "row 3|anchors",
        "anchors: [[1e-46, 1], [1, 1], [1, 1]]": "row 3|anchors",
        "anchors: [[1, 1], [1, 1], [1, 1, 1, 1]]": "anchors",
        "anchors: {a: 1}": "anchors",
        "anchors: auto": "anchors",
        "anchors: [x, y, z]": "anchors",
        "anchors: [[1, [2, [3]]], [1, 1], [1, 1]]": "anchors",
        f"anchors: [{', '.join(['[' + '9, ' * 8000 + ']'] * 3)}]": None,
        "anchors: 2023-01-01": "anchors",
        "depth_multiple: 0": "depth",
        "depth_multiple: .inf": "depth",
        "depth_multiple: 101": "depth",
        "depth_multiple: 1e-300": "depth",
        "width_multiple: 1e-300": "width",
        "width_multiple: 1.0e-300": None,
        "width_multiple: 100": None,
        "width_multiple: -1": "width",
        "width_multiple: x": "width",
        "width_multiple: true": "width",
        "channel_multiple: 0": "channel",
        "channel_multiple: 65536": "weights",
        "channel_multiple: 1.5": "channel",
        "activation: 5": "activation",
        "activation: 'nn.SiLU().__class__'": "activation",
        "activation: 'nn.LeakyReLU(1e999)'": "not a number",
        "activation: ''": "form",
        "activation: 'nn.ReLU('": "activation",
        "activation: 'nn.Softplus(1, 2, 3, 4)'": "activation",
        "activation: 'nn.Threshold(1, 2)'": "unknown activation",
        f"activation: 'nn.ELU({'(' * 5000})'": "activation",
        "names: [a]": "names",
        "names: {0: a, 2: b}": "names",
        "names: 5": "names",
        "names: []": "names",
        "names: [[a], [b]]": None,
        "names: [null, null]": None,
        "names: {0: a, true: b}": None,
        "names: {-1: a, 0: b}": "names",
        "names: [a, b, c]": "names",
        "identities: [a]": "identities",
        "gates: [1, 2, 3, 4]": "gates",
        "gates: ['', '', '', zero]": "a gate needs",
        "replaced: 5": "replaced",
        "replaced: [1, 2, 3, 4]": "replaces",
        "replaced: [[1, Conv, [8], x], null, null, null]": "gate",
        "stride: [8, 16]": "unknown key",
        "inplace: 7": None,
        "yaml_file: ../../x": None,
    }.items()
}
HEAD_ARGS: dict[str, str | None] = {
    "[]": "row 3|anchors",
    "[0]": "row 3|anchors",
    "[-1]": "row 3|anchors",
    "['x']": "row 3|anchors",
    "[nc, anchors, anchors]": "row 3|anchors",
    "[nc, 3, 3, 3, 3]": "row 3|anchors",
    "[1e9]": "row 3|anchors",
    "[null]": "row 3|anchors",
    "[true]": "row 3|anchors",
    "[[2]]": "row 3|anchors",
    "[99999999999999999999]": "row 3|anchors",
    "{nc: 2}": "row 3|anchors",
    "{channels: 5}": "row 3|anchors",
    "{self: 5}": "row 3|anchors",
    "[nc, 0]": "row 3|anchors",
    "[nc, -5]": "row 3|anchors",
    "[nc, 100000]": "row 3|anchors",
    "[nc, 2.5]": "row 3|anchors",
    "[nc, .nan]": "row 3|anchors",
}


def models(folder: Path) -> Iterator[Entry]:
    """Settings of a table, and arguments of every head."""
    from models import build_model

    def built(path: Path) -> None:
        import torch

        model = build_model(path).eval()
        with torch.no_grad():
            assert torch.isfinite(model(torch.zeros(1, model.ch, 32, 32))).all(), "not finite"

    def table(name: str, **parts: str) -> Path:
        path = folder / f"{name}.yaml"
        usual = {"settings": "nc: 2", "row": "[-1, 1, Conv, [16, 3, 2]]", "head": "Detect", "args": "[nc, anchors]"} | parts
        path.write_text(TABLE.format(**usual))
        return path

    for at, (name, (text, refusal)) in enumerate(SETTINGS.items()):
        own = text if text.startswith("nc:") else f"nc: 2\n{text}"
        path = table(f"setting{at}", settings=own)
        yield f"model: {name:.50}", lambda path=path: built(path), refusal
    for head in HEADS:
        for at, (args, refusal) in enumerate(HEAD_ARGS.items()):
            path = table(f"{head}{at}", head=head, args=args)
            yield f"model: {head}({args})", lambda path=path: built(path), refusal
    for at, sources in enumerate(("[]", "[5]", "[-9]", "['a']", "[1.5]", "[[0]]", "null")):
        path = folder / f"sources{at}.yaml"
        path.write_text(
            TABLE.format(settings="nc: 2", row="[-1, 1, Conv, [16, 3, 2]]", head="Detect", args="[nc, anchors]").replace(
                "[0, 1, 2]", sources
            )
        )
        yield f"model: a head that reads {sources}", lambda path=path: built(path), "'from'"


def pretrained(folder: Path) -> Iterator[Entry]:
    """Files of a backbone's weights."""
    from models import build_model

    def built(row: str) -> None:
        path = folder / "model.yaml"
        path.write_text(f"nc: 2\nanchors: 3\nbackbone:\n  - {row}\n  - [0, 1, Feature, [0]]\nhead:\n  - [[1], 1, Detect, [nc, anchors]]\n")
        build_model(path)

    def tensors(header: object, raw: bytes = bytes(8)) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + raw

    files: dict[str, bytes] = {
        "empty.safetensors": b"",
        "text.safetensors": b"hello",
        "huge.safetensors": struct.pack("<Q", 1 << 62) + b"{}",
        "list.safetensors": tensors([1]),
        "deep.safetensors": tensors(b"[" * 100_000),
        "open.safetensors": tensors(b"{"),
        "beyond.safetensors": tensors({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        "negative.safetensors": tensors({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}),
        "overlap.safetensors": tensors({k: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for k in "ab"}),
        "other.safetensors": tensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
        "dtype.safetensors": tensors({"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}}),
        "pickle.safetensors": programs(folder / "canary")["REDUCE os.system"],
        "pickle.pth": programs(folder / "canary")["REDUCE os.system"],
        "text.pth": b"hello",
        "empty.pth": b"",
        "empty.bin": b"",
        "picture.bin": b"\x89PNG\r\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    archive(folder / "zip.pth", programs(folder / "canary")["nested in a model"])
    archive(folder / "list.pth", b"\x80\x02]q\x00.")
    os.mkfifo(folder / "pipe.pth")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "loop.pth").symlink_to("loop.pth")
    (folder / "zero.safetensors").symlink_to("/dev/zero")
    (folder / "zero.pth").symlink_to("/dev/zero")
    (folder / "dir.pth").mkdir()
    others = [
        "zip.pth",
        "list.pth",
        "pipe.pth",
        "pipe.safetensors",
        "loop.pth",
        "zero.pth",
        "zero.safetensors",
        "dir.pth",
        "absent.pth",
        "x" * 5000,
        "a\0b",
    ]
    for name in (*files, *others):
        row = f"[-1, 1, CoTNet, [64, {json.dumps({'pretrained': str(folder / name)})}]]"
        yield f"pretrained: {name!a:.30}", lambda row=row: built(row), "pretrained|refused|damaged|cannot|empty|regular"
    for value in ("true", "5", "[]", "{}", "'http://127.0.0.1/x.pth'", "'file:///etc/passwd'", "'..'"):
        yield f"pretrained: {value}", lambda value=value: built(f"[-1, 1, CoTNet, [64, {{pretrained: {value}}}]]"), "pretrained"
    for name in (
        "../../x",
        "hf-hub:a/b",
        "hf_hub:a/b",
        "local-dir:/tmp",
        "local-dir:/",
        "os.system",
        "",
        "5",
        "x" * 5000,
        "resnet18.nothing",
        "resnet18\0",
    ):
        yield f"timm: {name!a:.30}", lambda name=name: built(f"[-1, 1, timm, [{json.dumps(name)}]]"), "timm"
    for args in (
        "[]",
        "[5]",
        "[[resnet18]]",
        "[null]",
        "[resnet18, 5]",
        "[resnet18, pipe.pth]",
        "[resnet18, null, []]",
        "[resnet18, null, [3]]",
        "[resnet18, null, [64]]",
        "[resnet18, null, [32, 16]]",
        "[resnet18, null, 8]",
        "[resnet18, null, [8, 8]]",
        "{name: resnet18, url: 'http://x'}",
        "{name: resnet18, pretrained_cfg: {url: 'http://x'}}",
        "{name: resnet18, checkpoint_path: /etc/passwd}",
    ):
        yield f"timm: {args}", lambda args=args: built(f"[-1, 1, timm, {args}]"), "timm"
