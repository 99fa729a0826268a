"""What went wrong in a run and what was done about it: events.jsonl in the run folder, a line an event."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

from utils.log import LOG


class Events:
    """Appends events to a file; without one they go to the log only.

    Args:
        path: the file; None where there is no run folder.
        silent: neither logs nor writes, as is right for all ranks but the first.
    """

    def __init__(self, path: Path | None = None, *, silent: bool = False) -> None:
        self._path, self._silent = path, silent

    def record(self, kind: str, message: str, **facts: object) -> None:
        """Warn with `message`, and append a line with the time, the kind of event and its `facts`; a full disk costs the line only."""
        if self._silent:
            return
        LOG.warning("%s", message)
        if self._path is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": now, "event": kind, **facts, "message": message})
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            LOG.warning("%s: cannot be written (%s)", self._path, error.strerror or error)
