"""Freed memory stays with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from utils.heap import keep_freed_memory
if sys.argv[1] == "keep": keep_freed_memory()
for _ in range(60): torch.ones(4_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other C libraries")
def test_a_freed_block_is_used_again() -> None:
    faults = [
        int(subprocess.run([sys.executable, "-c", SCRIPT, mode], check=True, capture_output=True, text=True).stdout)
        for mode in ("keep", "")
    ]
    assert faults[1] - faults[0] > 50 * 4_000_000 * 4 // 4096 // 512  # were its pages huge ones, it would still be these
