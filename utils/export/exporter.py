"""Export a checkpoint to several formats: each is written beside the weights, read back and compared, or leaves nothing behind."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.plugins import load_plugins
from models.weights.load import load_model
from utils.errors import UserError
from utils.export.check import Comparison, check
from utils.export.config import ExportConfig
from utils.export.format import Format, Job
from utils.export.images import image_batches
from utils.export.registry import find_format
from utils.inference.runtimes.exported import ExportedModel, runtime_of
from utils.inference.runtimes.session import require
from utils.log import LOG


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written.

    Attributes:
        format: its name.
        path: of the file or folder.
        megabytes: its size in 1e6 bytes.
        seconds: that writing and checking took.
        comparison: with torch; None where this machine cannot run it.
    """

    format: str
    path: Path
    megabytes: float
    seconds: float
    comparison: Comparison | None


def export(cfg: ExportConfig) -> list[Exported]:
    """Export to every format of ``--include``; one that fails does not stop the others.

    Raises:
        UserError: the weights cannot be read, a flag does not fit them, or a format failed, once all others are written.
    """
    formats = list(dict.fromkeys(find_format(name) for name in cfg.include))
    weights = Path(cfg.weights)
    if runtime_of(weights):
        raise UserError(f"--weights {weights}: is exported already; give the .pt it came from")
    load_plugins(cfg.plugins)
    model = load_model(weights, device=cfg.device)
    _check_sizes(cfg, model.max_stride)
    images = image_batches(cfg.data)
    done, failed = [], {}
    for entry in formats:
        try:
            with _scratch(weights) as folder:
                done.append(_export(Job(cfg=cfg, model=model, images=images, folder=folder), entry))
        except UserError as error:
            failed[entry.name] = str(error)
            LOG.error("%s: failed: %s", entry.name, error)
        else:
            _log(done[-1])
    if failed:
        raise UserError(f"{len(failed)} of {len(formats)} formats failed: {'; '.join(f'{k}: {v}' for k, v in failed.items())}")
    return done


def _check_sizes(cfg: ExportConfig, stride: int) -> None:
    for side in cfg.shape[2:]:
        if side % stride:
            below, above = side // stride * stride, -(-side // stride) * stride
            nearest = f"{below} or {above}" if below else str(above)
            raise UserError(f"--imgsz {side}: is no multiple of the model's stride {stride}; use {nearest}")


def _export(job: Job, entry: Format) -> Exported:
    start = time.perf_counter()
    for option in ("half", "int8", "dynamic", "nms"):
        if getattr(job.cfg, option) and option not in entry.options:
            raise UserError(f"--{option} is not available for {entry.name}")
    if job.cfg.int8 and not job.cfg.data:
        raise UserError("--int8 needs --data, the dataset whose images calibrate it")
    for package in entry.packages:
        require(package, entry.name, entry.install)
    weights = Path(job.cfg.weights)
    name = f"{weights.stem}{'_int8' * (job.cfg.int8 and entry.ending.startswith('_'))}{entry.ending}"
    written, target = job.folder / name, weights.parent / name
    entry.write(job, written)
    comparison = check(job, ExportedModel(written, next(job.model.parameters()).device)) if entry.runs_here() else None
    _replace(written, target)
    return Exported(entry.name, target, _bytes(target) / 1e6, time.perf_counter() - start, comparison)


@contextmanager
def _scratch(weights: Path) -> Iterator[Path]:
    """A folder beside the weights for what is not finished; of a fixed name, so that the next run removes what a killed one left."""
    folder = weights.parent / f".{weights.stem}.export"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
    except OSError as error:
        raise UserError(f"{weights.parent}: cannot be written to ({error.strerror or error})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(written: Path, target: Path) -> None:
    """Put a file or folder in its place; an older export is replaced.

    Raises:
        UserError: something else is there.
    """
    if written.is_file():
        if target.is_dir():
            raise UserError(f"{target}: is a folder; move it away")
        written.replace(target)
        return
    if target.exists() or target.is_symlink():
        theirs = {p.suffix for p in target.iterdir()} - {p.suffix for p in written.iterdir()} if target.is_dir() else {""}
        if theirs or target.is_symlink():
            raise UserError(f"{target}: is no earlier export; move it away")
        target.rename(written.with_name("replaced"))
    written.rename(target)


def _bytes(path: Path) -> int:
    return sum(p.stat().st_size for p in (path.rglob("*") if path.is_dir() else [path]) if p.is_file())


def _log(one: Exported) -> None:
    LOG.info("%s: %s, %.1f MB, %.1f s; %s", one.format, one.path, one.megabytes, one.seconds, _verdict(one.comparison))


def _verdict(comparison: Comparison | None) -> str:
    if comparison is None:
        return "not checked: this machine cannot run it"
    return f"{comparison.statistic} relative difference from torch {comparison.difference:.2g} in {comparison.boxes} boxes"
