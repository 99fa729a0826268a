"""What train.py does once its command line is parsed: from the flags to a finished run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack

import torch

from models import load_plugins
from models.weights.transfer import TransferReport
from utils.config import Hyp, TrainConfig
from utils.device import keep_freed_memory, select_device
from utils.distributed import Ranks, await_ranks, barrier, join, leave, rank_is_lost, ranks_from, silent_ranks
from utils.errors import StorageError, UserError
from utils.files.atomic import remove_leftovers, write_text
from utils.files.lock import folder_lock
from utils.log import LOG, escaped, start_log
from utils.progress import duration
from utils.signals import StopRequest, ending_at_once, stop_requests
from utils.training.artifacts import draw_labels
from utils.training.checkpoint import LAST
from utils.training.checkpointing import CheckpointScheduler, strip_finished
from utils.training.curve_checks import findings
from utils.training.freeze import untrained
from utils.training.history import read_curve
from utils.training.overview import log_overview, short_run_line
from utils.training.restore import note_changes, restore_best
from utils.training.resume import StoppedRun, asks_for_new_folder, locate, read_stopped, run_folder
from utils.training.run_state import Run
from utils.training.setup import build_new, build_stopped, open_run, read_source, write_settings
from utils.training.splits import open_splits
from utils.training.torchrun_restart import mark_folder, resume_after_restart, unmark_folder
from utils.training.trainer import train_epochs, validate_best

TORCHRUN_DELAY = 2.0
"""Seconds within which torchrun forwards a Ctrl-C that the terminal sent to every process already."""


def train(config: TrainConfig, hyp: Hyp, given: frozenset[str], flags: Mapping[str, float]) -> None:
    """Train as `config` and `hyp` say, or resume a stopped run.

    Args:
        config: the parsed command line.
        hyp: its hyper-parameters.
        given: the fields of `config` that were given.
        flags: the hyper-parameters that were given as flags.

    Raises:
        UserError: something is wrong with files, data, device or memory.
        StopError: SIGTERM, SIGINT or SIGUSR1 came; everything is saved to resume from there.
    """
    ranks = ranks_from(os.environ)
    start_log(quiet=not ranks.first)
    config, given = resume_after_restart(config, given, os.environ)
    apart = TORCHRUN_DELAY if ranks.world_size > 1 else 0.0
    with stop_requests(apart=apart, quiet=not ranks.first) as request, ExitStack() as locks:
        stopped = _open_stopped(config, hyp, given, flags, ranks, locks) if config.resume else None
        if stopped:
            config, hyp = stopped.config, stopped.hyp
        device = select_device(config.device, local_rank=ranks.local_rank)
        keep_freed_memory()
        _configure_device(config, device, ranks)
        with ending_at_once():
            join(device)
        try:
            _train(config, hyp, stopped, device, ranks, request, locks)
        except torch.OutOfMemoryError as error:
            reason = str(error).split(".")[0]
            raise UserError(f"out of GPU memory: lower --batch-size or --imgsz, or set --batch-size -1 ({reason})") from error
        except RuntimeError as error:
            if ranks.world_size == 1 or not rank_is_lost(error):
                raise
            raise UserError(_lost_rank(ranks, error)) from error
        except OSError as error:
            place = error.filename or config.project
            raise StorageError(f"{place}: {error.strerror or error}; saved checkpoints are kept for --resume") from error
        finally:
            leave(ranks)


def _open_stopped(
    config: TrainConfig, hyp: Hyp, given: frozenset[str], flags: Mapping[str, float], ranks: Ranks, locks: ExitStack
) -> StoppedRun:
    """Read the run to resume, whose folder is locked first, so that no other process writes there meanwhile."""
    place = locate(config)
    folder = None if asks_for_new_folder(config, given) else run_folder(place)
    if folder and ranks.first:
        locks.enter_context(folder_lock(folder))
        remove_leftovers(folder)
        remove_leftovers(folder / "weights")
    return read_stopped(place, config, hyp, given, flags)


def _configure_device(config: TrainConfig, device: torch.device, ranks: Ranks) -> None:
    """Set CUDA's switches, and warn about GPUs that are not used."""
    devices = len(config.device.split(","))
    if devices > 1 and ranks.world_size == 1:
        LOG.warning("one process uses one GPU; for --device %s run torchrun --nproc_per_node %d train.py ...", config.device, devices)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = device.type == "cuda" and not (config.deterministic or config.multi_scale or config.rect)


def _train(
    config: TrainConfig,
    hyp: Hyp,
    stopped: StoppedRun | None,
    device: torch.device,
    ranks: Ranks,
    request: StopRequest,
    locks: ExitStack,
) -> None:
    start = time.monotonic()
    load_plugins(config.plugins)
    report = None
    if stopped:
        splits = open_splits(config, ranks)
        model = build_stopped(config, splits.names, stopped)
    else:
        source = read_source(config, hyp)
        splits = open_splits(config, ranks)
        model, report = build_new(config, hyp, splits.names, source)
    run = open_run(config, hyp, splits, model, device, ranks, stopped, locks)
    try:
        if report:
            LOG.info("%s", report.summary())
        if not stopped and (random := untrained(run.state.frozen, report)):
            LOG.warning("--freeze: rows %s have new weights and are never trained: they stay random", ", ".join(map(str, random)))
        if rows := [str(row) for row in model.spec.rows if row.replaced and row.gate == "zero"]:
            LOG.info(
                "%s fade in for the blocks they replace, which are removed at the end; the best epoch is one after that", ", ".join(rows)
            )
        LOG.info("%s: training on %s, %s", run.folder, device, run.state.precision.dtype or torch.float32)
        if ranks.first:
            mark_folder(run.folder, config, os.environ)
            _write_first_files(run, report, stopped)
        await_ranks(config.rank_timeout, ranks)
        if stopped:
            restore_best(run, stopped)
        scheduler = CheckpointScheduler(run, request)
        log_overview(run)
        if not stopped and (line := short_run_line(run)):
            LOG.info("%s", line)
        if not run.done:
            train_epochs(run, scheduler, stopped.origin if stopped else None)
    finally:
        run.loader.close()
    barrier(ranks)
    validate_best(run, scheduler)
    if ranks.first:
        _conclude(run, time.monotonic() - start)


def _conclude(run: Run, seconds: float) -> None:
    """Strip the checkpoints, and say what the curves show and where the results are."""
    unmark_folder(run.folder)
    if not run.config.keep_resume:
        strip_finished(run.folder)
    if said := findings(read_curve(run.folder)):
        LOG.warning("\nthis run: %s", "; ".join(said))
    LOG.info("\nbest epoch %d; %s in all; results in %s", run.stopping.epoch, duration(seconds), run.folder)
    for path in (run.folder / "weights" / "best.pt", run.folder / "weights" / LAST):
        LOG.info("  %s  %.1f MB", path, path.stat().st_size / 1e6)


def _write_first_files(run: Run, report: TransferReport | None, stopped: StoppedRun | None) -> None:
    """Write what is known before the first step."""
    folder = run.folder
    if not run.done:
        (folder / "metrics.json").unlink(missing_ok=True)  # it marks a run as finished
    write_settings(folder, run.config, run.hyp)
    if findings := [line for index in (run.splits.train, run.splits.val) for line in index.report.lines()]:
        write_text(folder / "findings.txt", "\n".join([*(escaped(line, keep="") for line in findings), ""]))
    if report:
        write_text(folder / "transfer.txt", escaped(f"{report}\n"))
    if stopped:
        note_changes(folder, stopped)
    elif run.plots:
        draw_labels(folder, run.splits.train)


def _lost_rank(ranks: Ranks, error: RuntimeError) -> str:
    """The message when another process of this training is gone."""
    silent = silent_ranks(ranks)
    who = f"rank {', '.join(map(str, silent))} has ended or hangs" if silent else "another rank has ended or hangs"
    return (
        f"rank {ranks.rank}: {who} ({str(error).splitlines()[0][:200]}); saved checkpoints are kept. torchrun --max-restarts N restarts "
        "all processes up to N times, and they resume by themselves; otherwise use --resume"
    )
