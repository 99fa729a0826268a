"""Setting up a training run: model, run folder, and everything else that the first epoch needs."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from models import build_model
from models.detector import Detector
from models.heads.detect import Detect
from models.spec.model_spec import ModelSpec
from models.spec.rows import unread
from models.weights.load import Weights, read_weights
from models.weights.transfer import TransferReport, transfer
from models.yoloair import differences
from utils.config import Hyp, TrainConfig
from utils.data.augment.user import UserTransform
from utils.data.fingerprint import run_fingerprint, versions
from utils.data.loading.loader import Loader, train_loader
from utils.device import processor_name
from utils.distributed import Ranks, gather, replicate
from utils.errors import UserError
from utils.files.atomic import write_text
from utils.files.lock import folder_lock
from utils.files.run_folders import new_run_folder
from utils.geometry import training_side
from utils.log import LOG, abbreviated
from utils.training.amp import Precision, choose_precision, verified
from utils.training.autoanchor import check_anchors
from utils.training.autobatch import fit_batch_size
from utils.training.checkpointing import plain_settings
from utils.training.early_stopping import EarlyStopping
from utils.training.ema import ModelEMA
from utils.training.events import Events
from utils.training.freeze import freeze, frozen_rows
from utils.training.losses.criterion import build_criterion
from utils.training.nonfinite import NonFiniteGuard
from utils.training.optim import Schedule, build_optimizer
from utils.training.restore import refusing_unfit, restore_newest, restore_run
from utils.training.resume import StoppedRun, program_digests
from utils.training.run_state import Run
from utils.training.splits import Splits
from utils.training.state import TrainState

Source = tuple[ModelSpec, Weights | None]
"""A model's spec and the weights to start from."""


def read_source(config: TrainConfig, hyp: Hyp) -> Source:
    """Read ``--weights`` and ``--cfg``, and build model and loss once, so that a wrong name is reported before the dataset is scanned.

    Raises:
        UserError: a model, weights or loss that cannot be read or built.
    """
    weights = read_weights(config.weights) if config.weights else None
    spec = ModelSpec.from_yaml(config.cfg) if config.cfg or weights is None else weights.spec
    if spec.ch != 3:
        raise UserError(f"{spec.where}: expects {spec.ch} channels, but images are loaded with 3; set 'ch: 3'")
    build_criterion(build_model(spec), hyp, config.imgsz)
    return spec, weights


def build_new(config: TrainConfig, hyp: Hyp, names: dict[int, str], source: Source) -> tuple[Detector, TransferReport | None]:
    """Build a model for the data's classes and transfer the weights.

    Raises:
        UserError: weights that do not fit the model at all.
    """
    anchors = None if hyp.anchors is None else round(hyp.anchors)
    spec, weights = source
    model = build_model(spec, len(names), names=names, seed=config.seed, anchors=anchors)
    for difference in differences(spec.rows):
        LOG.info(difference)
    if dead := unread(spec.rows):
        LOG.warning("%s: %s", spec.where, dead)
    if weights is None:
        return model, None
    report = transfer(model, weights, keep_anchors=anchors is None and spec.anchors == weights.spec.anchors)
    if not report.transferred:
        raise UserError(f"--weights {config.weights}: no tensor fits {config.cfg}; give the weights of a related model, or --weights ''")
    return model, report


def build_stopped(config: TrainConfig, names: dict[int, str], stopped: StoppedRun) -> Detector:
    """Build the model of a stopped run, with its weights.

    Raises:
        UserError: the data's classes differ from the run's, or the weights do not fit the model.
    """
    payload = stopped.payload
    with refusing_unfit(stopped):
        if payload["names"] != names:
            given, trained = (abbreviated(each.values()) for each in (names, payload["names"]))
            raise UserError(f"--data {config.data}: {len(names)} classes {given}; the run was trained on {trained}")
        model = build_model(ModelSpec.from_dict(payload["spec"], config.resume), names=names)
        model.load_state_dict(payload["model"])
    return model


def whole_strides(imgsz: int, stride: int) -> int:
    """Return the `training_side`, with a warning if it is another."""
    rounded = training_side(imgsz, stride)
    if rounded != imgsz:
        reason = "is less than twice" if imgsz < 2 * stride else "is not a multiple of"
        LOG.warning("--imgsz %d %s the model's stride %d; using %d", imgsz, reason, stride, rounded)
    return rounded


def open_folder(config: TrainConfig, ranks: Ranks, locks: ExitStack) -> Path:
    """Make the run folder on the first rank, which locks it for as long as `locks` lasts, and tell the others.

    Raises:
        UserError: no folder can be made, or another process trains in it.
    """
    name = Path(config.cfg or config.weights).stem.strip(". ") or "exp" if config.name == "cfg" else config.name
    try:
        made = new_run_folder(config.project, name, exist_ok=config.exist_ok) if ranks.first else None
        if made:
            locks.enter_context(folder_lock(made))
            (made / "weights").mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"--project {config.project}: cannot create a run folder there ({error.strerror})") from error
    folder = gather(made, ranks)[0]
    assert isinstance(folder, Path)
    return folder


def write_settings(folder: Path, config: TrainConfig, hyp: Hyp) -> None:
    """Write hyp.yaml and opt.yaml."""
    hyper = dataclasses.asdict(hyp)
    options = {**plain_settings(config), "save_dir": str(folder), "hyp": hyper}
    for name, content in (("hyp.yaml", hyper), ("opt.yaml", options)):
        write_text(folder / name, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def open_run(
    config: TrainConfig,
    hyp: Hyp,
    splits: Splits,
    model: Detector,
    device: torch.device,
    ranks: Ranks,
    stopped: StoppedRun | None,
    locks: ExitStack,
) -> Run:
    """Prepare the first epoch, or the one in which a run was stopped.

    Raises:
        UserError: flags that do not fit the model, the data or the device.
    """
    frozen = frozen_rows(config.freeze, len(model.model))
    config = dataclasses.replace(config, imgsz=whole_strides(config.imgsz, model.max_stride))
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not stopped and isinstance(model.head, Detect) and (not config.noautoanchor or model.head.counted):
        check_anchors(splits.train, model, config.imgsz, limit=hyp.anchor_t, seed=config.seed, refit=model.head.counted)
    freeze(list(model.model), frozen)
    precision = verified(choose_precision(config.amp, device), model, config.imgsz)
    config = dataclasses.replace(config, batch_size=_batch_size(config, hyp, model, precision, ranks))
    loader = _train_loader(config, hyp, splits, model, ranks)
    if config.sync_bn:
        model = _synchronised(model, device, ranks)
    state = TrainState(
        model=model,
        layers=list(model.model),
        wrapped=_wrapped(config, model, device, ranks),
        criterion=build_criterion(model, hyp, config.imgsz, label_smoothing=config.label_smoothing, ranks=ranks),
        optimizer=build_optimizer(model, config.optimizer, hyp, config.batch_size),
        schedule=(schedule := Schedule(hyp, config.epochs, len(loader), config.batch_size, config.cos_lr)),
        ema=ModelEMA(model, horizon=hyp.ema_share * schedule.updates),
        precision=precision,
        scaler=torch.amp.GradScaler(device.type, enabled=precision.scaled),
        seed=config.seed,
        imgsz=config.imgsz,
        stride=model.max_stride,
        frozen=frozen,
        multi_scale=config.multi_scale,
        ranks=ranks,
    )
    run = Run(
        config=config,
        hyp=hyp,
        splits=splits,
        folder=stopped.folder if stopped and stopped.folder else open_folder(config, ranks, locks),
        state=state,
        guard=NonFiniteGuard(state),
        loader=loader,
        stopping=EarlyStopping(config.patience),
        **_origin(config, splits, device, precision),
    )
    if stopped:
        restore_run(run, stopped)
    state.events = Events(run.folder / "events.jsonl", silent=not ranks.first)
    if stopped or not config.nosave:  # otherwise the folder's checkpoints are an older run's
        run.guard.restore = functools.partial(restore_newest, state, run.folder)
    return run


def _origin(config: TrainConfig, splits: Splits, device: torch.device, precision: Precision) -> dict[str, Any]:
    """What besides its settings a result comes from: data, code, plug-ins, and what of the machine decides the last bits of a sum."""
    machine = {"threads": torch.get_num_threads(), "processor": torch.backends.cpu.get_cpu_capability(), "device": processor_name(device)}
    found = versions() | {name: str(value) for name, value in machine.items()} | {"precision": str(precision.dtype or torch.float32)}
    data = {"train": run_fingerprint(splits.train), "val": run_fingerprint(splits.val)}
    return {"data": data, "versions": found, "plugins": program_digests(config)}


def _batch_size(config: TrainConfig, hyp: Hyp, model: Detector, precision: Precision, ranks: Ranks) -> int:
    if config.batch_size == -1:
        if ranks.world_size > 1:
            raise UserError("--batch-size -1 measures one GPU; with several give a number")
        side = config.imgsz * 3 // 2 if config.multi_scale else config.imgsz
        return fit_batch_size(model, hyp, whole_strides(side, model.max_stride), precision)
    if config.batch_size % ranks.world_size:
        raise UserError(f"--batch-size {config.batch_size} (of all processes) is not divisible by {ranks.world_size} processes")
    return config.batch_size


def _train_loader(config: TrainConfig, hyp: Hyp, splits: Splits, model: Detector, ranks: Ranks) -> Loader:
    return train_loader(
        splits.train,
        imgsz=config.imgsz,
        batch_size=config.batch_size // ranks.world_size,
        hyp=hyp,
        seed=config.seed,
        workers=config.workers,
        rank=ranks.rank,
        world_size=ranks.world_size,
        mosaic_epochs=config.epochs - round(hyp.close_mosaic * config.epochs),
        rect=config.rect,
        cache=config.cache,
        stride=model.max_stride,
        transform=UserTransform(config.augment, model.nc) if config.augment else None,
    )


def _synchronised(model: Detector, device: torch.device, ranks: Ranks) -> Detector:
    if ranks.world_size == 1 or device.type != "cuda":
        raise UserError("--sync-bn needs several GPUs: torchrun --nproc_per_node N train.py --sync-bn ...")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def _wrapped(config: TrainConfig, model: Detector, device: torch.device, ranks: Ranks) -> nn.Module:
    """The model as the training step calls it: compiled inside, averaging its gradients outside."""
    if not config.compile:
        return replicate(model, device, ranks)
    if not any(shutil.which(c) for c in (os.environ.get("CXX", "c++"), "g++", "clang++", "cl")):
        raise UserError("--compile: torch.compile needs a C++ compiler, and none was found; install one or omit --compile")
    return replicate(torch.compile(model), device, ranks)  # type: ignore[arg-type]
