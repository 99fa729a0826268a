"""Gates: what they compute, and that a model with them starts as its base."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import build_model
from models.gate import Gate, Replacement, fading
from models.spec.model_spec import ModelSpec
from utils.errors import UserError


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@pytest.mark.parametrize(("g", "expected"), [(0.0, 3.0), (0.25, 4.0), (1.0, 7.0)])
def test_a_replacement_fades_from_the_old_block_to_the_new_one(g: float, expected: float) -> None:
    block = Replacement(Times(3), Times(7), learned=False)
    assert float(block(torch.ones(1, 1, 1, 1))) == 3
    block.g.fill_(g)
    assert float(block(torch.ones(1, 1, 1, 1))) == expected


def test_only_a_learned_gate_is_a_parameter() -> None:
    both = nn.ModuleList([Replacement(Times(3), Times(7), learned=learned) for learned in (True, False)])
    assert [name for name, _ in both.named_parameters()] == ["0.g"]
    assert fading(both) == [both[1]]


def test_blocks_of_other_shapes_are_refused() -> None:
    for gate in (Gate(nn.AvgPool2d(2)), Replacement(nn.Identity(), nn.AvgPool2d(2), learned=False)):
        with pytest.raises(ValueError, match="a gate needs a block"):
            gate(torch.ones(1, 1, 4, 4))


def test_a_model_with_replacements_starts_as_its_base_and_ends_as_the_variant_without_gate() -> None:
    base = build_model("yolov5n").eval()
    gated = build_model("yolov5n-cot-gated").eval()
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(base(x), gated(x))
    assert gated.spec.finished() == build_model("yolov5n-cot").spec
    assert ModelSpec.from_dict(gated.spec.to_dict(), "again") == gated.spec


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"replace": 2, "with": [1, "C3CoT", [64]], "gate": "zero"}, "a gate needs a block of the width of C3"),
        ({"replace": 24, "with": [1, "Detect", ["nc", "anchors"]], "gate": "zero"}, "cannot fade this row out: it is the head"),
        ({"replace": 4, "with": [1, "C3CoT", [256]], "from": 2, "gate": "zero"}, "'from' gives the new block other inputs"),
        ({"replace": 4, "with": [1, "C3CoT", [256]], "gate": "one"}, "gate: 'one' is unknown; there is zero and learned"),
        ({"replace": 4, "from": 2, "gate": "zero"}, "a gate needs 'with'"),
    ],
)
def test_gates_that_make_no_sense(edit: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_model({"base": "yolov5n.yaml", "edits": [edit]})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"replaced": [1]}, "'replaced' is a list of 25 entries"),
        ({"replaced": [[1]] + [None] * 24}, "what it replaces has the form"),
        ({"replaced": [[1, "C3", [64], "0"]] + [None] * 24}, "but has no gate"),
        ({"gates": ["one"] + [""] * 24}, "gate 'one' is unknown"),
    ],
)
def test_a_spec_from_an_untrusted_checkpoint(change: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        ModelSpec.from_dict(build_model("yolov5n").spec.to_dict() | change, "file")
