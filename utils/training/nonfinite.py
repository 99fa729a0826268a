"""Steps with NaN or Inf in loss, gradient or weights: skipped, then undone by restoring the newest checkpoint, then an error.

A skipped step leaves weights, optimizer, EMA and batch-norm statistics as they were before its first batch. Non-finite weights cannot
be skipped: then, and after several bad steps in a row, the newest checkpoint is restored.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

import torch
from torch import Tensor, distributed

from utils.distributed import gather
from utils.errors import DivergedError
from utils.training.buffer_snapshot import BufferSnapshot, all_finite
from utils.training.state import TrainState

MAX_SKIPPED = 2
"""Steps in a row that are skipped; one more restores the newest checkpoint."""
MAX_RESTORES = 2
"""Times that a checkpoint is restored before training stops with an error."""
RECOVERED = 100
"""Good steps in a row after which earlier restores no longer count."""


class Verdict(enum.Enum):
    """What to do with a step."""

    TAKE = enum.auto()
    RESCALE = enum.auto()
    """The gradient overflowed: drop it, as the loss scale is lowered."""
    SKIP = enum.auto()


@dataclasses.dataclass(slots=True)
class AccumulatedBatches:
    """Number, files and loss of each batch whose gradients are accumulated for the next optimizer step."""

    epoch: int
    batches: list[tuple[int, list[str], Tensor]] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.batches)


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a step.

    Attributes:
        what: is not finite.
        where: epoch and batch.
        files: of the batches that may have caused it, of all ranks.
        lasting: whether skipping the step does not mend it.
    """

    what: str
    where: str
    files: tuple[str, ...]
    lasting: bool

    def __str__(self) -> str:
        return f"the {self.what} {'is' if self.what in ('loss', 'gradient', 'state') else 'are'} not finite in {self.where}"


class NonFiniteGuard:
    """Tells good steps from non-finite ones and decides about these; every rank decides alike.

    Args:
        state: what is trained.
        restore: restores the newest checkpoint and returns its epoch and batch; None if there is none.

    Attributes:
        bad_steps: since the last good one.
        good_steps: since the last bad one.
        restores: that count towards `MAX_RESTORES`.
    """

    def __init__(self, state: TrainState, restore: Callable[[], tuple[int, int] | None] = lambda: None) -> None:
        self.restore = restore
        self.bad_steps = self.good_steps = self.restores = 0
        self._state, self._buffers = state, BufferSnapshot(state.model)

    def save_buffers(self) -> None:
        """Copy the batch-norm statistics before the first batch of a step."""
        self._buffers.save()

    def check(self, accumulated: AccumulatedBatches, norm: Tensor) -> Verdict:
        """Decide about the optimizer step; one to be skipped has left no trace by then.

        Args:
            accumulated: the batches of the step; their gradients are unscaled.
            norm: of the gradient.

        Raises:
            DivergedError: training cannot go on.
        """
        state = self._state
        values = [*state.parameters(), *(b for b in self._buffers.live() if b.is_floating_point())]
        norms = [norm, torch.nn.utils.get_total_norm(values), *(loss for _, _, loss in accumulated.batches)]
        zero = (torch.stack([n.float() for n in norms]) * 0).sum()
        if state.ranks.world_size > 1:
            distributed.all_reduce(zero)
        if bool(zero == 0):  # the one place where a step waits for the GPU
            self.bad_steps, self.good_steps = 0, self.good_steps + 1
            if self.good_steps >= RECOVERED:
                self.restores = 0
            return Verdict.TAKE
        fault = self._find_fault(accumulated)
        if fault is None:
            return Verdict.RESCALE
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.update()
        self._buffers.restore()
        self._handle(fault)
        return Verdict.SKIP

    def check_state(self, epoch: int) -> None:
        """Restore the newest checkpoint unless everything that is saved at an epoch's end is finite.

        Raises:
            DivergedError: there is no checkpoint, or restoring it did not help.
        """
        if not all(gather(is_finite(self._state), self._state.ranks)):
            self._handle(Fault("state", f"epoch {epoch}, after its last batch", (), lasting=True))

    def _find_fault(self, accumulated: AccumulatedBatches) -> Fault | None:
        """What is wrong, as the first rank with a fault finds it; None if only the loss scale is too high."""
        state = self._state
        bad = [batch for batch in accumulated.batches if not all_finite([batch[2]])]
        suspects = bad or accumulated.batches[-1:]
        lasting = True
        if not all_finite(list(state.model.parameters())):
            what = "weights"
        elif not all_finite(self._buffers.saved()):
            what = "batch-norm statistics"
        else:
            lasting = False
            what = "loss" if bad else "" if all_finite(self._buffers.live()) else "batch-norm statistics"
        own = what, lasting, suspects[0][0], [path for _, paths, _ in suspects for path in paths]
        reports: list[tuple[str, bool, int, list[str]]] = gather(own, state.ranks)
        faulty = [report for report in reports if report[0]]
        if not faulty and state.scaler.is_enabled() and state.scaler.get_scale() > 1:
            return None
        what, lasting, number, _ = max(faulty, key=lambda report: report[1]) if faulty else ("gradient", False, suspects[0][0], [])
        files = tuple(path for report in faulty or reports for path in report[3])
        return Fault(what, f"epoch {accumulated.epoch}, batch {number}", files, lasting)

    def _handle(self, fault: Fault) -> None:
        self.bad_steps, self.good_steps = self.bad_steps + 1, 0
        record, files = self._state.events.record, ", ".join(fault.files)
        facts = {"where": fault.where, "what": fault.what, "files": list(fault.files)}
        if not fault.lasting and self.bad_steps <= MAX_SKIPPED:
            record("step skipped", f"{fault}; the step is skipped. Its images: {files}", **facts)
            return
        position = self.restore() if self.restores < MAX_RESTORES else None
        if position is None:
            why = f"restoring the checkpoint {self.restores} times did not help" if self.restores else "there is no checkpoint to restore"
            record("given up", f"{fault}, and {why}", **facts)
            raise DivergedError(
                f"{fault}, and {why}; training stops before the weights are damaged. Check these images and their annotations, "
                f"or lower --lr0, or set --amp off: {files or 'no batch in particular'}"
            )
        self.bad_steps, self.restores = 0, self.restores + 1
        now = f"restored the weights of epoch {position[0]}, batch {position[1]}; the data goes on"
        record("rolled back", f"{fault}; {now}. Its images: {files}", **facts, back_to=list(position))


def is_finite(state: TrainState) -> bool:
    """Whether weights, statistics, EMA and optimizer state are all finite."""
    tensors = [*state.model.state_dict().values(), *state.ema.module.state_dict().values()]
    moments = [v for entry in state.optimizer.state.values() for v in entry.values() if isinstance(v, Tensor)]
    return all_finite([*tensors, *moments])
