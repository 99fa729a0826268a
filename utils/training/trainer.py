"""A training run from its first to its last epoch."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path

import torch

from models.detector import Detector
from models.weights.load import load_model
from utils.data.loading.loader import Batch, val_loader
from utils.data.loading.sampler import class_counts, image_weights
from utils.distributed import gather, share
from utils.errors import StorageError
from utils.evaluation.evaluate import Criterion, Evaluation, Settings, evaluate, log_classes
from utils.evaluation.metrics import write_tables
from utils.log import LOG
from utils.progress import Progress, duration, terminal_width
from utils.training.artifacts import draw_results, draw_train_batch
from utils.training.checkpointing import CheckpointScheduler, record_unsaved, save_epoch, write_pending
from utils.training.early_stopping import fitness
from utils.training.engine import train_one_epoch
from utils.training.fade import has_faded
from utils.training.history import History, row_values
from utils.training.losses.criterion import build_criterion
from utils.training.run_state import Run
from utils.training.state import TERMS, Position

_WIDTHS = {"Epoch": 9, "GPU_mem": 9, "box_loss": 10, "obj_loss": 10, "cls_loss": 10, "Instances": 11, "Size": 7, "Time": 9}
_NARROW = {"Epoch": 8, "box_loss": 9, "obj_loss": 9, "cls_loss": 9}
"""Columns of an epoch's line, and on a terminal of less than 76 columns."""


def train_epochs(run: Run, scheduler: CheckpointScheduler, origin: Path | None = None) -> None:
    """Train, validate and save, epoch after epoch; only the first rank writes.

    Args:
        run: the run.
        scheduler: saves within an epoch, and stops.
        origin: folder of the run that is resumed here.

    Raises:
        UserError: steps stay non-finite, the last epoch cannot be written, or loading the data fails.
        StopError: a signal has asked to stop; everything is saved.
    """
    config, stopping = run.config, run.stopping
    history = History(run.folder, start=run.start, origin=origin) if run.ranks.first else None
    counts = class_counts(run.splits.train) if config.image_weights else None
    try:
        for epoch in range(run.start, config.epochs):
            if counts is not None:
                run.loader.weigh(image_weights(counts, torch.tensor(run.ap).numpy() if run.ap else None))
            terms = _train(run, epoch, scheduler.begin_epoch(epoch), scheduler)
            run.guard.check_state(epoch)
            last, best = epoch + 1 == config.epochs, False
            result = None if config.noval and not last else validate(run, scheduler)
            if result:
                run.ap = [float(v) for v in result.metrics.ap_per_class] if result.metrics.instances else None
                # until then the model is in part the one whose blocks are replaced
                best = has_faded(run.state.gates) and stopping.update(epoch, fitness(result.metrics.ap50, result.metrics.ap))
            early = not last and result is not None and stopping.should_stop(epoch)
            saving = last or early or not config.nosave
            if history:
                history.append(row_values(epoch, terms, result, [group["lr"] for group in run.state.optimizer.param_groups[:3]]))
            written = _write(run, history, epoch, result, best=best, saving=saving, last=last or early)
            scheduler.end_epoch(saved=saving and written)
            if early:
                LOG.info("no improvement since epoch %d for %d epochs: stopping early (--patience)", stopping.epoch, config.patience)
                break
    finally:
        if history:
            history.close()


def _train(run: Run, epoch: int, position: Position, scheduler: CheckpointScheduler) -> dict[str, float]:
    """One epoch under its progress bar, and then its line."""
    name, device = f"{epoch}/{run.config.epochs - 1}", run.state.precision.device
    values: dict[str, object] = {"Epoch": name}

    def report(number: int, means: list[float], batch: Batch, size: int) -> None:
        losses = {f"{term}_loss": f"{mean:.4g}" for term, mean in zip(TERMS, means, strict=True)}
        progress.update(number + 1, " ".join(f"{term} {mean:.3g}" for term, mean in zip(TERMS, means, strict=True)))
        memory = f"{torch.cuda.memory_reserved(device) / 1e9 if device.type == 'cuda' else 0:.3g}G"
        values.update({"GPU_mem": memory, **losses, "Instances": len(batch.targets), "Size": size, "Time": duration(progress.seconds)})
        if epoch == 0 and run.plots:
            draw_train_batch(run.folder, number, batch, run.splits.names)

    with Progress(f"epoch {name}", len(run.loader), done=position.batch, shown=run.ranks.first) as progress:
        terms = train_one_epoch(run.state, run.loader, epoch, run.guard, report, position, scheduler.after_step)
    widths = _WIDTHS if terminal_width() >= sum(_WIDTHS.values()) else _NARROW
    LOG.info("\n" + "".join(f"{title:>{width}}" for title, width in widths.items()))
    LOG.info("".join(f"{values.get(title, '')!s:>{width}}" for title, width in widths.items()))
    return terms


def validate(run: Run, scheduler: CheckpointScheduler) -> Evaluation:
    """Validate the EMA on the validation split, over all ranks.

    Raises:
        StopError: a signal has asked to stop; everything is saved.
    """
    state, config = run.state, run.config
    share(state.ema.module.state_dict().values(), run.ranks)  # ranks differ in batch-norm statistics
    model = copy.deepcopy(state.ema.module)
    assert isinstance(model, Detector)
    criterion = build_criterion(model, run.hyp, config.imgsz, label_smoothing=config.label_smoothing)
    criterion.box_loss.restore(state.criterion.box_loss.state())
    return _evaluate(run, scheduler, model.fuse(), half=state.precision.scaled, criterion=criterion)


def validate_best(run: Run, scheduler: CheckpointScheduler) -> None:
    """Validate best.pt once more, class by class, with pictures.

    Raises:
        StopError: a signal has asked to stop; everything is saved.
    """
    model = load_model(run.folder / "weights" / "best.pt", device=run.state.precision.device)
    metrics = _evaluate(run, scheduler, model, plots=run.folder if run.plots else None).metrics
    if run.plots:
        draw_results(run.folder, metrics, run.splits.names)
    if run.ranks.first:
        log_classes(metrics)
        write_tables(run.folder, metrics, run.splits.names)  # last: metrics.json marks a run as finished


def _evaluate(
    run: Run,
    scheduler: CheckpointScheduler,
    model: Detector,
    *,
    half: bool = False,
    criterion: Criterion | None = None,
    plots: Path | None = None,
) -> Evaluation:
    """Evaluate this rank's share of the validation split, in batches twice as large as the training's."""
    config, ranks = run.config, run.ranks
    loader = val_loader(
        run.splits.val,
        imgsz=config.imgsz,
        batch_size=max(config.batch_size // ranks.world_size * 2, 1),
        workers=config.workers,
        rank=ranks.rank,
        world_size=ranks.world_size,
        stride=model.max_stride,
        cache=config.cache,
    )
    settings = Settings(single_cls=config.single_cls, classes=config.classes, half=half, nms=config.nms)
    device, stop = run.state.precision.device, scheduler.leave_validation
    with contextlib.closing(loader):
        result = evaluate(model, loader, run.splits.val, settings, device=device, criterion=criterion, ranks=ranks, plots=plots, stop=stop)
    if ranks.world_size > 1:
        scheduler.poll()
    return result


def _write(run: Run, history: History | None, epoch: int, result: Evaluation | None, *, best: bool, saving: bool, last: bool) -> bool:
    """Write an epoch's row and, when `saving`, its checkpoints; return, in every rank, whether that worked.

    Raises:
        StorageError: the last epoch cannot be written; before it, the next save tries again.
    """
    written = True
    if history is not None:
        run.pending["history"] = history.flush
        try:
            if saving:
                save_epoch(run, epoch, result, best=best, last=last)
            else:
                write_pending(run)
        except StorageError as error:
            if last:
                raise
            written = False
            record_unsaved(run, error, epoch)
    return all(gather(written, run.ranks))
