"""What every registered module has to do, asked of each one that there is; and faults that the checks have to find."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import list_modules, registry
from models.check import __main__ as check
from models.check.conformance import CHECKS, examine, run_check
from models.check.subject import subject
from models.registry import lookup, preserve, project, register
from utils.config import ROOT
from utils.errors import UserError

# Functions stand for one size of a network each; its class is registered small, and they are tested beside it.
NAMES = [name for name in list_modules() if isinstance(lookup(name).build, type)]
FIRST = {lookup(name).build: name for name in reversed(NAMES)}  # a class of several names is checked under one of them in every run
# The last class of a file, which often contains those before it, stands for them in every run. Networks consist of such blocks.
LAST = {entry.build.__module__: FIRST[entry.build] for entry in registry._ENTRIES.values() if entry.build in FIRST}
CHOSEN = {name for module, name in LAST.items() if not module.startswith("models.backbones.")}
QUICK = [name for name in CHECKS if name not in {"ONNX export", "cost"}]
SHORT = ("any size", "gradients", "folding")


@pytest.mark.parametrize("name", sorted(set(FIRST.values()) - CHOSEN))
def test_a_module_conforms_in_short(name: str) -> None:
    assert not [f"{f.check}: {f.note}" for f in (run_check(check, subject(name)) for check in SHORT) if f.state == "FAILED"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in CHOSEN else pytest.mark.slow) for name in NAMES])
def test_a_module_conforms(name: str) -> None:
    it = subject(name)
    findings = [run_check(check, it) for check in QUICK]
    assert not [f"{f.check}: {f.note}" for f in findings if f.state == "FAILED"]
    assert {f.check: f.note for f in findings if f.state == "skipped" and f.note != "reads several maps"} == dict(it.entry.exempt)


needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs onnxruntime")


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_module_exports_to_onnx(name: str) -> None:
    finding = run_check("ONNX export", subject(name))
    assert finding.state == "ok", finding.note


@needs_onnx
@pytest.mark.parametrize("name", ["C3", "CBAM", "CoordAtt", "C3Hor", "CAB", "Concat"])
def test_some_export_to_onnx_in_every_run(name: str) -> None:
    finding = run_check("ONNX export", subject(name))
    assert finding.state == "ok"
    assert finding.note == "traced; equal at 16x24 and 8x32"


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_gives_shapes(name: str) -> None:
    build_of = lookup(name).build
    if build_of.__module__.startswith("models.") and isinstance(build_of, type):
        assert "Shape:" in (build_of.__doc__ or ""), f"{name} has no 'Shape:'"


def test_there_is_something_to_test() -> None:
    wanted = {"Conv", "C3", "SPPF", "CoordAtt", "Detect", "Concat", "nn.Upsample", "Focus", "C3TR", "CoT", "GnConv", "MHSA", "CAB"}
    assert wanted <= set(NAMES)


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Register a class for one test only; returns its name."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    def add(build: type[nn.Module], rule: registry.Rule = preserve, **settings: object) -> str:
        register(rule, **settings)(build)  # type: ignore[arg-type]
        return build.__name__

    return add


class Good(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mix(x.mean((2, 3), keepdim=True)).sigmoid()


class InPlaceGate(Good):
    def forward(self, x: Tensor) -> Tensor:
        x *= self.mix(x).sigmoid()
        return x


class UnusedConv(Good):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.dead = nn.Conv2d(channels, channels, 3)


class FixedSize(Good):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.position = nn.Parameter(torch.randn(1, channels, 13, 20))

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x + self.position)


class FixedSizeWithAFallback(Good):
    """Takes any size, but a trace keeps the way it took."""

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x) if x.shape[2] == 16 else x


class Remembers(Good):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.last = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(x) + self.last
        self.last = x.mean().detach()
        return y


class Holds(Good):
    def forward(self, x: Tensor) -> Tensor:
        self.map = self.mix(x)
        return self.map * 1


class DropsAlways(Good):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.mix(x), 0.5, training=True)


class SoftmaxOverTheBatch(Good):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.mix(x).softmax(0)


class OnlyFloat32(Good):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, ::2] = self.mix(x)[:, ::2]
        y.index_copy_(1, torch.arange(1, x.shape[1], 2), self.mix(x)[:, 1::2])
        return y


class Explodes(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x) + (x * 0).sqrt()


class Solves(Good):
    """An operator that no counter knows."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(x).flatten(2)
        square = y @ y.transpose(1, 2) + torch.eye(y.shape[1])
        return x + torch.linalg.cholesky(square).mean()


class ViewsAsItStands(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.view(x.shape[0], -1).view(x.shape))


class FiveAxes(Good):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.several = nn.Parameter(torch.randn(2, channels, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x) + nn.functional.conv2d(x, self.several.sum(0))


class NeedsEight(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.reshape(len(x), 8, -1, *x.shape[2:]).flip(1).flatten(1, 2))


class Twice(Good):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.mix(x), x), 1)


FAULTS: dict[type[nn.Module], tuple[str, str]] = {
    InPlaceGate: ("input unchanged", "writes its input"),
    UnusedConv: ("gradients", "none for dead.weight, dead.bias"),
    FixedSize: ("any size", "32x8: RuntimeError"),
    FixedSizeWithAFallback: ("TorchScript trace", "traced at 16x24, run at 8x32: differs"),
    Remembers: ("no state", "after a call with another map: differs"),
    Holds: ("no state", "keeps map after a call"),
    DropsAlways: ("deterministic", "the same input twice: differs"),
    SoftmaxOverTheBatch: ("batch independence", "alone and in a batch: differs"),
    OnlyFloat32: ("bf16 autocast", "same dtype"),
    Explodes: ("gradients", "infinite for the input"),
    Solves: ("FLOPs counted", "aten.linalg_cholesky_ex; its GFLOPs come out too low"),
    ViewsAsItStands: ("channels_last", "view size is not compatible"),
    FiveAxes: ("channels_last", "several has five axes"),
    NeedsEight: ("any width", "4 channels: built, then RuntimeError"),
    Twice: ("declared width", "gives [64] channels, its rule says [32]"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found_and_named(fault: type[nn.Module], plug: Callable[..., str]) -> None:
    name, says = FAULTS[fault]
    finding = run_check(name, subject(plug(fault)))
    assert finding.state == "FAILED"
    assert says in finding.note


def test_a_failure_names_the_line_of_the_modules_own_file(plug: Callable[..., str]) -> None:
    line = FixedSize.forward.__code__.co_firstlineno + 1
    finding = run_check("any size", subject(plug(FixedSize)))
    assert finding.note.endswith(f" ({Path(__file__).name}:{line})")


def test_a_good_module_passes_and_says_what_was_found(plug: Callable[..., str]) -> None:
    findings = {f.check: f for f in examine(plug(Good))}
    assert list(findings) == list(CHECKS)
    assert {f.state for f in findings.values()} <= {"ok", "skipped"}
    assert findings["declared width"].note == "32 -> 32"
    assert findings["any width"].note == "4, 12, 20, 24, 40"
    assert findings["cost"].note.startswith("1,056 parameters, 0.0000 GFLOPs, ")


def test_a_width_may_be_refused_at_construction(plug: Callable[..., str]) -> None:
    class Eights(Good):
        def __init__(self, channels: int) -> None:
            if channels % 8:
                raise ValueError(f"{channels} channels; 8 would fit")
            super().__init__(channels)

    finding = run_check("any width", subject(plug(Eights)))
    assert finding.state == "ok"
    assert "12 refused: ValueError: 12 channels; 8 would fit" in finding.note


def test_a_stated_reason_replaces_a_check(plug: Callable[..., str]) -> None:
    it = subject(plug(FixedSizeWithAFallback, exempt={"TorchScript trace": "chooses by size"}))
    assert (run_check("TorchScript trace", it).state, run_check("TorchScript trace", it).note) == ("skipped", "chooses by size")


def test_an_example_that_does_not_build_is_the_only_finding(plug: Callable[..., str]) -> None:
    findings = list(examine(plug(Good, project)))
    assert [(f.check, f.state) for f in findings] == [("builds", "FAILED")]
    assert "example=" in findings[0].note


def run(*argv: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command in the repository; elsewhere, by its path."""
    by = ["-m", "models.check"] if folder == ROOT else [str(ROOT / "models" / "check")]
    return subprocess.run([sys.executable, *by, *argv], cwd=folder, capture_output=True, text=True, check=False)


GOOD_FILE = """
from torch import nn
from models.registry import preserve, register


@register(preserve)
class Plugged(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x * self.mix(x).sigmoid()
"""


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(GOOD_FILE.replace("return x *", "x *= 2; return x *"))
    result = run("bad.py", folder=tmp_path)
    lines = result.stdout.splitlines()
    assert (result.returncode, result.stderr) == (1, "")
    assert lines[0] == "Plugged"
    assert lines[2].split(None, 3) == ["any", "size", "ok", "13x20, 1x1, 32x8, 7x7"]
    assert any(line.startswith("    input unchanged      FAILED   writes its input") for line in lines)
    assert not list(tmp_path.glob("__pycache__"))


@pytest.mark.slow
def test_the_command_where_all_checks_hold(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD_FILE)
    result = run(str(tmp_path / "good.py"))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].startswith("1 module: all checks hold")


@pytest.mark.parametrize(
    ("text", "argv", "says"),
    [
        ("", ("nowhere.py",), "nowhere.py: no such file"),
        ("x = 1", (), "registers no module; put @register(preserve)"),
        ("import nothing_of_that_name", (), "bad.py:1: ModuleNotFoundError"),
        ("", ("--modules", "CoordAttt"), "did you mean 'CoordAtt'?"),
    ],
)
def test_bad_input_is_one_line(text: str, argv: tuple[str, ...], says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UserError) as caught:
        check.main(argv or [str(tmp_path / "bad.py")])
    assert says in str(caught.value)


def test_bad_input_ends_with_status_2() -> None:
    result = run()
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: name a file that registers a module")
