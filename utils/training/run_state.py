"""The state of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from utils.config import Hyp, TrainConfig
from utils.data.fingerprint import Fingerprint, versions
from utils.data.loading.loader import Loader
from utils.distributed import Ranks
from utils.training.early_stopping import EarlyStopping
from utils.training.nonfinite import NonFiniteGuard
from utils.training.splits import Splits
from utils.training.state import START, Position, TrainState


@dataclasses.dataclass(slots=True, kw_only=True)
class Run:
    """A training run.

    Attributes:
        config: its flags, with the batch size and image size that are really used.
        folder: where its files go.
        state: what a training step changes.
        loader: the training batches of this rank.
        stopping: the best epoch so far.
        data: the fingerprint of each split.
        start: the first epoch to do.
        position: where in it to begin.
        resumed: whether it resumes from the newest checkpoint of its folder, with the settings stored there.
        done: whether no epoch is left, and only the best weights are still to be validated.
        ap: (nc,) AP of the last validation, for ``--image-weights``.
        versions: of the code that trains, and what of the machine decides the last bits.
        plugins: digest of each plug-in, by its path.
        pending: writes that failed and are tried again with the next save, by name; see `checkpointing.write_pending`.
    """

    config: TrainConfig
    hyp: Hyp
    splits: Splits
    folder: Path
    state: TrainState
    guard: NonFiniteGuard
    loader: Loader
    stopping: EarlyStopping
    data: dict[str, Fingerprint]
    start: int = 0
    position: Position = START
    resumed: bool = False
    done: bool = False
    ap: list[float] | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=versions)
    plugins: dict[str, str] = dataclasses.field(default_factory=dict)
    pending: dict[str, Callable[[], None]] = dataclasses.field(default_factory=dict)

    @property
    def ranks(self) -> Ranks:
        """The processes that train."""
        return self.state.ranks

    @property
    def plots(self) -> bool:
        """Whether this process draws pictures."""
        return self.ranks.first and not self.config.noplots
