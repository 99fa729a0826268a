"""Finding the groups of faults, and running each in a process of its own."""

from __future__ import annotations

import importlib
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from tests.faults.tally import Tally

HERE = Path(__file__).parent


def groups() -> list[str]:
    """The groups there are: the files of this folder that define ``run``."""
    return [path.stem for path in sorted(HERE.glob("*.py")) if "\ndef run(" in path.read_text()]


def run_group(name: str, folder: str, short: bool) -> Tally:
    """Run a group in this process, in `folder`, with a cache and one thread of its own."""
    os.environ |= {"ATTUNE_CACHE": str(Path(folder, "cache")), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    place = Path(folder, name)
    place.mkdir()
    start = time.perf_counter()
    tally: Tally = importlib.import_module(f"tests.faults.{name}").run(place, short=short)
    tally.seconds = time.perf_counter() - start
    return tally


def isolated(name: str, short: bool) -> Tally:
    """Run a group in a process of its own, so that nothing it does to itself reaches the next."""
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix=f"faults-{name}-", ignore_cleanup_errors=True) as folder,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        try:
            return pool.submit(run_group, name, folder, short).result()
        except BrokenProcessPool:
            reason = "its process died"
        except Exception as error:  # noqa: BLE001  whatever a group lets through is what is looked for here
            reason = f"{type(error).__name__}: {error}"
    return Tally(name, injected=1, failures=[f"the group itself ended: {reason}"], seconds=time.perf_counter() - start)
