"""The ``--device`` flag, and the time and memory that work on a device takes."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError
from utils.log import LOG

if TYPE_CHECKING:
    import torch  # which counting CPUs does not need

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 1 << 25  # what glibc accepts
_CGROUPS = Path("/sys/fs/cgroup")


def select_device(text: str = "", *, local_rank: int = -1) -> torch.device:
    """Turn ``''`` (first GPU, else CPU), ``cpu``, ``mps``, ``0`` or ``0,1`` into a device; under torchrun the rank picks from the list.

    Raises:
        UserError: no such device.
    """
    import torch

    text = text.strip().lower().removeprefix("cuda:")
    if text == "cpu" or (text == "" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if text == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("--device mps: no MPS device on this machine; use --device cpu")
        return torch.device("mps")
    ids = text.split(",") if text else [str(max(local_rank, 0))]
    if not all(i.strip().isdigit() for i in ids):
        raise UserError(f"--device {text!r}: invalid; expected '', cpu, mps, 0, 0,1, ...")
    index = int(ids[max(local_rank, 0) % len(ids)])
    if index >= torch.cuda.device_count():
        raise UserError(f"--device {text}: this machine has {torch.cuda.device_count()} CUDA device(s); use --device cpu or a lower number")
    return torch.device("cuda", index)


def processor_name(device: torch.device) -> str:
    """The name of the GPU or the CPU that computes on `device`."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def has_display() -> bool:
    """Whether a window can probably be shown."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def cpu_count() -> int:
    """Return the number of cores that this process may use: those of its affinity, at most as many as a container's CPU quota pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(math.ceil(min(cores, _cpu_quota(_CGROUPS))), 1)


def _cpu_quota(root: Path) -> float:
    """Seconds of processor time per second that the control groups mounted at `root` allow, by version 2 or 1; infinite without a limit."""
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # none, or "max"
        return math.inf


def share_processors() -> None:
    """Settings for GNU OpenMP, which it reads when torch is imported, unless the user has made them.

    As many threads as `cpu_count`, where torch would start one for each core of the host; and threads that wait for each other spin
    briefly, then sleep: by default they spin on, and beside other busy processes each waits for a thread that cannot run because it spins.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # sleeping at once takes 1.7 times as long on a machine without other load
    if _cpu_quota(_CGROUPS) < math.inf:
        os.environ.setdefault("OMP_NUM_THREADS", str(cpu_count()))


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware, and PyTorch may use it; emulated, it would be slower than float32."""
    import torch

    if torch.backends.cpu.get_cpu_capability() == "AVX2":  # or limited to it by ATEN_CPU_CAPABILITY
        return False
    # Not public; where PyTorch has neither, assume no support.
    tests = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(test() for test in tests if test is not None)


def half_precision(device: torch.device, *, wanted: bool) -> torch.autocast:
    """The context for inference in half precision, if `wanted`: fp16 on CUDA, bf16 elsewhere.

    On a CPU that would emulate it, at a ninth of the speed, it is float32, and a warning says so once.
    """
    import torch

    if wanted and device.type == "cpu" and not cpu_has_bf16():
        _warn_slow_half()
        wanted = False
    return torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16, enabled=wanted)


@functools.cache
def _warn_slow_half() -> None:
    LOG.warning("--half: this CPU computes neither fp16 nor bf16 in hardware; using float32, which is faster here")


def keep_freed_memory() -> None:
    """Keep freed blocks of up to 32 MB in this process; a no-op where the C library is not glibc.

    By default each large tensor is mapped anew, its pages cleared on first use and unmapped when it is freed, which takes a tenth
    of the time of a training step on a CPU.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def clock(device: torch.device) -> float:
    """Seconds of a monotonic clock, read once all work given to a CUDA device is done."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory_mb() -> float:
    """Peak memory so far, in 1e6 bytes: of the GPU where one is used, else of this process."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e6
    if (peak := process_memory_mb("VmHWM")) is not None:  # getrusage's begins with that of the process that started this one
        return peak
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def resident_memory_mb() -> float:
    """Memory of this process now, in 1e6 bytes; its peak where the system does not tell."""
    now = process_memory_mb("VmRSS")
    return peak_memory_mb() if now is None else now


def process_memory_mb(entry: str) -> float | None:
    """An entry of Linux's /proc/self/status, in 1e6 bytes; None on other systems."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{entry}:")), None)
