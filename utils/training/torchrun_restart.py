"""Resuming after a restart by torchrun, which restarts all processes with the same command line when one has died.

The first rank leaves a file in its run folder that names its torchrun, for the restarted processes to find.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from utils.config import TrainConfig
from utils.distributed import environment_number
from utils.files.atomic import write_text
from utils.files.safe_open import read_regular
from utils.log import LOG
from utils.training.resume import newest_checkpoint

MARK = ".torchrun"
"""The file in a run folder that contains the id of its torchrun; deleted when the training has ended."""


def torchrun_id(environment: Mapping[str, str]) -> str:
    """The id that a torchrun keeps over its restarts; "" without torchrun."""
    name = environment.get("TORCHELASTIC_RUN_ID", "")
    if name == "none":  # the default; the process id distinguishes it from others
        return f"none {os.getppid()}"
    return name


def resume_after_restart(config: TrainConfig, given: frozenset[str], environment: Mapping[str, str]) -> tuple[TrainConfig, frozenset[str]]:
    """Make a restarted process resume in the run folder from before the restart.

    Returns:
        The settings and the names of those that count as given; unchanged without a restart or a folder.
    """
    key = torchrun_id(environment)
    marks = _marks(config, key) if key and environment_number(environment, "TORCHELASTIC_RESTART_COUNT", 0) else []
    if not marks:
        return config, given
    folder = max(marks, key=lambda path: path.stat().st_mtime_ns).parent
    if newest_checkpoint(folder) is None:  # it ended before the first save
        LOG.info("restarted by torchrun: starting again in %s", folder)
        return dataclasses.replace(config, project=str(folder.parent), name=folder.name, exist_ok=True), given
    LOG.info("restarted by torchrun: resuming in %s", folder)
    return dataclasses.replace(config, resume=str(folder), resume_anyway=False), frozenset({"resume"})


def mark_folder(folder: Path, config: TrainConfig, environment: Mapping[str, str]) -> None:
    """Let the processes of a later restart find this run folder, and no other."""
    key = torchrun_id(environment)
    if not key:
        return
    for path in _marks(config, key):
        path.unlink(missing_ok=True)
    write_text(folder / MARK, key)


def unmark_folder(folder: Path) -> None:
    """Delete the mark."""
    with contextlib.suppress(OSError):
        (folder / MARK).unlink(missing_ok=True)


def _marks(config: TrainConfig, key: str) -> list[Path]:
    """The marks of this torchrun below --project, or in the run folder that --resume names."""
    places = [*Path(config.project).glob(f"*/{MARK}"), Path(config.resume or ".") / MARK]
    found = []
    for path in places:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if read_regular(path, 1 << 16).decode() == key:
                found.append(path)
    return found
