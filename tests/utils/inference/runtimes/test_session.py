"""What is said of a runtime's own error."""

from __future__ import annotations

from utils.inference.runtimes.session import reason


def test_a_reason_is_one_line_without_colours() -> None:
    assert reason(RuntimeError("\x1b[96mstep 2/3\x1b[0m\n\n  failed")) == "step 2/3 failed"
