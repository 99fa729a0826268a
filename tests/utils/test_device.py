"""Freed memory stays with the process."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys, torch
from utils.device import keep_freed_memory

class Info(ctypes.Structure):
    _fields_ = [(f"field{i}", ctypes.c_size_t) for i in range(10)]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
for prepare in (lambda: None, keep_freed_memory):
    prepare()
    before = mallinfo().field4  # bytes in blocks with pages of their own
    x = torch.ones(4_000_000)
    print(mallinfo().field4 - before)
    del x
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="another C library")
def test_a_large_tensor_has_no_pages_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True)
    before, after = map(int, done.stdout.split())
    assert before >= 16_000_000
    assert after < 16_000_000
