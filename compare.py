"""Compare variants of a detector: train each with several seeds under one protocol, and test the differences from a baseline.

    python compare.py --cfgs yolov5n.yaml yolov5n-ca.yaml yolov5n-cot.yaml --data my.yaml --seeds 3 --epochs 30 --imgsz 320

The first model is the baseline. The study is saved in runs/compare/study (--name); repeating the command continues it.
The flags of train.py that apply to a run, and every hyper-parameter, are flags here too.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from utils.cli import parse_with, run
from utils.compare.config import CompareConfig, check_given
from utils.config import ROOT, Hyp, load_hyp
from utils.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run the study.

    Raises:
        UserError: invalid flags, files or data; or runs that could not be finished.
        StopError: a signal asked to stop; repeating the command continues the study.
    """
    config, given, flags = parse_with(CompareConfig, Hyp, argv, description=__doc__ or "")
    check_given(given)
    if not (config.cfgs or config.arms or config.arm):
        raise UserError("nothing to compare: give the model YAMLs with --cfgs, the baseline first, or arms with --arms or --arm")
    hyp = load_hyp(config.hyp if "hyp" in given else ROOT / config.hyp, flags)
    from utils.compare.main import run_study  # imports torch only after the command line is parsed

    run_study(config, hyp, given, "python compare.py " + shlex.join(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    run(main)
