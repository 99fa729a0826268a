"""Training steps with NaN or Inf, or that do not fit into memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tests.faults.tally import Tally
from tests.step_faults import INF, NAN, Spoilt, factor, guard_with_checkpoint, poison, small_memory, spoil_labels
from tests.tiny_training import differing, new_state, state_of, train
from utils.errors import UserError
from utils.training.events import Events
from utils.training.nonfinite import NonFiniteGuard, is_finite
from utils.training.state import TrainState

Spoil = Callable[[TrainState], Callable[[], object]]


def _gradient(state: TrainState) -> Callable[[], None]:
    weight, handles = next(state.model.parameters()), list[torch.utils.hooks.RemovableHandle]()

    def once() -> None:
        def infinite(gradient: Tensor) -> Tensor:
            handles.pop().remove()
            return gradient * INF

        handles.append(weight.register_hook(infinite))

    return once


def _poisons(where: str) -> Spoil:
    return lambda state: lambda: poison(state, where)


ONCE: dict[str, tuple[Spoil, str]] = {
    "a loss that is NaN": (lambda t: factor(t, NAN), "step skipped"),
    "a loss that is infinite": (lambda t: factor(t, INF), "step skipped"),
    "a loss that is minus infinity": (lambda t: factor(t, -INF), "step skipped"),
    "an infinite gradient": (_gradient, "step skipped"),
    "labels that are NaN": (lambda _: lambda: spoil_labels, ""),
    "a weight that is NaN": (_poisons("weight"), "rolled back"),
    "a weight that no loss looks at": (_poisons("class weight"), "rolled back"),
    "batch-norm statistics": (_poisons("statistics"), "rolled back"),
    "the optimizer's momentum": (_poisons("momentum"), "rolled back"),
    "the EMA": (_poisons("ema"), ""),
}
"""The fault, and the one event that is to come of it at the step."""


def number_faults(tally: Tally, folder: Path, *, short: bool) -> None:
    """Spoil single steps; then more of them than can be skipped."""
    for number, (name, (spoil, event)) in enumerate(ONCE.items()):
        if not short or number % 5 == 0:
            wrong = _once(folder / f"numbers{number}.jsonl", spoil, event)
            tally.fault(not wrong, f"{name}: {wrong}")
    many = {
        "three steps in a row": _three,
        "every step": _every,
        "every step without a checkpoint": _no_checkpoint,
        "the loss scale": _scale,
    }
    for name, fault in many.items():
        if not short or fault is _three:
            wrong = fault()
            tally.fault(not wrong, f"{name}: {wrong}")


def _once(path: Path, spoil: Spoil, event: str) -> str:
    state = new_state(events=Events(path))
    train(state, 1)
    guard, _ = guard_with_checkpoint(state)
    train(state, 1, Spoilt({2: spoil(state)}), guard)
    if not event:
        guard.check_state(0)  # as before each save
    if not is_finite(state):
        return "the state is not finite"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if event and [x["event"] for x in found] != [event]:
        return f"other events: {found}"
    named = "0_2_0.jpg" if event != "rolled back" else ".jpg"
    return "" if not event or named in " ".join(found[0]["files"]) else f"the files are not named: {found}"


def _three() -> str:
    state = new_state()
    guard, times = guard_with_checkpoint(state)
    train(state, 1, Spoilt({k: factor(state, NAN) for k in (0, 1, 2)}), guard)
    return "" if len(times) == 1 and is_finite(state) else f"restored {len(times)} times"


def _every() -> str:
    state = new_state()
    guard, times = guard_with_checkpoint(state)
    try:
        for _ in range(3):
            train(state, 1, Spoilt({k: factor(state, NAN) for k in range(6)}), guard)
    except UserError as error:
        return "" if len(times) == 2 and ".jpg" in str(error) and is_finite(state) else f"restored {len(times)} times: {error}"
    return "no end"


def _no_checkpoint() -> str:
    state = new_state()
    before = state_of(state)
    try:
        train(state, 1, Spoilt({k: factor(state, NAN) for k in range(6)}))
    except UserError as error:
        return "" if ".jpg" in str(error) and not differing(state_of(state), before) else str(error)
    return "no end"


def _scale() -> str:
    state = new_state()
    state.scaler = torch.amp.GradScaler("cpu", init_scale=3e38, enabled=True)
    guard = NonFiniteGuard(state)
    train(state, 1, guard=guard)
    return "" if is_finite(state) and state.scaler.get_scale() < 3e38 and not guard.bad_steps else "taken for a fault"


def memory_faults(tally: Tally, folder: Path, *, short: bool) -> None:
    """Let memory run out in a step, forward or backward; then for good."""
    straight = new_state()
    train(straight)
    expected = state_of(straight)
    for number in range(1 if short else 9):
        path = folder / f"memory{number}.jsonl"
        state = new_state(events=Events(path))
        with small_memory(state, (3 * number + 2) % 9, calls=(number + 3,), backward=number % 2 == 0):
            train(state)
        names = differing(state_of(state), expected)
        recorded = path.exists() and len(path.read_text().splitlines()) == 1
        tally.fault(not names and recorded, f"out of memory in call {number + 3}: differs in {names[:3]}, recorded: {recorded}")
    message, state = "", new_state()
    try:
        with small_memory(state, 3):
            train(state)
    except UserError as error:
        message = str(error)
    tally.fault("lower --batch-size" in message, f"out of memory in every call: {message or 'no end'}")
