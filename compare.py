"""Compare variants of a detector: the same training for each, with several seeds, and what the difference is worth.

    python compare.py --cfgs yolov5n.yaml yolov5n-ca.yaml yolov5n-cot.yaml --data my.yaml --seeds 3 --epochs 30 --imgsz 320

The first model is the baseline. The study lies in runs/compare/study (--name); the same command again goes on with it.
Every flag of train.py that a run may have, and every hyper-parameter, is a flag here too.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from utils.cli import parse_with, run
from utils.compare.config import CompareConfig, check_given
from utils.config import Hyp, load_hyp
from utils.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run the study.

    Raises:
        UserError: whatever is wrong with flags, files or data; or runs that could not be finished.
        StopError: a signal has asked to stop; the same command goes on.
    """
    config, given, flags = parse_with(CompareConfig, Hyp, argv, description=__doc__ or "")
    check_given(given)
    if not config.cfgs:
        raise UserError("nothing to compare: give the model YAMLs with --cfgs, the baseline first")
    hyp = load_hyp(config.hyp, flags)
    from utils.compare.main import run_study  # torch is loaded only once the command line is known to be sound

    run_study(config, hyp, given, "python compare.py " + shlex.join(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    run(main)
