"""Environment variables of torchrun that make no sense, as a job script may leave them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

Entry = tuple[str, Any, str | None]

NUMBERS = ("", " ", "x", "-1", "1.0", "1e3", "0x1", "\u0661", "9" * 5000, "\udcff")
PARTS: dict[str, tuple[dict[str, str], str | None]] = {
    "nothing": ({}, None),
    "one process of one": ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
    "a size of 1 and no rank": ({"WORLD_SIZE": "1"}, None),
    "a size and no rank": ({"WORLD_SIZE": "2"}, "no RANK"),
    "a rank and no size": ({"RANK": "1"}, "no WORLD_SIZE"),
    "a rank that there is not": ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2"),
    "no process": ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE=0"),
    "no address": ({"RANK": "0", "WORLD_SIZE": "2"}, "no MASTER_ADDR"),
    "no port": ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}, "no MASTER_PORT"),
    "a port that is no number": ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "x"}, "127.0.0.1:x"),
    "a port beyond the last": ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "99999"}, "99999"),
}


def environments(folder: Path) -> Iterator[Entry]:
    """Each environment, as the start of a training reads it."""
    import torch

    from utils.config import TrainConfig
    from utils.distributed import join
    from utils.training.torchrun_restart import resume_after_restart

    def started(environment: dict[str, str]) -> None:
        with mock.patch.dict("os.environ", environment, clear=True):
            join(torch.device("cpu"))

    def restarted(count: str) -> None:
        resume_after_restart(
            TrainConfig(project=str(folder)), frozenset(), {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_RESTART_COUNT": count}
        )

    for name, (environment, refusal) in PARTS.items():
        yield f"environment: {name}", lambda environment=environment: started(environment), refusal
    for value in NUMBERS:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            environment = {"RANK": "0", "WORLD_SIZE": "1", name: value}
            yield f"environment: {name} is {value!a:.20}", lambda environment=environment: started(environment), f"{name} is"
        yield f"environment: {value!a:.20} restarts", lambda value=value: restarted(value), "RESTART_COUNT is"
