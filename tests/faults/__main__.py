"""Inject faults of every kind and count what came of them: ``python -m tests.faults [--short] [--group NAME]``."""

from __future__ import annotations

import argparse
import sys

from tests.faults.isolation import groups, isolated
from tests.faults.tally import header, line, total


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
