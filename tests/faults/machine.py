"""Faults of the machine: full or broken disks, and lost dataloader workers.

NaN, Inf and out of memory are injected by the tests of `utils.training.nonfinite` and `utils.training.out_of_memory`.
"""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path

import torch

from tests.faults.machine_disk import disk_faults
from tests.faults.machine_loader import loader_faults
from tests.faults.tally import Tally


def run(folder: Path, *, short: bool) -> Tally:
    """Inject them one by one."""
    tally = Tally("machine")
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # loader processes are to start at once
    logging.getLogger("attune").setLevel(logging.CRITICAL)
    disk_faults(tally, folder, short=short)  # first: it forks, which a process that has computed may not bear
    loader_faults(tally, folder, short=short)
    return tally
