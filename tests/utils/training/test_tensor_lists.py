"""Operations on lists of tensors, in one call and one by one."""

from __future__ import annotations

import pytest
import torch

from utils.training import tensor_lists as lists


@pytest.mark.parametrize("whole", [True, False], ids=["in one call", "one by one"])
def test_lists(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not whole:
        for name in ("copy_", "add_", "lerp_"):
            monkeypatch.delattr(torch, f"_foreach_{name}")
    a, b = [torch.zeros(2), torch.tensor([1.0])], [torch.tensor([3.0, 4.0]), torch.tensor([2.0])]
    lists.apply_each("lerp_", a, b, 0.5)
    assert [t.tolist() for t in a] == [[1.5, 2], [1.5]]
    lists.apply_each("add_", a, b)
    assert [t.tolist() for t in a] == [[4.5, 6], [3.5]]
    lists.apply_each("copy_", a, b)
    assert [t.tolist() for t in a] == [[3, 4], [2]]
    assert a[0] is not b[0]
