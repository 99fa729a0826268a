"""Ranks that are killed, end, hang or get a signal under ``torchrun --max-restarts``: the result is unchanged. Those that wait end."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import train
from tests.faults.tally import Tally, bytes_changed, snapshot
from tests.faults.training import PATIENCE, Training, differences, outcome, wait
from utils.signals import NAMES

ROOT = Path(__file__).resolve().parents[2]
FAULTS = (
    ("kill", 1, 3),
    ("kill", 0, 8),
    ("exit", 1, 12),
    ("raise", 0, 7),
    ("kill", 0, 1),
    ("kill", 1, 10),
    ("stop", 1, 5),
    ("stop", 0, 9),
    ("SIGTERM", 0, 4),
    ("SIGINT", 1, 6),
    ("SIGUSR1", 1, 11),
)
"""What happens, to which rank, before which of 12 steps."""
HANGS_AFTER = "0.2"
"""Minutes."""
LONGEST = 400.0
"""Seconds for one run with its restart."""


def run(folder: Path, *, short: bool) -> Tally:
    """Harm one rank of two in its first life, and compare what came of it with a run that was left alone."""
    tally = Tally("ranks")
    shorter = ["--epochs", "1"] if short else []
    training = Training(folder, "--noplots", "--workers", "1", "--rank-timeout", HANGS_AFTER, *shorter)
    before = snapshot(training.data.parent)
    wrong = _torchrun(training, "straight", {})
    if wrong:
        tally.fault(False, f"the undisturbed run: {wrong}")
        return tally
    expected = outcome(training.run_folder("straight"))
    for fault, rank, step in FAULTS[:1] if short else FAULTS:
        name = f"{fault}{rank}{step}"
        wrong = _torchrun(training, name, {"FAULT": fault, "FAULT_RANK": str(rank), "FAULT_STEP": str(step)})
        wrong = wrong or differences(expected, training.run_folder(name))
        tally.fault(not wrong, f"rank {rank}, {fault} before step {step}: {wrong}")
    for name in NAMES[:1] if short else NAMES:
        wrong = _waiting(training, name)
        tally.fault(not wrong, f"{name} to a rank that waits for the others: {wrong}")
    tally.bytes_changed += bytes_changed(before, training.data.parent)
    return tally


def _waiting(training: Training, name: str) -> str:
    """Send a signal to a rank whose master port is another, silent program's; what went wrong in words, if anything."""
    run_name, number = f"waiting-{name}", getattr(signal, name)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(silent.getsockname()[1])}
        joining = address | {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
        pid = training.fork(lambda: train.main(training.command(run_name)), run_name, lambda: os.environ.update(joining))
        select.select([silent], [], [], PATIENCE)  # it has connected, and gets no answer
        os.kill(pid, number)
        code = wait(pid)
    if training.run_folder(run_name).exists():
        return "it has made a run folder"
    return "" if code == -number else f"it ended with {code}"


def _torchrun(training: Training, name: str, fault: dict[str, str]) -> str:
    """Train in two processes; what went wrong in words, if anything."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--max-restarts", "1"]
    script = ["--monitor-interval", "0.2", str(ROOT / "tests" / "faults" / "rank_process.py")]
    log, began = training.folder / f"{name}.log", time.monotonic()
    codes = training.folder / f"{name}-codes"
    codes.mkdir()
    with log.open("w") as file:
        try:
            code = subprocess.run(
                [*launcher, *script, *training.command(name)],
                cwd=ROOT,
                env=os.environ | fault | {"FAULT_CODES": str(codes)},
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=LONGEST,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return f"no end after {time.monotonic() - began:.0f} s: {training.log(name)}"
    if code:
        return f"ended with {code}: {training.log(name)}"
    if fault and "resuming in" not in log.read_text(errors="replace"):
        return "no restart that goes on"
    ended = {path.name: path.read_text() for path in codes.glob("*-0")}
    stopped = fault.get("FAULT", "").startswith("SIG")
    return f"the ranks ended with {ended}" if stopped and ended != {"0-0": "75", "1-0": "75"} else ""
