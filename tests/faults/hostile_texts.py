"""Untrusted YAML, JSON and XML: tags, names that would be evaluated, aliases and numbers that multiply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = tuple[str, Any, str | None]

CLASSIC = "nc: 2\nanchors: 3\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - {row}\nhead:\n  - [[0, 0, 0], 1, Detect, [nc, anchors]]\n"


def laughs(depth: int = 12) -> str:
    """Each list is nine times the one before."""
    lines = [f"a{i}: &a{i} [{', '.join(['x' if not i else f'*a{i - 1}'] * 9)}]" for i in range(depth)]
    return "\n".join(lines) + "\n"


def yamls(canary: Path) -> dict[str, str]:
    """What no YAML may do."""
    touch = f"touch {canary}"
    merges = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))
    return {
        "python/object/apply": f"nc: !!python/object/apply:os.system ['{touch}']",
        "python/object/new": f"nc: !!python/object/new:os.system ['{touch}']",
        "python/name": "nc: !!python/name:os.system",
        "python/module": "nc: !!python/module:os",
        "python/tuple": "nc: !!python/tuple [1]",
        "a tag by another handle": "%TAG !e! tag:yaml.org,2002:python/\n---\nnc: !e!name:os.system",
        "binary": "nc: !!binary aGFsbG8=",
        "a tag that breaks PyYAML": "nc: !!timestamp x",
        "a billion laughs": laughs(),
        "a billion merges": merges,
        "an alias of itself": "nc: &a [*a]",
        "a key twice": "nc: 2\nnames: [a, b]\nnc: 3",
        "deep nesting": "nc: " + "[" * 50_000,
        "a number in base 60": "nc: 1" + ":59" * 100_000,
        "a hexadecimal number": "nc: 0x" + "f" * 100_000,
        "a megabyte": "nc: " + "a" * (1 << 20),
        "200 000 values": "nc: [" + "1," * 200_000 + "]",
    }


def upsampled(factor: int, *others: str) -> str:
    """Rows on a larger map."""
    return "\n  - ".join([f"[-1, 1, nn.Upsample, [null, {factor}, nearest]]", *others])


def rows(canary: Path) -> dict[str, tuple[str, str]]:
    """Rows of a model table that would be code, or a terabyte."""
    code = f"__import__('os').system('touch {canary}')"
    return {
        "a module that is code": (json.dumps([-1, 1, code, [16]]), "unknown module"),
        "a module by its path": ('[-1, 1, "os.system", [16]]', "unknown module"),
        "a dunder module": ('[-1, 1, "__class__", [16]]', "unknown module"),
        "nn.X beyond the list": ('[-1, 1, "nn.Module", [16]]', "unknown module"),
        "torch.load": ('[-1, 1, "torch.load", ["x.pt"]]', "unknown module"),
        "an activation that is code": (json.dumps([-1, 1, "Conv", [16, 3, 2, None, 1, 1, f"nn.{code}"]]), "Conv"),
        "an activation beyond the list": ('[-1, 1, Conv, [16, 3, 2, null, 1, 1, "nn.Bilinear(9, 9, 9)"]]', "unknown activation"),
        "a convolution of a terabyte": ("[-1, 1, Conv, [65000, 3000]]", "weights"),
        "a kernel of a million": ("[-1, 1, Conv, [64, 1000000]]", "weights"),
        "a network of a million blocks": ("[-1, 1, CoTNet, {depths: [1000000, 1, 1, 1]}]", "modules"),
        "200 blocks of 2.5 million weights": ("\n  - ".join(["[-1, 1, C3, [1024]]"] * 200), "weights"),
        "100 convolutions of 14 million weights": ("\n  - ".join(["[-1, 1, Conv, [1280, 3]]"] * 100), "weights"),
        "900 rows of ten modules": ("\n  - ".join(["[-1, 3, C3, [64]]"] * 900), "modules"),
        "convolutions of the whole image": ("\n  - ".join(["[-1, 1, Conv, [1024, 3, 1]]"] * 10), "multiplications"),
        "100 convolutions of the whole image in a row": ("[-1, 100, Conv, [512, 3, 1]]", "multiplications"),
        "attention between all pixels": (
            upsampled(4, *["[-1, 1, C3TR, [64]]"] * 9),
            "multiplications",
        ),
        "900 outputs of 134 MB": (
            upsampled(44, *["[-1, 1, nn.ReLU, []]"] * 900),
            "its output and those before",
        ),
        "a billion repeats": ("[-1, 1000000000, Conv, [64]]", "1000"),
        "an unknown keyword": ("[-1, 1, Conv, {out: 16, __class__: x}]", "Conv"),
    }


def texts(folder: Path, canary: Path) -> Iterator[Entry]:
    """Every attack by way of a text that is read as settings or labels."""
    from models import build_model
    from models.spec.model_spec import ModelSpec
    from utils.config import load_hyp
    from utils.data.config import load_data

    for at, (name, content) in enumerate(yamls(canary).items()):
        path = folder / f"yaml{at}.yaml"
        path.write_text(content)
        for kind, read in (("model", ModelSpec.from_yaml), ("data", load_data), ("hyper-parameters", load_hyp)):
            yield f"{kind} YAML: {name}", lambda path=path, read=read: read(path), "not valid YAML|larger than"
    for at, (name, (row, refusal)) in enumerate(rows(canary).items()):
        path = folder / f"rows{at}.yaml"
        path.write_text(CLASSIC.replace("{row}", row))
        yield f"model row: {name}", lambda path=path: build_model(path), refusal
    for name, line, refusal in (
        ("an activation that is code", f"activation: \"__import__('os').system('touch {canary}')\"", "activation"),
        ("an attribute", "activation: nn.SiLU.__init__.__globals__", "activation"),
        ("a base that is a device", "base: /dev/zero", "no file|is a|expected"),
        ("classes by the billion", "nc: 1000000000", "at most"),
        ("anchors that are code", f"anchors: \"__import__('os').system('touch {canary}')\"", "anchors"),
    ):
        path = folder / f"key{len(list(folder.iterdir()))}.yaml"
        path.write_text(
            line
            + "\n"
            + "".join(
                text
                for text in CLASSIC.replace("{row}", "[-1, 1, Conv, [16]]").splitlines(keepends=True)
                if text.split(":")[0] != line.split(":")[0]
            )
            if not line.startswith("base")
            else line + "\nedits: []\n"
        )
        yield f"model YAML: {name}", lambda path=path: build_model(path), refusal
    path = folder / "self.yaml"
    path.write_text("base: self.yaml\nedits: []\n")
    yield "model YAML: its own base", lambda: build_model(folder / "self.yaml"), "its own base"
    yield from labels(folder)


def labels(folder: Path) -> Iterator[Entry]:
    """Label files that expand, nest, or name what does not exist."""
    from utils.data.config import load_data

    def data(name: str, content: str, suffix: str) -> Path:
        place = folder / name
        place.mkdir()
        (place / f"a{suffix}").write_text(content)
        return place / f"a{suffix}"

    deep = data("deep", '{"images": ' + "[" * 100_000, ".json")
    yield "COCO JSON: deep nesting", lambda: load_data(deep), "not valid JSON"
    number = data("number", '{"images": [], "categories": [{"id": ' + "9" * 5000 + ', "name": "x"}]}', ".json")
    yield "COCO JSON: a number of 5000 digits", lambda: load_data(number), "not valid JSON"
    categories = [{"id": i, "name": f"c{i}"} for i in range(50_000)]
    twice = data("twice", json.dumps({"images": [], "categories": [*categories, categories[0]]}), ".json")
    yield "COCO JSON: 50 000 categories", lambda: load_data(twice), "is defined twice"
    many = data("many", "train: .\nval: .\nnc: 1000000000\n", ".yaml")
    yield "data YAML: classes by the billion", lambda: load_data(many), "not an integer from 1 to 65536"
    entity = "<!DOCTYPE a [<!ENTITY a '" + "x" * 1000 + "'>" + "".join(f"<!ENTITY a{i} '{'&a;' * 10}'>" for i in range(10)) + "]>"
    for name, xml in (
        ("a billion laughs", f"{entity}<annotation><object><name>&a9;</name></object></annotation>"),
        (
            "an external entity",
            "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><annotation><object><name>&x;</name></object></annotation>",
        ),
    ):
        place = data(f"xml {name}", xml, ".xml").parent
        (place / "a.jpg").touch()
        yield f"VOC XML: {name}", lambda place=place: load_data(place), "no class names are given"
