"""Train a detector.

    python train.py --weights yolov5n.pt --data coco128.yaml --imgsz 640          fine-tune pretrained weights
    python train.py --weights yolov5n.pt --cfg yolov5n-ca.yaml --data my.yaml     a variant, from the weights of its base
    python train.py --cfg yolov5n.yaml --data my.yaml                             from scratch
    python train.py --resume runs/train/exp                                       resume a stopped run
    torchrun --nproc_per_node 2 train.py ...                                      on several GPUs, or CPUs

Every hyper-parameter is a flag too, which overrides the --hyp file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from utils.cli import parse_with, run
from utils.config import ROOT, Hyp, TrainConfig, load_hyp
from utils.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and train.

    Raises:
        UserError: whatever is wrong with flags, files or data.
    """
    config, given, flags = parse_with(TrainConfig, Hyp, argv, description=__doc__ or "")
    if not (config.weights or config.cfg or config.resume):
        raise UserError("nothing to train: give --weights FILE.pt to fine-tune, --cfg MODEL.yaml to start from scratch, or both")
    hyp = load_hyp(config.hyp if "hyp" in given else ROOT / config.hyp, flags)  # a file in the working folder must be named
    if config.local_rank >= 0:  # torch.distributed.launch says it by flag, torchrun by this variable
        os.environ.setdefault("LOCAL_RANK", str(config.local_rank))
    from utils.training.session import train  # torch is loaded only once the command line is known to be sound

    train(config, hyp, given, flags)


if __name__ == "__main__":
    run(main)
