"""The ``--device`` flag, and the memory that tensors on a CPU live in."""

from __future__ import annotations

import ctypes
import sys

import torch

from utils.errors import UserError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 1 << 25  # what glibc accepts


def select_device(text: str = "", *, local_rank: int = -1) -> torch.device:
    """Turn ``''`` (first GPU, else CPU), ``cpu``, ``mps``, ``0`` or ``0,1`` into a device; under torchrun the rank picks from the list.

    Raises:
        UserError: the device is not there.
    """
    text = text.strip().lower().removeprefix("cuda:")
    if text == "cpu" or (text == "" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if text == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("--device mps: no MPS device on this machine; use --device cpu")
        return torch.device("mps")
    ids = text.split(",") if text else [str(max(local_rank, 0))]
    if not all(i.strip().isdigit() for i in ids):
        raise UserError(f"--device {text!r} is none of '', cpu, mps, 0, 0,1, ...")
    index = int(ids[max(local_rank, 0) % len(ids)])
    if index >= torch.cuda.device_count():
        raise UserError(f"--device {text}: this machine has {torch.cuda.device_count()} CUDA device(s); use --device cpu or a lower number")
    return torch.device("cuda", index)


def keep_freed_memory() -> None:
    """Let freed blocks of up to 32 MB stay with this process; a no-op where the C library is not glibc.

    By default each large tensor gets pages of its own from the system, which clears them when they are first touched, and gives
    them back when it is freed. In a training step on a CPU that is a tenth of the time.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
