"""What a run writes down after an epoch: its row of results.csv and its checkpoints."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from models.detector import Detector
from utils.errors import StorageError
from utils.evaluation.evaluate import Evaluation
from utils.training.checkpoint import save_checkpoint
from utils.training.engine import TERMS

LAST, PREVIOUS = "last.pt", "last.prev.pt"
"""The checkpoint to go on from, and the one before it, should the first be damaged."""

if TYPE_CHECKING:
    from utils.training.trainer import Run


def row(run: Run, epoch: int, terms: dict[str, float], result: Evaluation | None) -> dict[str, float]:
    """The row of results.csv; zeros where nothing was validated."""
    loss = (result.loss if result else None) or dict.fromkeys(TERMS, 0.0)
    m = result.metrics if result else None
    figures = (m.precision, m.recall, m.ap50, m.ap) if m else (0.0,) * 4
    names = ("precision", "recall", "mAP_0.5", "mAP_0.5:0.95")
    return {
        "epoch": epoch,
        **{f"train/{t}_loss": terms[t] for t in TERMS},
        **{f"metrics/{name}": value for name, value in zip(names, figures, strict=True)},
        **{f"val/{t}_loss": loss[t] for t in TERMS},
        **{f"x/lr{i}": group["lr"] for i, group in enumerate(run.trainee.optimizer.param_groups)},
    }


def save_epoch(run: Run, epoch: int, result: Evaluation | None, *, best: bool, last: bool) -> None:
    """Write what an epoch leaves: last.pt, from which a run goes on, and best.pt, which holds the averaged weights only.

    Raises:
        StorageError: a file cannot be written; what the others held still stands.
    """
    config, folder = run.config, run.folder / "weights"
    payload = _payload(run, epoch, result)
    # --nosave keeps one epoch only; a best.pt that lies there with --exist-ok is another run's
    if best or (last and (config.nosave or not (folder / "best.pt").exists())):
        _save_best(run, averaged(payload))
    else:
        settle(run)
    if config.save_period > 0 and epoch % config.save_period == 0:
        save_checkpoint(folder / f"epoch{epoch}.pt", payload)
    _save_last(run, payload)


def save_position(run: Run, epoch: int, batch: int, sums: list[list[float]]) -> None:
    """Write a last.pt that goes on within `epoch`, at a batch, with every rank's `sums` of the loss terms before it.

    Raises:
        StorageError: it cannot be written; the one before still stands.
    """
    settle(run)
    payload = _payload(run, epoch - 1, None)
    payload["resume"] |= {"batch": batch, "sums": sums}
    _save_last(run, payload)


def settle(run: Run) -> None:
    """Write what could not be written before; no checkpoint may count on a row or on best weights that are on no disk.

    Raises:
        StorageError: it still cannot be written.
    """
    for name, write in list(run.owed.items()):
        write()
        del run.owed[name]


def _save_best(run: Run, payload: dict[str, Any]) -> None:
    path = run.folder / "weights" / "best.pt"
    run.owed.pop("best", None)  # better ones take their place
    try:
        settle(run)
        save_checkpoint(path, payload)
    except StorageError:
        run.owed["best"] = functools.partial(save_checkpoint, path, copy.deepcopy(payload))  # later weights will not be the best
        raise


def averaged(payload: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's content for use: the averaged weights are the model's, and nothing goes on from it."""
    return payload | {"model": payload["ema"], "ema": None, "resume": None}


def _save_last(run: Run, payload: dict[str, Any]) -> None:
    folder = run.folder / "weights"
    save_checkpoint(folder / LAST, payload, previous=folder / PREVIOUS)


def _payload(run: Run, epoch: int, result: Evaluation | None) -> dict[str, Any]:
    trainee = run.trainee
    model = trainee.model
    assert isinstance(model, Detector)
    return {
        "spec": model.spec.to_dict(),
        "names": dict(model.names),
        "model": model.state_dict(),
        "ema": trainee.ema.module.state_dict(),
        "config": plain(run.config),
        "hyp": dataclasses.asdict(run.hyp),
        "epoch": epoch,  # the last one that is complete; -1 if none is
        "metrics": result.metrics.summary() if result else {},
        "resume": {
            "optimizer": trainee.optimizer.state_dict(),
            "scaler": trainee.scaler.state_dict(),
            "updates": trainee.ema.updates,
            "best": run.stop.best,
            "best_epoch": run.stop.epoch,
            "ap": run.ap,
            "batch": 0,  # the next one to do, in the epoch after `epoch`
            "sums": [],
            "steps": len(run.loader),
            "data": run.data,
            "versions": run.versions,
        },
    }


def plain(config: Any) -> dict[str, Any]:
    """Settings as plain data that YAML and checkpoints can hold."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
