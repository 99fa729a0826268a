"""The house rules that no other tool checks: who imports whom, how large things are, that every shipped file loads."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(ROOT.glob("*.py"))
SOURCES = [*SCRIPTS, *sorted((ROOT / "models").rglob("*.py")), *sorted((ROOT / "utils").rglob("*.py"))]
EVERYTHING = [*SOURCES, *sorted((ROOT / "benchmarks").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
NOUNLESS = {"utils", "general", "common", "misc", "helpers", "tools", "stuff"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", [p for p in EVERYTHING if ROOT / "tests" not in p.parents], ids=name)
def test_nothing_imports_a_script(path: Path) -> None:
    scripts = {p.stem for p in SCRIPTS}
    for module in imported(path):
        assert module.split(".")[0] not in scripts, f"{name(path)} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_sizes(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, f"{name(path)} is a file of more than 300 lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{name(path)}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_is_named_after_a_noun_of_the_field(path: Path) -> None:
    assert path.stem not in NOUNLESS


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_is_evaluated_or_unpickled(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "__import__"}, f"{name(path)}:{node.lineno} calls {node.func.id}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
            unsafe = ast.unparse(node.func) == "torch.load" and "weights_only=True" not in ast.unparse(node)
            assert not unsafe, f"{name(path)}:{node.lineno} loads pickled code"
    assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & set(imported(path))


@pytest.mark.parametrize("path", EVERYTHING, ids=name)
def test_nothing_points_out_of_the_repository(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|Users)/\w", text), f"{name(path)} names a folder of one machine"


@pytest.mark.parametrize("package", ["models/attention", "models/backbones", "models/layers"])
def test_every_module_file_is_imported_by_its_package(package: str) -> None:
    folder = ROOT / package
    text = (folder / "__init__.py").read_text(encoding="utf-8")
    for path in folder.glob("[!_]*.py"):
        assert re.search(rf"\b{path.stem}\b", text), f"{package}/__init__.py does not import {path.stem}"


@pytest.mark.parametrize("path", sorted([*(ROOT / "models").rglob("*.yaml"), *(ROOT / "data").rglob("*.yaml")]), ids=name)
def test_every_shipped_yaml_is_a_mapping(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("path", sorted((ROOT / "data" / "hyps").glob("*.yaml")), ids=name)
def test_every_shipped_hyp_file_loads(path: Path) -> None:
    from utils.config import load_hyp

    load_hyp(path)


@pytest.mark.parametrize("path", sorted((ROOT / "models").rglob("*.yaml")), ids=name)
def test_every_shipped_model_yaml_loads(path: Path) -> None:
    from models.spec import ModelSpec

    assert ModelSpec.from_yaml(path).rows


def test_importing_every_module_has_no_effect(tmp_path: Path) -> None:
    """In a fresh process: nothing written below the home or working folder, no output, no logging handler, no torch switch."""
    modules = [dotted(p) for p in SOURCES if p not in SCRIPTS and p.stem not in {"__main__"}] + [p.stem for p in SCRIPTS]
    code = f"""
import importlib, logging, os, torch
before = dict(os.environ), torch.get_num_threads(), torch.initial_seed(), torch.is_grad_enabled(), torch.get_default_dtype()
for module in {modules}:
    importlib.import_module(module)
after = dict(os.environ), torch.get_num_threads(), torch.initial_seed(), torch.is_grad_enabled(), torch.get_default_dtype()
of_others = ("KMP_", "TORCHINDUCTOR_", "QT_", "LD_LIBRARY_PATH")  # set by torch and OpenCV
own = [{{k: v for k, v in environment.items() if not k.startswith(of_others)}} for environment in (before[0], after[0])]
assert own[0] == own[1]
assert before[1:] == after[1:]
assert not logging.getLogger("attune").handlers
"""
    home = tmp_path / "home"
    home.mkdir()
    own = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**os.environ, **own, "MPLCONFIGDIR": str(tmp_path / "matplotlib")}  # which matplotlib makes when it is imported
    done = subprocess.run([sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout
    assert not list(home.iterdir())
