"""The straightforward implementations that benchmarks compare with compute what the modules do, and none is missing."""

from __future__ import annotations

import pytest
import torch

from benchmarks.modules import contestants
from benchmarks.straightforward import COMPOSED, DIRECT, STRAIGHTFORWARD
from models import list_modules
from models.registry import lookup


@torch.no_grad()
@pytest.mark.parametrize("name", STRAIGHTFORWARD)
def test_it_computes_what_the_module_does(name: str) -> None:
    torch.manual_seed(0)
    _, module, plain = contestants([name], 32, 12).values()
    x = torch.randn(2, 32, 12, 12 if name == "MHSA" else 16)
    found, expected = plain.eval()(x), module.eval()(x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_every_attention_has_one_or_is_one() -> None:
    shipped = {n for n in list_modules() if lookup(n).build.__module__.startswith("models.attention.")}
    first = {lookup(n).build: n for n in sorted(shipped, key=lambda n: n == lookup(n).build.__name__)}
    assert set(first.values()) - set(STRAIGHTFORWARD) == DIRECT | COMPOSED
