"""Names and shapes of the authors' implementations, where they are at hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

Shapes = dict[str, tuple[int, ...]]


@pytest.fixture
def authors(shared: Path) -> Callable[[str], Shapes]:
    """Look up an implementation's state_dict by its name there: {entry: shape}; skips the test where there is no list."""

    def read(name: str) -> Shapes:
        path = shared.parent / "reference" / "state_dict" / f"{name}.txt"
        if not path.is_file():
            pytest.skip(f"no list {path}")
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        return {key: tuple(int(n) for n in re.findall(r"\d+", shape)) for key, shape in lines}

    return read
