"""Activation expressions: parsed, never evaluated."""

from __future__ import annotations

import pytest
from torch import nn

from models.activations import is_activation, parse_activation
from utils.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nn.SiLU()", nn.SiLU()),
        ("nn.SiLU", nn.SiLU()),
        ("SiLU", nn.SiLU()),
        ("nn.LeakyReLU(0.1)", nn.LeakyReLU(0.1)),
        ("nn.LeakyReLU(negative_slope=1e-2, inplace=False)", nn.LeakyReLU(0.01)),
        ("torch.nn.Hardswish()", nn.Hardswish()),
        ("nn.PReLU(1)", nn.PReLU(1)),
        ("nn.GELU()", nn.GELU()),
    ],
)
def test_expressions(text: str, expected: nn.Module) -> None:
    make = parse_activation(text)
    assert repr(make()) == repr(expected)
    assert make() is not make()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nn.Silu()", "unknown activation 'Silu'; did you mean 'SiLU'?"),
        ("nn.Linear(3, 4)", "unknown activation 'Linear'"),
        ("nn.LeakyReLU(0.1, 2, 3)", "too many positional arguments"),
        ("nn.LeakyReLU(slope=1)", "unexpected keyword argument 'slope'"),
        ("nn.LeakyReLU(open('x'))", "is not of the form"),
        ("nn.LeakyReLU(x)", "'x' is not a number"),
        ("__import__('os').system('ls')", "is not of the form"),
        ("nn.ReLU(inplace=True, 3)", "cannot read the argument '3'"),
        ("lambda: 1", "is not of the form"),
    ],
)
def test_everything_else_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        parse_activation(text)
    assert says in str(error.value)


def test_words_are_no_activations() -> None:
    assert is_activation("nn.SiLU")
    assert is_activation("SiLU()")
    assert not is_activation("nearest")
    assert not is_activation("3x3")


def test_what_begins_like_one_is_never_a_word() -> None:
    assert is_activation("nn.__import__('os').system('ls')")
