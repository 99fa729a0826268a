"""A user's own file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

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


def test_a_file_may_import_another_beside_it_at_once_and_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "layers_of_mine.py").write_text("from torch import nn\n\ndef conv(c): return nn.Conv2d(c, c, 1)\n")
    (tmp_path / "more_of_mine.py").write_text("gain = 2\n")
    text = BLOCK.replace("from torch import nn\n", "from torch import nn\nfrom layers_of_mine import conv\n")
    text = text.replace("nn.Conv2d(channels, channels, 1)", "conv(channels)")
    text = text.replace("return self.conv(x)", "from more_of_mine import gain\n        return gain * self.conv(x)")
    load_plugins([write(tmp_path, text)])
    assert not (tmp_path / "__pycache__").exists()
    assert not sys.dont_write_bytecode
    (tmp_path / "v.yaml").write_text("base: yolov5n.yaml\nedits: [{after: 9, insert: [1, Mine, []]}]")
    assert build_model(tmp_path / "v.yaml").model[10].conv.in_channels == 256


# Written as the classes of collections of attention modules are: a width or none, tokens, channels last.
COLLECTION = """
import torch
from torch import nn

class ChannelGate(nn.Module):
    def __init__(self, channel=512, reduction=16):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channel, channel // reduction), nn.ReLU(), nn.Linear(channel // reduction, channel), nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]

class KernelGate(nn.Module):
    def __init__(self, kernel_size=3):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3))[:, None]).sigmoid()[:, 0, :, None, None]

class DotProduct(nn.Module):
    def __init__(self, d_model, h=2):
        super().__init__()
        self.attention = nn.MultiheadAttention(d_model, h, batch_first=True)

    def forward(self, queries, keys, values):
        return self.attention(queries, keys, values)[0]

class LastGate(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x):
        assert x.shape[3] == self.fc.in_features
        return x * self.fc(x)
"""
PLUGGED = """
from collection import ChannelGate, DotProduct, KernelGate, LastGate
from models.layers.layouts import OverNHWC, OverTokens
from models.registry import preserve, register, untouched

register(preserve)(ChannelGate)
register(untouched)(KernelGate)

@register(preserve)
def Dots(channels: int, h: int = 2):
    return OverTokens(DotProduct(channels, h), inputs=3)

@register(preserve)
def Last(channels: int):
    return OverNHWC(LastGate(channels))
"""


def test_classes_of_a_collection_plug_in_as_the_docs_say(tmp_path: Path) -> None:
    (tmp_path / "collection.py").write_text(COLLECTION)
    load_plugins([write(tmp_path, PLUGGED)])
    rows = [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "ChannelGate", [8]], [-1, 1, "KernelGate", [5]], [-1, 1, "Dots", [4]], [-1, 1, "Last", []]]
    model = build_model({"nc": 1, "anchors": [[10, 13]], "backbone": rows, "head": [[-1, 1, "Detect", ["nc", "anchors"]]]})
    assert (model.model[1].fc[0].out_features, model.model[2].conv.kernel_size, model.model[3].inner.attention.num_heads) == (8, (5,), 4)
    model.train()(torch.rand(2, 3, 32, 48))[0].sum().backward()
    assert all(p.grad is not None for p in model.model[:5].parameters())
    x = torch.rand(2, 64, 3, 5)
    tokens = x.permute(0, 2, 3, 1).reshape(2, 15, 64)
    expected = model.model[3].inner(tokens, tokens, tokens).reshape(2, 3, 5, 64)
    torch.testing.assert_close(model.model[3](x), expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("holder", "name"),
    [
        ("self.convs = [nn.Conv2d(channels, channels, 1)]", "convs"),
        ("self.table = {'a': (nn.Linear(2, 2),)}", "table"),
        ("self.gain = torch.ones(channels, requires_grad=True)", "gain"),
    ],
)
def test_weights_that_would_be_lost_are_refused(tmp_path: Path, holder: str, name: str) -> None:
    text = BLOCK.replace("from torch import nn", "import torch\nfrom torch import nn")
    load_plugins([write(tmp_path, text.replace("        self.conv = ", f"        {holder}\n        self.conv = "))])
    (tmp_path / "v.yaml").write_text("base: yolov5n.yaml\nedits: [{after: 9, insert: [1, Mine, []]}]")
    with pytest.raises(UserError, match=rf"row 10 \(Mine\): Mine keeps weights in '{name}', which would be neither trained nor saved"):
        build_model(tmp_path / "v.yaml")


def test_a_list_of_layers_that_are_known_is_no_fault(tmp_path: Path) -> None:
    load_plugins([write(tmp_path, BLOCK.replace("    def forward", "        self.order = [self.conv]\n\n    def forward"))])
    (tmp_path / "v.yaml").write_text("base: yolov5n.yaml\nedits: [{after: 9, insert: [1, Mine, []]}]")
    assert build_model(tmp_path / "v.yaml").model[10].order


def test_a_name_without_its_file_is_told_of_the_flag() -> None:
    with pytest.raises(UserError, match=r"unknown module 'Mine'.*--plugins my_block.py adds your own"):
        build_model({"nc": 1, "anchors": [[10, 13]], "backbone": [[-1, 1, "Mine", []]], "head": [[-1, 1, "Detect", ["nc", "anchors"]]]})


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
