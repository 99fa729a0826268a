"""Inject faults of every kind and count what came of them: ``python -m tests.faults [--short] [--group NAME]``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from tests.faults.tally import Tally, header, line, total

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


def main() -> int:
    """Run the groups one after another; 1 if anything is not as specified."""
    known = groups()
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a sample of each group, in seconds")
    parser.add_argument(
        "--group", action="append", choices=known, metavar="NAME", help=f"only this group (may be repeated): {', '.join(known)}"
    )
    flags = parser.parse_args()
    print(header(), flush=True)
    tallies = []
    for name in flags.group or known:
        tallies.append(isolated(name, flags.short))
        print(line(tallies[-1]), flush=True)
    everything = total(tallies)
    print(line(everything), flush=True)
    for failure in everything.failures:
        print(f"NOT AS SPECIFIED: {failure}")
    return 0 if all(tally.as_specified for tally in tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
