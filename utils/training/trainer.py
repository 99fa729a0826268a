"""A training run from its first to its last epoch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from models import load_model
from models.detector import Detector
from utils.config import Hyp, TrainConfig
from utils.data.fingerprint import Fingerprint
from utils.data.loading.loader import Batch, Loader, val_loader
from utils.data.loading.sampler import class_counts, image_weights
from utils.distributed import Ranks, gather, share
from utils.errors import StorageError
from utils.evaluation.evaluate import Evaluation, Settings, evaluate, log_classes
from utils.log import LOG
from utils.training.artifacts import draw_results, draw_train_batch, write_tables
from utils.training.early_stopping import EarlyStop, fitness
from utils.training.engine import START, TERMS, Position, Trainee, train_one_epoch
from utils.training.history import History
from utils.training.keeper import Keeper
from utils.training.losses.loss import DetectionLoss
from utils.training.record import row, save_epoch, settle
from utils.training.splits import Splits

_COLUMNS = ("Epoch", "GPU_mem", "box_loss", "obj_loss", "cls_loss", "Instances", "Size")


@dataclasses.dataclass(slots=True, kw_only=True)
class Run:
    """A run under way.

    Attributes:
        config: its flags, with the batch size and image size that are really used.
        splits: its data.
        folder: where its files go.
        trainee: what the training step changes.
        loader: the training batches of this rank.
        stop: the best epoch so far.
        data: the fingerprint of each split.
        versions: of the code that trains.
        start: the first epoch to do.
        position: where in it to begin.
        resumed: whether it goes on from the newest checkpoint of its folder, with the settings that stand there.
        done: whether no epoch is left to do, and only the best weights are still to be measured.
        ap: (nc,) AP of the last validation; steers ``--image-weights``.
        owed: what could not be written, and how to write it; see `record.settle`.
    """

    config: TrainConfig
    hyp: Hyp
    splits: Splits
    folder: Path
    trainee: Trainee
    loader: Loader
    stop: EarlyStop
    data: dict[str, Fingerprint]
    versions: dict[str, str]
    start: int = 0
    position: Position = START
    resumed: bool = False
    done: bool = False
    ap: list[float] | None = None
    owed: dict[str, Callable[[], None]] = dataclasses.field(default_factory=dict)

    @property
    def ranks(self) -> Ranks:
        """Who trains."""
        return self.trainee.ranks

    @property
    def draws(self) -> bool:
        """Whether this process draws pictures."""
        return self.ranks.first and not self.config.noplots


def train_epochs(run: Run, history: History | None, keeper: Keeper) -> None:
    """Train, validate, write down and save, epoch after epoch; only the first rank has a `history` and writes.

    Raises:
        UserError: steps are not finite for good, the last epoch cannot be written, or loading the data fails.
        StopError: a signal has asked to stop; everything is saved.
    """
    config, weighted = run.config, run.config.image_weights
    counts = class_counts(run.splits.train) if weighted else None
    for epoch in range(run.start, config.epochs):
        if counts is not None:
            run.loader.weigh(image_weights(counts, torch.tensor(run.ap).numpy() if run.ap else None))
        position = keeper.begin(epoch)
        terms = _train(run, epoch, position, keeper)
        run.trainee.guard.inspect(run.trainee, epoch)
        last = epoch + 1 == config.epochs
        result = None if config.noval and not last else validate(run, keeper)
        best = _judge(run, epoch, result)
        spent = result is not None and run.stop.spent(epoch)
        saved = last or spent or not config.nosave
        written = _write_down(run, history, row(run, epoch, terms, result), result, best=best, saved=saved, last=last or spent)
        keeper.finish(saved=saved and written)
        if spent and not last:
            LOG.info("no gain since epoch %d for %d epochs: stopping early (--patience)", run.stop.epoch, config.patience)
            break


def _write_down(
    run: Run, history: History | None, values: dict[str, float], result: Evaluation | None, *, best: bool, saved: bool, last: bool
) -> bool:
    """Write an epoch's row and checkpoints; return, in every rank, whether that worked. Before the `last` epoch, failure can wait.

    Raises:
        StorageError: the last epoch cannot be written.
    """
    failure, epoch = "", int(values["epoch"])
    if history is not None:
        history.append(values)
        run.owed["history"] = history.flush
        try:
            if saved:
                save_epoch(run, epoch, result, best=best, last=last)
            else:
                settle(run)
        except StorageError as error:
            if last:
                raise
            failure = str(error)
            run.trainee.events.record("not saved", f"{failure}. Training goes on, and tries again at the next save", epoch=epoch)
    return not any(gather(failure, run.ranks))


def _train(run: Run, epoch: int, position: Position, keeper: Keeper) -> dict[str, float]:
    """One epoch under its progress bar; where there is no terminal, its last state is logged."""
    LOG.info("\n" + "%11s" * len(_COLUMNS), *_COLUMNS)
    bar = tqdm(total=len(run.loader), initial=position.batch, disable=None if run.ranks.first else True)
    text = ""

    def report(number: int, terms: dict[str, float], batch: Batch, side: int) -> None:
        nonlocal text
        losses = "".join(f"{terms[t]:>11.4g}" for t in TERMS)
        where = f"{f'{epoch}/{run.config.epochs - 1}':>11s}{_gpu_memory(run.trainee.precision.device):>11s}"
        text = f"{where}{losses}{len(batch.targets):>11d}{side:>11d}"
        bar.set_description_str(text, refresh=False)
        bar.update(number + 1 - bar.n)
        if epoch == 0 and run.draws:
            draw_train_batch(run.folder, number, batch, run.splits.names)

    try:
        terms = train_one_epoch(run.trainee, run.loader, epoch, report, position, keeper.stepped)
    finally:
        bar.close()
    if bar.disable:
        LOG.info(text)
    return terms


def _gpu_memory(device: torch.device) -> str:
    used = torch.cuda.memory_reserved(device) / 1e9 if device.type == "cuda" else 0
    return f"{used:.3g}G"


def validate(run: Run, keeper: Keeper) -> Evaluation:
    """Measure the averaged model on the validation split, over all ranks.

    Raises:
        StopError: a signal has asked to stop; everything is saved.
    """
    trainee, config = run.trainee, run.config
    share(trainee.ema.module.state_dict().values(), run.ranks)  # ranks differ in batch-norm statistics
    model = copy.deepcopy(trainee.ema.module)
    assert isinstance(model, Detector)
    loader = open_val_loader(config, run.splits, model.max_stride, run.ranks)
    try:
        result = evaluate(
            model.fuse(),
            loader,
            run.splits.val,
            Settings(single_cls=config.single_cls, classes=config.classes, half=trainee.precision.scaled),
            device=trainee.precision.device,
            criterion=DetectionLoss(model.head, run.hyp, config.imgsz, model.nc, label_smoothing=config.label_smoothing),
            ranks=run.ranks,
            stop=keeper.leaves,
        )
    finally:
        loader.close()
    if run.ranks.world_size > 1:
        keeper.look()
    return result


def open_val_loader(config: TrainConfig, splits: Splits, stride: int, ranks: Ranks) -> Loader:
    """Open this rank's share of the validation batches, twice as large as the training's."""
    return val_loader(
        splits.val,
        imgsz=config.imgsz,
        batch_size=max(config.batch_size // ranks.world_size * 2, 1),
        workers=config.workers,
        rank=ranks.rank,
        world_size=ranks.world_size,
        stride=stride,
        cache=config.cache,
    )


def _judge(run: Run, epoch: int, result: Evaluation | None) -> bool:
    """Whether `epoch` is the best so far; remembers its AP."""
    if result is None:
        return False
    run.ap = [float(v) for v in result.metrics.ap_per_class]
    return run.stop.gains(epoch, fitness(result.metrics.ap50, result.metrics.ap))


def validate_best(run: Run, keeper: Keeper) -> None:
    """Measure best.pt once more, class by class, with pictures.

    Raises:
        StopError: a signal has asked to stop; everything is saved.
    """
    config, ranks, device = run.config, run.ranks, run.trainee.precision.device
    model = load_model(run.folder / "weights" / "best.pt", device=device)
    loader = open_val_loader(config, run.splits, model.max_stride, ranks)
    settings = Settings(single_cls=config.single_cls, classes=config.classes)
    plots = run.folder if run.draws else None
    try:
        metrics = evaluate(model, loader, run.splits.val, settings, device=device, ranks=ranks, plots=plots, stop=keeper.leaves).metrics
    finally:
        loader.close()
    if ranks.world_size > 1:
        keeper.look()
    if run.draws:
        draw_results(run.folder, metrics, run.splits.names)
    if ranks.first:
        log_classes(metrics)
        write_tables(run.folder, metrics, run.splits.names)  # last: it tells that a run has all its files
