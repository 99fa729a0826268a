"""What train.py does once its command line is read: from the flags to a finished run folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from contextlib import ExitStack

import torch

from models import load_plugins
from models.weights.transfer import TransferReport
from utils.config import Hyp, TrainConfig
from utils.device import keep_freed_memory, select_device
from utils.distributed import Ranks, await_ranks, barrier, join, leave, rank_is_lost, ranks_from, silent_ranks
from utils.errors import StorageError, UserError
from utils.files.atomic import remove_leftovers
from utils.files.lock import hold
from utils.log import LOG, start_log
from utils.signals import StopRequest, stop_requests
from utils.training.artifacts import draw_labels
from utils.training.history import History
from utils.training.keeper import Keeper
from utils.training.record import LAST
from utils.training.restore import bring_best, note_changes
from utils.training.resume import Stopped, locate, moves, read_stopped, run_folder
from utils.training.setup import open_model, open_run, open_stopped, read_source, write_settings
from utils.training.splits import open_splits, write_findings
from utils.training.torchrun_restart import mark, rejoined, unmark
from utils.training.trainer import Run, train_epochs, validate_best

TORCHRUN_ECHO = 2.0
"""Seconds within which torchrun has passed on a Ctrl-C that the terminal sent to every process already."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Order:
    """What is to be trained, and what surrounds it: the wish to stop, and the locks that last as long as the training."""

    config: TrainConfig
    hyp: Hyp
    stopped: Stopped | None
    request: StopRequest
    held: ExitStack


def train(config: TrainConfig, hyp: Hyp, given: frozenset[str], flags: Mapping[str, float]) -> None:
    """Train as `config` and `hyp` say, or go on with a stopped run; `given` and `flags` are what the command line named.

    Raises:
        UserError: whatever is wrong with files, data, device or memory.
        StopError: SIGTERM, SIGINT or SIGUSR1 came; everything is saved to go on from there.
    """
    ranks = ranks_from(os.environ)
    start_log(quiet=not ranks.first)
    config, given = rejoined(config, given, os.environ)
    apart = TORCHRUN_ECHO if ranks.world_size > 1 else 0.0
    with stop_requests(apart=apart, quiet=not ranks.first) as request, ExitStack() as held:
        stopped = _open_stopped_run(config, hyp, given, flags, ranks, held) if config.resume else None
        if stopped:
            config, hyp = stopped.config, stopped.hyp
        device = select_device(config.device, local_rank=ranks.local_rank)
        keep_freed_memory()
        _check_device(config, device, ranks)
        join(device)
        try:
            _train(_Order(config, hyp, stopped, request, held), device, ranks)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"out of GPU memory: lower --batch-size or --imgsz, or give --batch-size -1 ({str(error).split('.')[0]})"
            ) from error
        except RuntimeError as error:
            if ranks.world_size == 1 or not rank_is_lost(error):
                raise
            raise UserError(_lost(ranks, error)) from error
        except OSError as error:
            place = error.filename or config.project
            raise StorageError(
                f"{place}: {error.strerror or error}; what was saved before still is, and --resume goes on from it"
            ) from error
        finally:
            leave(ranks)


def _lost(ranks: Ranks, error: RuntimeError) -> str:
    """What to say when another process of this training is gone."""
    silent = silent_ranks(ranks)
    who = f"rank {', '.join(map(str, silent))} has ended or hangs" if silent else "another rank has ended or hangs"
    return (
        f"rank {ranks.rank}: {who} ({str(error).splitlines()[0][:200]}); what was saved before still is. torchrun --max-restarts N starts "
        "all processes anew, up to N times, and they go on from there; else --resume does"
    )


def _open_stopped_run(
    config: TrainConfig, hyp: Hyp, given: frozenset[str], flags: Mapping[str, float], ranks: Ranks, held: ExitStack
) -> Stopped:
    """Read the run to go on with, whose folder is locked first, so that nobody writes there meanwhile."""
    place = locate(config)
    folder = None if moves(config, given) else run_folder(place)
    if folder and ranks.first:
        held.enter_context(hold(folder))
        remove_leftovers(folder)
        remove_leftovers(folder / "weights")
    return read_stopped(place, config, hyp, given, flags)


def _check_device(config: TrainConfig, device: torch.device, ranks: Ranks) -> None:
    """Set the switches of CUDA, and tell about GPUs that stay idle."""
    several = len(config.device.split(","))
    if several > 1 and ranks.world_size == 1:
        LOG.warning("one process uses one GPU; for --device %s run torchrun --nproc_per_node %d train.py ...", config.device, several)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = device.type == "cuda" and not (config.deterministic or config.multi_scale or config.rect)


def _train(order: _Order, device: torch.device, ranks: Ranks) -> None:
    config, stopped = order.config, order.stopped
    load_plugins(config.plugins)
    source = None if stopped else read_source(config)
    splits = open_splits(config, ranks)
    report = None
    if stopped:
        model = open_stopped(config, splits.names, stopped)
    else:
        assert source
        model, report = open_model(config, order.hyp, splits.names, source)
    run = open_run(config, order.hyp, splits, model, device, ranks, stopped, order.held)
    try:
        if report:
            LOG.info("%s", report.summary())
        LOG.info("%s: training on %s, %s", run.folder, device, run.trainee.precision.dtype or torch.float32)
        if ranks.first:
            mark(run.folder, config, os.environ)
            _begin(run, report, stopped)
        await_ranks(config.rank_timeout, ranks)
        if stopped:
            bring_best(run, stopped)
        keeper = Keeper(run, order.request)
        if not run.done:
            _train_epochs(run, stopped, keeper)
    finally:
        run.loader.close()
    barrier(ranks)
    _finish(run, keeper)


def _begin(run: Run, report: TransferReport | None, stopped: Stopped | None) -> None:
    """Write down what is known before the first step."""
    folder = run.folder
    if not run.done:
        (folder / "metrics.json").unlink(missing_ok=True)  # of an earlier end; that it is there tells that a run is over
    write_settings(folder, run.config, run.hyp)
    write_findings(folder, run.splits)
    if report:
        (folder / "transfer.txt").write_text(f"{report}\n", encoding="utf-8")
    if stopped:
        note_changes(folder, stopped)
    elif run.draws:
        draw_labels(folder, run.splits.train)


def _train_epochs(run: Run, stopped: Stopped | None, keeper: Keeper) -> None:
    history = History(run.folder, start=run.start, origin=stopped.origin if stopped else None) if run.ranks.first else None
    try:
        train_epochs(run, history, keeper)
    finally:
        if history:
            history.close()


def _finish(run: Run, keeper: Keeper) -> None:
    """Measure best.pt, and say where everything is."""
    validate_best(run, keeper)
    if run.ranks.first:
        unmark(run.folder)
    weights = run.folder / "weights"
    LOG.info("\nbest epoch %d; results in %s", run.stop.epoch, run.folder)
    for path in (weights / "best.pt", weights / LAST):
        if run.ranks.first:
            LOG.info("  %s  %.1f MB", path, path.stat().st_size / 1e6)
