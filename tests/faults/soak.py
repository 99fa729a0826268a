"""Training, validation and detection over and over in one process: memory, file handles and threads stay flat."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import resource
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.faults.fuzz_kinds import TINY
from tests.faults.tally import Tally

ROUNDS = 20
WARM_UP = 4
GROWTH = 1.0
"""MB a round that the memory may grow by: the line through all rounds but the first; a training's images alone take more."""
SLACK = 40.0
"""MB that it may be larger at the end of the short form, where there is no line to draw."""


def run(folder: Path, *, short: bool) -> Tally:
    """Go round and round; each round counts as one fault."""
    from utils.data.shapes import write_dataset

    tally = Tally("soak")
    data = write_dataset(folder / "shapes", {"train": 8, "val": 4}, size=96, seed=0)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    os.chdir(folder)
    states = []
    for number in range(1 + 3 if short else WARM_UP + ROUNDS):
        _round(folder, data, short=short)
        states.append(_state())
        if number >= (1 if short else WARM_UP):
            _judge(tally, number, states[0 if short else WARM_UP - 1], states[-1])
    memory = [state["MB"] for state in states[1 if short else WARM_UP :]]
    if short:
        tally.fault(memory[-1] - memory[0] < SLACK, f"memory in MB: {memory}")
    else:
        tally.fault(_slope(memory) < GROWTH, f"memory grows by {_slope(memory):.2f} MB a round: {memory}")
    return tally


def _round(folder: Path, data: Path, *, short: bool) -> None:
    """Train an epoch (with plots and loader workers in the long form), validate the weights, and detect with them."""
    import detect
    import train
    import val

    runs = folder / "runs"
    common = ["--device", "cpu", "--imgsz", "64", "--project", str(runs)]
    weights = str(runs / "train" / "weights" / "best.pt")
    drawn, workers = (["--noplots"], "0") if short else ([], "2")
    source = [*common, "--data", str(data), *drawn]
    model = ["--weights", "", "--cfg", str(folder / "tiny.yaml"), "--epochs", "1", "--noautoanchor"]
    loading = ["--batch-size", "4", "--workers", workers]
    _main(train.main, "train.py", [*source, *model, *loading, "--name", "train"])
    _main(val.main, "val.py", [*source, "--weights", weights, *loading, "--save-json", "--name", "val"])
    images = ["--source", str(data.parent / "images" / "val"), "--weights", weights, "--conf-thres", "0.01"]
    _main(detect.main, "detect.py", [*common, *images, "--save-txt", "--save-csv", "--save-json", "--save-crop", "--name", "detect"])
    shutil.rmtree(runs)


def _main(main: Callable[[], object], script: str, flags: list[str]) -> None:
    before = sys.argv
    sys.argv = [script, *flags]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main()
    finally:
        sys.argv = before


def _state() -> dict[str, float]:
    """What this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    handles = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{name}").is_symlink()]  # noqa: PTH208, PTH115
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "MB": round(pages * resource.getpagesize() / 1e6, 1),
        "handles": len(handles),
        "threads": len(os.listdir("/proc/self/task")),  # noqa: PTH208
        "Python threads": threading.active_count(),
        "children": len(children),
        "shared memory": sum("/dev/shm" in target for target in handles),
    }


def _judge(tally: Tally, number: int, first: dict[str, float], now: dict[str, float]) -> None:
    grown = [f"{now[name]:g} {name}, {first[name]:g} at first" for name in first if name != "MB" and now[name] > first[name]]
    tally.fault(not grown, f"round {number}: {'; '.join(grown)}")


def _slope(values: list[float]) -> float:
    """Of the line through the values by least squares."""
    middle = (len(values) - 1) / 2
    spread = sum((x - middle) ** 2 for x in range(len(values)))
    return sum((x - middle) * y for x, y in enumerate(values)) / spread
