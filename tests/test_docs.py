"""What the documents tell a reader to type exists: flags, files, links, and the module of the plug-in page."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.spec.find_yaml import find_model
from tests.faults.isolation import groups
from utils import config
from utils.cli import parse, parse_with
from utils.compare.config import CompareConfig, check_given
from utils.errors import UserError
from utils.export.config import ExportConfig
from utils.export.registry import find_format
from utils.training.search_space import SearchConfig

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MECHANISMS = [path for path in sorted((ROOT / "docs" / "mechanisms").glob("*.md")) if path.name != "table.md"]  # see test_mechanism_table


def commands(page: Path) -> Iterator[str]:
    """The indented or fenced lines of a page that call a script of ours."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    yield from re.findall(r"^(?: {4}|\$ )?((?:python|torchrun) .*?)(?:\s+#.*)?$", text, re.MULTILINE)


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


ALL_COMMANDS = [(page.name, command) for page in PAGES for command in commands(page)]


def test_there_are_commands() -> None:
    assert len(ALL_COMMANDS) > 15


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS)
def test_flags_and_files_of_a_command_exist(page: str, command: str) -> None:
    words = shlex.split(command)
    script = next((word for word in words if word.endswith(".py") and not word.startswith("-")), "")
    argv = words[words.index(script) + 1 :] if script else []
    if script == "train.py":
        settings, _, _ = parse_with(SearchConfig, config.Hyp, argv)
        if settings.cfg and not settings.cfg.startswith("my"):
            from models.spec.model_spec import ModelSpec

            assert ModelSpec.from_yaml(settings.cfg).rows
        config.load_hyp(settings.hyp)
    elif script == "compare.py":
        study, given, _ = parse_with(CompareConfig, config.Hyp, argv)
        check_given(given)
        assert all(name.startswith("my") or find_model(Path(name)) for name in study.cfgs)
    elif script == "export.py":
        assert all(find_format(name) for name in parse(ExportConfig, argv)[0].include)
    elif script in ("val.py", "detect.py"):
        parse(config.ValConfig if script == "val.py" else config.DetectConfig, argv)
    elif words[:3] == ["python", "-m", "pytest"]:
        assert all((ROOT / file).is_file() for file in words[3:])
    elif words[:2] == ["python", "-m"]:
        module = ROOT / words[2].replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()
    else:
        assert script == "my_block.py" or (ROOT / script).is_file(), f"{page}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_examples_are_python(page: Path) -> None:
    for code in fenced(page, "python"):
        ast.parse(code)


def test_every_hyper_parameter_is_explained() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for name in config.Hyp.__dataclass_fields__:
        assert f"| `{name}` |" in text


def test_the_variants_of_the_plug_in_page_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from models import registry, show
    from models.build import build_layers
    from models.spec.model_spec import ModelSpec

    *variants, own = fenced(ROOT / "docs" / "plug-in-a-module.md", "yaml")
    assert len(variants) >= 3
    for number, text in enumerate(variants):
        path = tmp_path / f"variant{number}.yaml"
        path.write_text(text, encoding="utf-8")
        assert build_layers(ModelSpec.from_yaml(path))
    (tmp_path / "my-variant.yaml").write_text(own, encoding="utf-8")
    block, _ = fenced(ROOT / "docs" / "plug-in-a-module.md", "python")
    (tmp_path / "my_block.py").write_text(block, encoding="utf-8")
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    with pytest.raises(UserError, match="MyGate"):
        show.main([str(tmp_path / "my-variant.yaml")])
    show.main([str(tmp_path / "my-variant.yaml"), "--plugins", str(tmp_path / "my_block.py")])
    assert "MyGate" in capsys.readouterr().out


@pytest.mark.parametrize("page", MECHANISMS, ids=lambda p: p.name)
def test_a_mechanisms_page_gives_what_its_models_cost(page: Path) -> None:
    """Rows of a table with the parameters and GFLOPs of two models, or of one at n and s: those of the last, or of s, are looked up."""
    from tests.models.test_figures import FIGURES

    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if re.search(r"\d,\d{3}\b.*\|", line)]
    assert rows or page.name == "comparison.md"
    for row in [] if page.name == "comparison.md" else rows:
        names = re.findall(r"yolov5[ns][\w-]*", row)
        counts = re.findall(r"\d+(?:,\d{3})+", row)
        gigas = row.rstrip("| ").split(" | ")[-1].split(", ")
        if names[-1] in FIGURES:  # with its letter n a variant has no file of its own
            assert [f"{FIGURES[names[-1]][0]:,}", f"{FIGURES[names[-1]][1] / 1e9:.1f}"] == [counts[-1], gigas[-1].strip()]
        else:
            assert names == ["yolov5n", "yolov5n-ca"]


EDITS = [
    (page.name, edit) for page in MECHANISMS for edit in re.findall(r"^ {4}- (\{.*?\}) *(?:#.*)?$", page.read_text("utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize(("page", "edit"), [(p, e) for p, e in EDITS if "replace: 0," not in e])
def test_an_edit_of_a_mechanisms_page_builds(page: str, edit: str, tmp_path: Path) -> None:
    from models.build import build_layers
    from models.spec.model_spec import ModelSpec

    (tmp_path / "x.yaml").write_text(f"base: yolov5n.yaml\nedits:\n  - {edit}\n", encoding="utf-8")
    assert build_layers(ModelSpec.from_yaml(tmp_path / "x.yaml"))[0]


def test_the_model_of_the_python_page_has_the_shapes_it_names() -> None:
    import torch

    code = fenced(ROOT / "docs" / "python.md", "python")[1]
    space: dict[str, object] = {}
    exec(compile(code, "docs/python.md", "exec"), space)
    maps, boxes = space["maps"], space["boxes"]
    assert [tuple(m.shape) for m in maps] == [(1, 3, s, s, 8) for s in (40, 20, 10)]
    assert isinstance(boxes, torch.Tensor)
    assert boxes.shape == (1, 3 * (1600 + 400 + 100), 8)


def test_the_example_of_the_attention_page_runs() -> None:
    (code,) = fenced(ROOT / "docs" / "attention-maps.md", "python")
    space: dict[str, Any] = {}
    exec(compile(code, "docs/attention-maps.md", "exec"), space)
    assert space["cam"].shape == (320, 416)
    assert 0 <= space["share"] <= 1
    assert [label for label, _ in space["maps"]] == ["5 CoordAtt", "8 CoordAtt", "12 CoordAtt"]


@pytest.mark.slow
def test_the_block_of_the_plug_in_page_passes_the_checks(tmp_path: Path) -> None:
    block, _ = fenced(ROOT / "docs" / "plug-in-a-module.md", "python")
    (tmp_path / "my_block.py").write_text(block, encoding="utf-8")
    words = [sys.executable, "-m", "models.check", str(tmp_path / "my_block.py")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"attention maps +ok +32x1x1", done.stdout)


def test_the_faults_of_the_readme_are_all_groups_and_add_up() -> None:
    rows = re.findall(
        r"^\| ([a-z, ]+|\*\*total\*\*) \| \**(\d[\d ,]*?)\** \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    counts = {name: sum(int(number) for number in cell.replace("\u202f", "").replace(" ", "").split(",")) for name, cell in rows}
    total = counts.pop("**total**")
    assert sum(counts.values()) == total
    assert sorted(", ".join(counts).split(", ")) == sorted(groups())
