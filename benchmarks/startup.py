"""The time of each script's --help and of `import models`: median wall seconds over several new processes.

python -m benchmarks.startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("train.py", "val.py", "detect.py", "compare.py", "export.py")
RUNS = 7
LIMIT = 0.5
"""Maximum time of --help in seconds."""


def seconds(command: list[str]) -> float:
    """Median wall time of a command, after one run to fill the file cache."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Print one line per command."""
    bare = seconds([sys.executable, "-c", ""])
    print(f"{'python itself':24}{bare:7.3f} s")
    for script in SCRIPTS:
        if (ROOT / script).is_file():
            taken = seconds([sys.executable, script, "--help"])
            print(f"{script + ' --help':24}{taken:7.3f} s{'' if taken < LIMIT else f'   over {LIMIT} s'}")
    for name in ("models", "utils"):
        print(f"{'import ' + name:24}{seconds([sys.executable, '-c', f'import {name}']):7.3f} s")


if __name__ == "__main__":
    main()
