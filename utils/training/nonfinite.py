"""Steps whose loss, gradient or weights are not finite: skipped, then undone back to the checkpoint, then given up.

A skipped step leaves weights, optimizer, average and batch-norm statistics as they were before its first batch. Weights that
are no longer finite cannot be skipped; there, and after several bad steps in a row, the newest checkpoint is taken up again.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor, distributed

from utils.distributed import gather
from utils.errors import UserError
from utils.training.buffer_snapshot import all_finite, magnitude

if TYPE_CHECKING:
    from utils.training.engine import Trainee

IN_A_ROW = 3
"""Bad steps in a row after which the newest checkpoint is taken up again."""
ROLLBACKS = 2
"""Times that a checkpoint is taken up again before training is given up."""
RECOVERED = 100
"""Sound steps in a row after which all that went before is forgotten."""


class Verdict(enum.Enum):
    """What is to become of a step."""

    TAKE = enum.auto()
    RESCALE = enum.auto()
    """The gradient overflowed: drop it, as the loss scale is on its way down."""
    SKIP = enum.auto()


@dataclasses.dataclass(slots=True)
class Waiting:
    """Batches whose gradients wait for the optimizer's step."""

    epoch: int
    batches: list[tuple[int, list[str], Tensor]] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.batches)

    def add(self, number: int, paths: list[str], loss: Tensor) -> None:
        """Append a batch's number, files and loss."""
        self.batches.append((number, paths, loss))


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a step.

    Attributes:
        what: that which is not finite.
        where: epoch and batch.
        files: of the batches it may come from, of all ranks.
        lasting: whether skipping the step cannot mend it.
    """

    what: str
    where: str
    files: tuple[str, ...]
    lasting: bool

    def __str__(self) -> str:
        return f"the {self.what} {'is' if self.what in ('loss', 'gradient', 'state') else 'are'} not finite in {self.where}"


@dataclasses.dataclass(slots=True)
class Guard:
    """Tells sound steps from bad ones, and decides about these; every rank decides alike.

    Attributes:
        roll_back: puts the newest checkpoint's state back and returns the epoch and batch it stands at; None if there is none.
        in_a_row: bad steps since the last sound one.
        sound: sound steps since the last bad one.
        rollbacks: how often training went back since it last was well.
    """

    roll_back: Callable[[], tuple[int, int] | None] = lambda: None
    in_a_row: int = 0
    sound: int = 0
    rollbacks: int = 0

    def check(self, trainee: Trainee, waiting: Waiting, norm: Tensor) -> Verdict:
        """Say whether to take the optimizer's step; one that is to be skipped has left no trace by then.

        Args:
            trainee: after the backward passes, with unscaled gradients.
            waiting: the batches of the step.
            norm: of their gradient.

        Raises:
            UserError: training cannot go on.
        """
        state = [*trainee.parameters(), *trainee.window.floating()]
        sign = (torch.stack([norm.float(), *(loss.float() for _, _, loss in waiting.batches), magnitude(state)]) * 0).sum()
        if trainee.ranks.world_size > 1:
            distributed.all_reduce(sign)
        if bool(sign == 0):  # the one place where a step waits for the GPU
            self.in_a_row, self.sound = 0, self.sound + 1
            if self.sound >= RECOVERED:
                self.rollbacks = 0
            return Verdict.TAKE
        fault = _fault(trainee, waiting)
        if fault is None:
            return Verdict.RESCALE
        trainee.optimizer.zero_grad(set_to_none=True)
        trainee.scaler.update()
        trainee.window.put_back()
        self._decide(trainee, fault)
        return Verdict.SKIP

    def inspect(self, trainee: Trainee, epoch: int) -> None:
        """Before the state at an epoch's end is measured and saved: go back to the checkpoint unless everything in it is finite.

        Raises:
            UserError: there is no checkpoint, or it was taken up too often.
        """
        if all(gather(sound(trainee), trainee.ranks)):
            return
        self._decide(trainee, Fault("state", f"epoch {epoch}, after its last batch", (), lasting=True))

    def _decide(self, trainee: Trainee, fault: Fault) -> None:
        self.in_a_row, self.sound = self.in_a_row + 1, 0
        facts = {"where": fault.where, "what": fault.what, "files": list(fault.files)}
        if not fault.lasting and self.in_a_row < IN_A_ROW:
            names = ", ".join(fault.files)
            trainee.events.record("step skipped", f"{fault}; the step is skipped. Its images: {names}", **facts)
            return
        standing = self.roll_back() if self.rollbacks < ROLLBACKS else None
        if standing is None:
            again = f"going back to the checkpoint {ROLLBACKS} times did not help"
            self._give_up(trainee, fault, again if self.rollbacks else "there is no checkpoint to go back to", facts)
        assert standing
        self.in_a_row, self.rollbacks = 0, self.rollbacks + 1
        now = f"back to the weights of epoch {standing[0]}, batch {standing[1]}; the data goes on"
        trainee.events.record("rolled back", f"{fault}; {now}. Its images: {', '.join(fault.files)}", **facts, back_to=list(standing))

    def _give_up(self, trainee: Trainee, fault: Fault, why: str, facts: Mapping[str, object]) -> NoReturn:
        trainee.events.record("given up", f"{fault}, and {why}", **facts)
        raise UserError(
            f"{fault}, and {why}; training stops before the weights are harmed. Look at these images and their labels, "
            f"or lower --lr0, or give --amp off: {', '.join(fault.files) or 'no batch in particular'}"
        )


def sound(trainee: Trainee) -> bool:
    """Whether weights, statistics, average and optimizer state are all finite."""
    tensors = [*trainee.model.state_dict().values(), *trainee.ema.module.state_dict().values()]
    moments = [v for state in trainee.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return all_finite([*tensors, *moments])


def _fault(trainee: Trainee, waiting: Waiting) -> Fault | None:
    """What is wrong, in the words of the first rank where something is; None if only the loss scale is too high."""
    bad = [(number, paths) for number, paths, loss in waiting.batches if not all_finite([loss])]
    suspects = bad or [(number, paths) for number, paths, _ in waiting.batches[-1:]]
    what, lasting = _what(trainee), True
    if not what:
        what, lasting = "loss" if bad else "" if all_finite(trainee.window.live()) else "batch-norm statistics", False
    mine = what, lasting, suspects[0][0], [path for _, paths in suspects for path in paths]
    reports: list[tuple[str, bool, int, list[str]]] = gather(mine, trainee.ranks)
    named = [report for report in reports if report[0]]
    scaler = trainee.scaler
    if not named and scaler.is_enabled() and scaler.get_scale() > 1:
        return None
    what, lasting, number, _ = max(named, key=lambda report: report[1]) if named else ("gradient", False, suspects[0][0], [])
    files = tuple(path for report in named or reports for path in report[3])
    return Fault(what, f"epoch {waiting.epoch}, batch {number}", files, lasting)


def _what(trainee: Trainee) -> str:
    """What was not finite before the step already."""
    if not all_finite(list(trainee.model.parameters())):
        return "weights"
    return "" if trainee.window.finite() else "batch-norm statistics"
