"""Going on by itself after a restart: torchrun starts all processes anew when one has died, with the command line of old.

The first rank leaves a mark in its run folder that names the torchrun it belongs to. A restarted process finds it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from utils.config import TrainConfig
from utils.log import LOG
from utils.training.resume import newest_whole

MARK = ".torchrun"
"""The file in a run folder; it holds the id of the torchrun that trains there, and is gone once the training has ended."""


def torchrun_id(environment: Mapping[str, str]) -> str:
    """The id that a torchrun keeps over its restarts, "" without one."""
    name = environment.get("TORCHELASTIC_RUN_ID", "")
    if name == "none":  # what it is called where nobody gives a name: its process tells it from others
        return f"none {os.getppid()}"
    return name


def restarts(environment: Mapping[str, str]) -> int:
    """How often torchrun has started all processes anew."""
    return int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))


def rejoined(config: TrainConfig, given: frozenset[str], environment: Mapping[str, str]) -> tuple[TrainConfig, frozenset[str]]:
    """Turn the command line of a restarted process into one that goes on in the run folder from before the restart.

    Returns:
        The settings and the names of those that count as given. With neither restart nor folder they are what they were.
    """
    key = torchrun_id(environment)
    folder = _marked(config, key) if key and restarts(environment) else None
    if folder is None:
        return config, given
    if newest_whole(folder) is None:  # it was ended before anything could be saved
        LOG.info("restarted by torchrun: beginning anew in %s", folder)
        return dataclasses.replace(config, project=str(folder.parent), name=folder.name, exist_ok=True), given
    LOG.info("restarted by torchrun: going on in %s", folder)
    return dataclasses.replace(config, resume=str(folder), resume_anyway=False), frozenset({"resume"})


def mark(folder: Path, config: TrainConfig, environment: Mapping[str, str]) -> None:
    """Let the processes of a later restart find a run folder, and no other one."""
    key = torchrun_id(environment)
    if not key:
        return
    for path in _marks(config, key):
        path.unlink(missing_ok=True)
    (folder / MARK).write_text(key, encoding="utf-8")


def unmark(folder: Path) -> None:
    """Take the mark back."""
    with contextlib.suppress(OSError):
        (folder / MARK).unlink(missing_ok=True)


def _marked(config: TrainConfig, key: str) -> Path | None:
    paths = _marks(config, key)
    return max(paths, key=lambda path: path.stat().st_mtime_ns).parent if paths else None


def _marks(config: TrainConfig, key: str) -> list[Path]:
    """The marks of this torchrun below --project, or in the run folder that --resume names."""
    places = [*Path(config.project).glob(f"*/{MARK}"), Path(config.resume or ".") / MARK]
    found = []
    for path in places:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.read_text(encoding="utf-8") == key:
                found.append(path)
    return found
