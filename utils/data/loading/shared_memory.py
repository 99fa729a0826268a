"""Shared memory of the loader processes: plain bytes, and slots that are reused for batch after batch.

Touching a page for the first time costs more than writing an image into it, so a run uses the same memory throughout.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def shared_bytes(count: int) -> Tensor:
    """Return (count,) uint8, shared with the processes that get it by fork or as an argument.

    Raises:
        RuntimeError: /dev/shm has less free space; it is reserved here, not when the bytes are first touched.
    """
    # What torch's own collate function does; share_memory_() touches every page twice.
    new_shared = getattr(torch.UntypedStorage, "_new_shared", None)
    if new_shared is None:
        return torch.empty(max(count, 1), dtype=torch.uint8).share_memory_()
    return torch.empty(0, dtype=torch.uint8).set_(new_shared(max(count, 1)))


class SharedSlots:
    """Equal slots of shared memory that workers fill, free again once the tensors viewing them are gone.

    The creating process takes and views slots; workers only fill them. Without `shared` the memory is private, since a container's
    /dev/shm may hold less than one batch. Where shared memory runs short there are fewer slots.
    """

    def __init__(self, count: int, size: int, *, shared: bool = True) -> None:
        self._memory: list[Tensor] = []
        for _ in range(count):
            try:
                self._memory.append(shared_bytes(size) if shared else torch.empty(max(size, 1), dtype=torch.uint8))
            except RuntimeError:
                break
        self._free = list(range(len(self._memory)))

    def __getstate__(self) -> list[Tensor]:
        return self._memory  # a worker needs nothing else

    def __setstate__(self, memory: list[Tensor]) -> None:
        self._memory, self._free = memory, []

    def take(self) -> int:
        """Return a free slot, the one used last if there are several; -1 without any."""
        return self._free.pop() if self._free else -1

    def give_back(self, slot: int) -> None:
        """Free a slot."""
        if slot >= 0:
            self._free.append(slot)

    def array(self, slot: int, shape: Sequence[int]) -> NDArray[np.uint8]:
        """Return a slot's memory as an array to write into."""
        return np.frombuffer(self._memory[slot].numpy().data, np.uint8, int(np.prod(shape))).reshape(shape)

    def view(self, slot: int, shape: Sequence[int]) -> Tensor:
        """Return a slot's content as a tensor; the slot is freed once the tensor and all its views are gone."""
        array = self.array(slot, shape)
        weakref.finalize(array, self.give_back, slot)  # only the tensor's storage holds the array
        return torch.from_numpy(array)


def free_memory() -> int:
    """Return the free bytes for shared memory: the minimum of the machine, the container and /dev/shm."""
    free = shared_memory()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = min(free, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, TypeError):
        pass  # not Linux, or no container with a limit
    return free


def shared_memory() -> int:
    """Return the free bytes of /dev/shm, where processes share tensors; a very large number without that folder."""
    return shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 2**62  # noqa: S108
