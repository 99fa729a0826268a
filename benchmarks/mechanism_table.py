"""The table of all mechanisms in the documents: from the registry and the docstrings, and times that `benchmarks.modules` measures."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.config import ROOT
from utils.errors import UserError

PAGE = ROOT / "docs" / "mechanisms" / "table.md"
WIDTH, SIDE, IMAGE = 256, 20, 640
SECTIONS = {"attention": "Attention", "layers": "Convolutions, pools, blocks", "necks": "Necks", "backbones": "Backbones"}
_HEADER = ("name", "paper", "year", "form", "parameters", "GFLOPs", "time", "where")
_INTRO = f"""# All mechanisms

Written by `python -m benchmarks.modules --table`: edit the docstrings, not this file. Parameters and GFLOPs are those of a row without
further arguments, from {WIDTH} to {WIDTH} channels on a map of {SIDE} x {SIDE}, or of a network on an image of {IMAGE} x {IMAGE};
`*` marks the small arguments of the tests, where a row needs some. *Time* is that of a forward and backward pass relative to a 3x3
convolution of {WIDTH} channels, in CPU time of one thread. *Form* is the [rule](../plug-in-a-module.md#rules) of the row's arguments.
"""
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_FAMILY = re.compile(r"\b(?:YOLO(?:v\d+|R|X|Air|\d+)|PP-YOLO)(?:-\w+)?\b")


@dataclass(frozen=True, slots=True)
class Made:
    """A module as a row makes it, on the meta device.

    Attributes:
        args: of its constructor.
        inputs: shapes of its inputs.
        small: whether the arguments are those of the tests.
        module: the module.
    """

    args: tuple[Any, ...]
    inputs: tuple[tuple[int, ...], ...]
    small: bool
    module: Any

    def example(self, side: int, device: str = "meta") -> Any:
        """Inputs whose first map is `side` high and wide, the others halves, quarters and so on."""
        import torch

        maps = [torch.ones(1, width, max(side >> i, 1), max(side >> i, 1), device=device) for i, (width, *_) in enumerate(self.inputs)]
        return maps[0] if len(maps) == 1 else maps


def made(name: str) -> Made | None:
    """Build a module of its rule's simplest row; None if that cannot be counted."""
    import torch

    from models.build import MISFITS
    from models.registry import Row, Scale, lookup

    entry = lookup(name)
    image = entry.inputs == (3,)
    simplest = [((), entry.inputs)] if image else [((), (WIDTH,)), ((WIDTH,), (WIDTH,)), ((), (WIDTH,) * len(entry.inputs))]
    for args, inputs in (*simplest, (entry.example, entry.inputs)):
        row = Row(len(inputs), tuple(range(len(inputs))), 1, name, args, name)
        try:
            plan = entry.rule(row, inputs, Scale())
            with torch.device("meta"):
                module = (plan.build or entry.build)(*plan.args).eval()
                it = Made(plan.args, tuple((w,) for w in inputs if isinstance(w, int)), args == entry.example != (), module)
                with torch.no_grad():
                    module(it.example(IMAGE if image else SIDE))
        except (*MISFITS, UserError):
            continue
        return it
    return None


def figures(it: Made | None) -> tuple[str, str, bool]:
    """Parameters, GFLOPs, and whether the operations grow faster than the map."""
    import torch

    from models.flops import count_operations, parameters

    if it is None:
        return "", "", False
    mark, image = "*" if it.small else "", it.inputs == ((3,),)
    counts = []
    for side in (IMAGE,) if image else (SIDE, 2 * SIDE):
        with torch.no_grad(), count_operations() as operations:
            it.module(it.example(side))
        counts.append(operations.total)
    return f"{parameters(it.module):,}{mark}", f"{counts[0] / 1e9:.3f}{mark}", counts[-1] > 4.6 * counts[0]


def paper(build: Any) -> tuple[str, str]:
    """The paper that a docstring names, or else its module's, and its year; or the model that the block is from."""
    own = _cited(inspect.getdoc(build) or "")
    cited = [*own, *_cited(sys.modules[build.__module__].__doc__ or "")]
    numbers = _ARXIV.findall(" ".join(own or cited))
    about = [c for c in cited if numbers[:1] == _ARXIV.findall(c)[:1]] if numbers else own
    first = next((c for c in about if not c.startswith("arXiv")), *(about[:1] or [""]))
    family = _FAMILY.search(inspect.getdoc(build) or "")
    if not first:
        return (family[0] if family else ""), ""
    authors = first.partition(",")[0] if not first.startswith("arXiv") else ""
    venue = re.sub(r"^[^,]*, |, (?:eq|section|figure|table).*", "", first)
    link = f"[{numbers[0]}](https://arxiv.org/abs/{numbers[0]})" if numbers else venue
    year = _YEAR.search(_ARXIV.sub("", first))
    return ", ".join(part for part in (authors, link) if part), year[0] if year else f"20{numbers[0][:2]}"


def _cited(text: str) -> list[str]:
    """What stands in parentheses with a year or an arXiv number, each paper by itself."""
    groups = re.findall(r"\(([^()]*)\)", " ".join(text.split()))
    return [part.strip() for group in groups for part in group.split(";") if _YEAR.search(_ARXIV.sub("", part)) or _ARXIV.search(part)]


def form_and_place(entry: Any, steep: bool) -> tuple[str, str]:
    """The rule of the row, and where such a row usually stands; a docstring may say otherwise in a line ``Usual place: ...``."""
    from models import registry

    after = "after a stage of stride 16 or 32" if steep else "after any stage, before the head"
    places = {
        "preserve": after,
        "project": "in place of Conv",
        "stack": "in place of C3",
        "concat": "in the neck, in place of Concat",
        "untouched": "after any stage",
    }
    of_package = {"attention": after, "layers": "backbone or neck", "necks": "neck", "backbones": "the first rows"}
    package = entry.build.__module__.split(".")[1]
    form = next((key for key in places if entry.rule is getattr(registry, key)), "own rule")
    said = re.search(r"^Usual place: (.+?)\.?$", inspect.getdoc(entry.build) or "", re.MULTILINE)
    place = of_package[package] if package in {"necks", "backbones"} or form == "own rule" else places[form]
    return form, said[1] if said else place


def classes() -> dict[str, list[list[str]]]:
    """The names of each class, by its package."""
    from models import list_modules
    from models.registry import lookup

    together: dict[Any, list[str]] = {}
    for name in list_modules():
        together.setdefault(lookup(name).build, []).append(name)
    found: dict[str, list[list[str]]] = {package: [] for package in SECTIONS}
    for build, names in together.items():
        package = build.__module__.split(".")[1] if build.__module__.startswith("models.") else ""
        if package in found:
            found[package].append(sorted(names, key=lambda name: (name != build.__name__, name)))
    return {package: sorted(lines, key=lambda names: names[0].lower()) for package, lines in found.items()}


def line(names: Sequence[str]) -> list[str]:
    """The row of a class in the table, without the time."""
    from models.registry import lookup

    entry = lookup(names[0])
    parameters, giga, steep = figures(made(names[0]))
    form, place = form_and_place(entry, steep)
    return [", ".join(f"`{name}`" for name in names), *paper(entry.build), form, parameters, giga, place]


def page(rows: Mapping[str, Sequence[str]]) -> str:
    """The page, from its rows by the name of the class."""
    parts = [_INTRO]
    for package, every in classes().items():
        lines = [_HEADER, ("---",) * len(_HEADER), *(rows[names[0]] for names in every)]
        parts.append(f"\n## {SECTIONS[package]}\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n")
    return "".join(parts)


def lines_of(text: str) -> dict[str, list[str]]:
    """The cells of a page's rows, by the first name of each."""
    cells = [[cell.strip() for cell in row[1:-1].split("|")] for row in text.splitlines() if row.startswith("| `")]
    return {row[0].split("`")[1]: row for row in cells}


def measured(name: str, rounds: int) -> str:
    """Forward and backward, relative to a 3x3 convolution; empty if no row makes the module from 256 to 256 channels."""
    import torch
    from torch import nn

    from benchmarks.modules import passes, timed
    from models.registry import lookup

    it = made(name)
    if it is None or it.small or it.inputs != ((WIDTH,),):
        return ""
    module, base = lookup(name).build(*it.args), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
    x = torch.randn(4, WIDTH, SIDE, SIDE)
    seconds = timed({"it": passes(module, x, backward=True), "base": passes(base, x, backward=True)}, rounds)
    return f"{seconds['it'][1] / seconds['base'][1]:.1f}"


def write(names: Sequence[str], rounds: int, path: Path = PAGE) -> None:
    """Write the rows of `names` and of classes that are not on the page yet, and measure them; the other rows stay."""
    rows = lines_of(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for every in classes().values():
        for each in every:
            if each[0] in names or each[0] not in rows:
                *cells, place = line(each)
                rows[each[0]] = [*cells, measured(each[0], rounds), place]
    path.write_text(page(rows), encoding="utf-8")
