"""A user's own file."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import build_model, list_modules, load_plugins, registry
from utils.errors import UserError

BLOCK = """
from torch import nn
from models.registry import preserve, register

@register(preserve, example=(2,))
class Mine(nn.Module):
    def __init__(self, channels, gain=1):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.conv(x)
"""


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    list_modules()
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def write(folder: Path, text: str) -> Path:
    path = folder / "block.py"
    path.write_text(text)
    return path


def test_a_file_plugs_in_and_leaves_no_trace(tmp_path: Path) -> None:
    path = write(tmp_path, BLOCK)
    load_plugins([path])
    load_plugins([str(path)])
    (tmp_path / "v.yaml").write_text("base: yolov5n.yaml\nedits: [{after: 9, insert: [1, Mine, [3]]}]")
    assert build_model(tmp_path / "v.yaml").model[10].conv.in_channels == 256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["block.py", "v.yaml"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\nx = = 2", r"block\.py:2: SyntaxError"),
        ("\n\nimport nowhere_to_be_found", r"block\.py:3: ModuleNotFoundError"),
        ("def f():\n    return 1 / 0\nf()", r"block\.py:2: ZeroDivisionError"),
        (BLOCK.replace("Mine", "Conv"), r"block\.py:5: UserError: module name 'Conv' is registered twice"),
    ],
)
def test_an_error_in_the_file_is_one_message_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_plugins([write(tmp_path, text)])


def test_a_missing_or_other_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.py: no such file"):
        load_plugins([f"{'x' * 400}.py"])
    with pytest.raises(UserError, match=r"nothing\.py: no such file"):
        load_plugins([tmp_path / "nothing.py"])
    with pytest.raises(UserError, match=r"a\.txt: not a \.py file"):
        load_plugins([tmp_path / "a.txt"])
