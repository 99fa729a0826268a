"""Faults of a run and how they were handled: events.jsonl in the run folder, one line per event."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

from utils.files.atomic import open_append
from utils.log import LOG


class Events:
    """Appends events to a file and to the log.

    Args:
        path: the file; None writes to the log only.
        silent: neither logs nor writes, for all ranks but the first.
    """

    def __init__(self, path: Path | None = None, *, silent: bool = False) -> None:
        self._path, self._silent = path, silent

    def record(self, kind: str, message: str, **facts: object) -> None:
        """Warn with `message`, and append a line with time, kind and `facts`; a line that cannot be written is only warned of."""
        if self._silent:
            return
        LOG.warning("%s", message)
        if self._path is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "event": kind, **facts, "message": message})
        try:
            with open_append(self._path) as file:
                file.write(f"{line}\n".encode())
        except OSError as error:
            LOG.warning("%s: cannot write (%s)", self._path, error.strerror or error)
