"""What train.py does once its command line is read: from the flags to a finished run folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from models import load_plugins
from utils.config import Hyp, TrainConfig
from utils.device import select_device
from utils.distributed import Ranks, barrier, join, leave, ranks_from
from utils.errors import UserError
from utils.gallery import draw_labels
from utils.history import History
from utils.resume import Stopped, read_stopped
from utils.runs import LOG, start_log
from utils.splits import open_splits, write_findings
from utils.start import open_model, open_run, open_stopped, read_source, write_settings
from utils.trainer import Run, train_epochs, validate_best


def train(config: TrainConfig, hyp: Hyp, given: frozenset[str], flags: Mapping[str, float]) -> None:
    """Train as `config` and `hyp` say, or go on with a stopped run; `given` and `flags` are what the command line named.

    Raises:
        UserError: whatever is wrong with files, data, device or memory.
    """
    ranks = ranks_from(os.environ)
    start_log(quiet=not ranks.first)
    stopped = read_stopped(config, given, flags) if config.resume else None
    if stopped:
        config, hyp = stopped.config, stopped.hyp
    device = select_device(config.device, local_rank=ranks.local_rank)
    _check_device(config, device, ranks)
    join(device)
    try:
        _train(config, hyp, stopped, device, ranks)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of GPU memory: lower --batch-size or --imgsz, or give --batch-size -1 ({str(error).split('.')[0]})"
        ) from error
    finally:
        leave(ranks)


def _check_device(config: TrainConfig, device: torch.device, ranks: Ranks) -> None:
    """Set the switches of CUDA, and tell about GPUs that stay idle."""
    several = len(config.device.split(","))
    if several > 1 and ranks.world_size == 1:
        LOG.warning("one process uses one GPU; for --device %s run torchrun --nproc_per_node %d train.py ...", config.device, several)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = device.type == "cuda" and not (config.deterministic or config.multi_scale or config.rect)


def _train(config: TrainConfig, hyp: Hyp, stopped: Stopped | None, device: torch.device, ranks: Ranks) -> None:
    load_plugins(config.plugins)
    source = None if stopped else read_source(config)
    splits = open_splits(config, ranks)
    report = None
    if stopped:
        model = open_stopped(config, splits.names, stopped)
    else:
        assert source
        model, report = open_model(config, hyp, splits.names, source)
    run = open_run(config, hyp, splits, model, device, ranks, stopped)
    folder = run.folder
    if report:
        LOG.info("%s", report.summary())
    LOG.info("%s: training on %s, %s", folder, device, run.trainee.precision.dtype or torch.float32)
    history = None
    if ranks.first:
        write_settings(folder, run.config, hyp)
        write_findings(folder, splits)
        if report:
            (folder / "transfer.txt").write_text(f"{report}\n", encoding="utf-8")
        if run.draws and not stopped:
            draw_labels(folder, splits.train)
        if stopped:
            _bring_best(stopped, folder)
        history = History(folder, start=run.start, origin=stopped.origin if stopped else None)
    try:
        train_epochs(run, history)
    finally:
        run.loader.close()
        if history:
            history.close()
    barrier(ranks)
    _finish(run)


def _bring_best(stopped: Stopped, folder: Path) -> None:
    """Take the best weights so far along into a new run folder; no later epoch may beat them."""
    if stopped.moved and stopped.origin and (best := stopped.origin / "weights" / "best.pt").is_file():
        shutil.copyfile(best, folder / "weights" / "best.pt")


def _finish(run: Run) -> None:
    """Measure best.pt, and say where everything is."""
    validate_best(run)
    weights = run.folder / "weights"
    LOG.info("\nbest epoch %d; results in %s", run.stop.epoch, run.folder)
    for path in (weights / "best.pt", weights / "last.pt"):
        if run.ranks.first:
            LOG.info("  %s  %.1f MB", path, path.stat().st_size / 1e6)
