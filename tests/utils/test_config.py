"""The hyper-parameter file: numbers as people write them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.config import Hyp, load_hyp
from utils.errors import UserError


def test_a_power_of_ten_without_a_point_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "h.yaml").write_text("lr0: 1e-3\nweight_decay: 5E-4\nanchors:\n")
    assert load_hyp(tmp_path / "h.yaml") == Hyp(lr0=0.001, weight_decay=0.0005)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr0:", "lr0: None is not a number"),
        ("lr0: fast", "lr0: 'fast' is not a number"),
        ("lr0: nan", "lr0: nan is not a number"),
        ("mosaic: true", "mosaic: True is not a number"),
        ("momentum: 1", "momentum: 1 is outside 0 to 0.9999"),
        ("mosiac: 1", "did you mean 'mosaic'"),
        ("1: 2", "unknown hyper-parameter 1"),
    ],
)
def test_what_is_no_hyper_parameter(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "h.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_hyp(tmp_path / "h.yaml")
