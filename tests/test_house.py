"""The house rules that no other tool checks: who imports whom, how large things are, that every shipped file loads."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(ROOT.glob("*.py"))
SOURCES = [*SCRIPTS, *sorted((ROOT / "models").rglob("*.py")), *sorted((ROOT / "utils").rglob("*.py"))]
EVERYTHING = [*SOURCES, *sorted((ROOT / "benchmarks").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
NOUNLESS = {"utils", "general", "common", "misc", "helpers", "tools", "stuff"}
UNPICKLERS = {"pickle", "dill", "joblib", "shelve", "marshal"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(text(path))))


def imported(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def test_the_house_is_looked_at() -> None:
    assert {p.stem for p in SCRIPTS} >= {"train", "val", "detect"}
    assert len(SOURCES) > 50


def test_no_part_imports_a_script() -> None:
    scripts = {p.stem for p in SCRIPTS}
    assert not [f"{name(p)} imports {module}" for p in SOURCES for module in imported(p) if module.split(".")[0] in scripts]


def test_no_file_is_longer_than_300_lines() -> None:
    assert not [f"{name(p)}: {lines} lines" for p in SOURCES if (lines := len(text(p).splitlines())) > 300]


def test_no_function_is_longer_than_60_lines() -> None:
    functions = [(p, node) for p in SOURCES for node in nodes(p) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert not [f"{name(p)}:{node.lineno} {node.name}" for p, node in functions if (node.end_lineno or 0) - node.lineno >= 60]


def test_a_file_is_named_after_a_noun_of_the_field() -> None:
    assert not [name(p) for p in SOURCES if p.stem in NOUNLESS]


def test_nothing_is_evaluated() -> None:
    calls = [(p, node) for p in SOURCES for node in nodes(p) if isinstance(node, ast.Call)]
    assert not [f"{name(p)}:{c.lineno}" for p, c in calls if isinstance(c.func, ast.Name) and c.func.id in {"eval", "exec", "__import__"}]


def test_nothing_is_unpickled() -> None:
    calls = [(p, node) for p in SOURCES for node in nodes(p) if isinstance(node, ast.Call)]
    loads = [(p, call) for p, call in calls if ast.unparse(call.func) == "torch.load"]
    assert not [f"{name(p)}:{call.lineno}" for p, call in loads if "weights_only=True" not in ast.unparse(call)]
    assert not [f"{name(p)} imports {module}" for p in SOURCES for module in imported(p) if module in UNPICKLERS]


def test_nothing_names_a_folder_of_one_machine() -> None:
    assert not [name(p) for p in EVERYTHING if re.search(r"[\"' ]/(home|root|work|Users)/\w", text(p))]


@pytest.mark.parametrize("package", ["models/attention", "models/backbones", "models/heads", "models/layers", "models/necks"])
def test_every_file_that_registers_a_module_is_imported_by_its_package(package: str) -> None:
    listed = text(ROOT / package / "__init__.py")
    files = [p for p in (ROOT / package).glob("[!_]*.py") if re.search(r"(?m)^@?(register|publish)\(", text(p))]
    assert files
    assert not [p.stem for p in files if not re.search(rf"\b{p.stem}\b", listed)]


def test_every_shipped_yaml_loads() -> None:
    from models.spec.model_spec import ModelSpec
    from utils.config import load_hyp
    from utils.files.yaml_file import read_yaml

    models, data, hyps = (sorted((ROOT / folder).rglob("*.yaml")) for folder in ("models", "data", "data/hyps"))
    assert len(models) > 10
    assert len(hyps) >= 7
    for path in models:
        assert ModelSpec.from_yaml(path).rows
    for path in data:
        assert read_yaml(path)
    for path in hyps:
        load_hyp(path)


@pytest.mark.parametrize(
    "command",
    [
        *("train.py", "val.py", "detect.py", "compare.py", "export.py"),
        *("-m models.show", "-m models.check", "-m utils.data.doctor", "-m utils.data.shapes", "-m utils.compare.report"),
    ],
)
def test_help_loads_nothing_heavy(command: str) -> None:
    words = [sys.executable, "-X", "importtime", *command.split(), "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "cv2", "numpy", "matplotlib", "scipy", "PIL"}


def test_no_test_measures_time() -> None:
    """But by the yardstick, or to report it."""
    pattern = re.compile(r"\b(perf_counter|process_time|timeit)\(")
    clocks = {name(p) for p in EVERYTHING if p.is_relative_to(ROOT / "tests") and pattern.search(text(p))}
    assert clocks == {f"tests/{file}.py" for file in ("effort", "faults/fuzz", "faults/hostile", "faults/labels", "faults/isolation")}


def test_importing_every_module_has_no_effect(tmp_path: Path) -> None:
    """In a fresh process: nothing written below the home or working folder, no output, no logging handler, no torch switch."""
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in SOURCES]
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
