"""Cores that a process may use, half precision, and memory that stays with it."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu.max": "150000 100000\n"}, 2),  # a core and a half
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_a_containers_quota_limits_the_cores(files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(device, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert device.cpu_count() == expected


def test_openmp_spins_briefly_unless_the_user_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    device.share_processors()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    assert "OMP_NUM_THREADS" not in os.environ
    (tmp_path / "cpu.max").write_text("200000 100000")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    device.share_processors()
    assert "GOMP_SPINCOUNT" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux")
def test_peak_memory_is_not_that_of_the_process_that_started_this_one() -> None:
    held = bytearray(b"x" * 300_000_000)
    assert device.peak_memory_mb() > 300
    script = "from utils.device import process_memory_mb; print(process_memory_mb('VmHWM'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 200, len(held)
