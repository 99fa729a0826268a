"""Freed memory stays with the process."""

from __future__ import annotations

import ctypes
import logging
import subprocess
import sys

import pytest
import torch

from utils import device

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


@pytest.mark.parametrize("has_units", [False, True])
def test_half_precision_falls_back_where_a_cpu_would_emulate_it(
    has_units: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("attune"), "propagate", True)
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: has_units)
    device._warn_slow_half.cache_clear()
    x = torch.ones(2, 2)
    for _ in range(2):
        with device.half_precision(torch.device("cpu"), wanted=True):
            assert (x @ x).dtype is (torch.bfloat16 if has_units else torch.float32)
    assert [record.message.partition(":")[0] for record in caplog.records] == ([] if has_units else ["--half"])
    with device.half_precision(torch.device("cpu"), wanted=False):
        assert (x @ x).dtype is torch.float32
