"""Train a detector.

    python train.py --weights yolov5n.pt --data coco128.yaml --imgsz 640          fine-tune pretrained weights
    python train.py --weights yolov5n.pt --cfg yolov5n-ca.yaml --data my.yaml     a variant, from the weights of its base
    python train.py --cfg yolov5n.yaml --data my.yaml                             from scratch
    python train.py --resume runs/train/exp                                       resume a stopped run
    python train.py --cfg yolov5n.yaml --data my.yaml --epochs 30 --tune 20       search hyper-parameters, see docs/tuning.md
    torchrun --nproc_per_node 2 train.py ...                                      on several GPUs, or CPUs

Every hyper-parameter is a flag too, which overrides the --hyp file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from utils.cli import parse_with, run
from utils.config import ROOT, Hyp, load_hyp
from utils.errors import UserError
from utils.training.search_space import FLAGS, SearchConfig, without_search


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and train.

    Raises:
        UserError: whatever is wrong with flags, files or data.
    """
    config, given, flags = parse_with(SearchConfig, Hyp, argv, description=__doc__ or "")
    if not (config.weights or config.cfg or config.resume):
        raise UserError("nothing to train: give --weights FILE.pt to fine-tune, --cfg MODEL.yaml to start from scratch, or both")
    hyp = load_hyp(config.hyp if "hyp" in given else ROOT / config.hyp, flags)  # a file in the working folder must be named
    if config.local_rank >= 0:  # torch.distributed.launch says it by flag, torchrun by this variable
        os.environ.setdefault("LOCAL_RANK", str(config.local_rank))
    if config.tune or config.evolve:
        if not (config.weights or config.cfg):
            raise UserError("nothing to train: a search that goes on needs the flags with which it began, besides --resume")
        from utils.training.tune import tune

        tune(config, hyp, given)
        return
    from utils.training.session import train  # torch is loaded only once the command line is known to be sound

    train(without_search(config), hyp, given - FLAGS, flags)


if __name__ == "__main__":
    run(main)
