"""What a run writes down after an epoch: its row of results.csv and its checkpoints."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from models.detector import Detector
from utils.checkpoint import save_checkpoint
from utils.engine import TERMS
from utils.evaluate import Evaluation

if TYPE_CHECKING:
    from utils.trainer import Run


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


def save(run: Run, epoch: int, result: Evaluation | None, *, best: bool, last: bool) -> None:
    """Write last.pt, from which a run goes on, and best.pt, which holds the averaged weights only."""
    config, folder = run.config, run.folder / "weights"
    if config.nosave and not last:
        return
    payload = _payload(run, epoch, result)
    # --nosave keeps one epoch only; a best.pt that lies there with --exist-ok is another run's
    if best or (last and (config.nosave or not (folder / "best.pt").exists())):
        save_checkpoint(folder / "best.pt", payload | {"model": payload["ema"], "ema": None, "resume": None})
    if config.save_period > 0 and epoch % config.save_period == 0:
        save_checkpoint(folder / f"epoch{epoch}.pt", payload)
    save_checkpoint(folder / "last.pt", payload)


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
        "epoch": epoch,
        "metrics": result.metrics.summary() if result else {},
        "resume": {
            "optimizer": trainee.optimizer.state_dict(),
            "scaler": trainee.scaler.state_dict(),
            "updates": trainee.ema.updates,
            "best": run.stop.best,
            "best_epoch": run.stop.epoch,
            "ap": run.ap,
        },
    }


def plain(config: Any) -> dict[str, Any]:
    """Settings as plain data that YAML and checkpoints can hold."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
