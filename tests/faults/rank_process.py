"""What torchrun starts in the place of train.py: the same, but one rank fails in its first life.

The environment says which: FAULT is "kill", "stop" (it hangs), "exit", "raise" or a signal's name, FAULT_RANK whom, FAULT_STEP before
which step. At its end each rank notes its exit code in the folder FAULT_CODES.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import train
from utils.cli import run
from utils.training.nonfinite import NonFiniteGuard, Verdict


def main() -> None:
    """Train, with a fault at a step."""
    fault = os.environ.get("FAULT", "")
    mine = os.environ["RANK"] == os.environ.get("FAULT_RANK") and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if fault and mine:
        harm_at(int(os.environ["FAULT_STEP"]), fault)
    train.main()


def harm_at(step: int, fault: str) -> None:
    """Strike before a step."""
    original, count = NonFiniteGuard.check, 0

    def harmed(*arguments: Any) -> Verdict:
        nonlocal count
        count += 1
        if count == step:
            harm(fault)
        return original(*arguments)

    NonFiniteGuard.check = harmed  # type: ignore[method-assign]


def harm(fault: str) -> None:
    """Fail."""
    if fault == "exit":
        os._exit(1)
    if fault == "raise":
        raise ValueError("harm")
    numbers = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
    os.kill(os.getpid(), numbers.get(fault) or getattr(signal, fault))


if __name__ == "__main__":
    try:
        run(main)
    except SystemExit as end:
        life = f"{os.environ['RANK']}-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
        Path(os.environ["FAULT_CODES"], life).write_text(str(end.code))
        raise
