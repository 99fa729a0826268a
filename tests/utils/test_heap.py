"""Freed memory stays with the process."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys, torch
from utils.heap import keep_freed_memory

class Info(ctypes.Structure):
    _fields_ = [(f"field{i}", ctypes.c_size_t) for i in range(10)]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
if sys.argv[1] == "keep":
    keep_freed_memory()
before = mallinfo().field4  # bytes in blocks with pages of their own
x = torch.ones(4_000_000)
print(mallinfo().field4 - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library")
@pytest.mark.parametrize(("mode", "own"), [("keep", False), ("", True)])
def test_a_large_tensor_has_no_pages_of_its_own(mode: str, own: bool) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, mode], check=True, capture_output=True)
    assert (int(done.stdout) >= 16_000_000) is own
