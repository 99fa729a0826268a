"""Training steps whose numbers are none, or that do not fit into memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from tests.faults.tally import Tally
from tests.harm import INF, NAN, Spoilt, factor, poison, small_memory, spoil_labels, with_checkpoint
from tests.trainees import differing, new_trainee, state_of, train
from utils.errors import UserError
from utils.training.engine import Trainee
from utils.training.events import Events
from utils.training.nonfinite import sound

Spoil = Callable[[Trainee], Callable[[], object]]


def _gradient(trainee: Trainee) -> Callable[[], None]:
    weight, handles = next(trainee.model.parameters()), list[torch.utils.hooks.RemovableHandle]()

    def once() -> None:
        def infinite(gradient: Tensor) -> Tensor:
            handles.pop().remove()
            return gradient * INF

        handles.append(weight.register_hook(infinite))

    return once


def _poisons(where: str) -> Spoil:
    return lambda trainee: lambda: poison(trainee, where)


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
    "the average": (_poisons("average"), ""),
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
        "every step without a checkpoint": _nothing_to_go_back_to,
        "the loss scale": _scale,
    }
    for name, fault in many.items():
        if not short or fault is _three:
            wrong = fault()
            tally.fault(not wrong, f"{name}: {wrong}")


def _once(path: Path, spoil: Spoil, event: str) -> str:
    trainee = new_trainee(events=Events(path))
    train(trainee, 1)
    with_checkpoint(trainee)
    train(trainee, 1, Spoilt({2: spoil(trainee)}))
    if not event:
        trainee.guard.inspect(trainee, 0)  # as before each save
    if not sound(trainee):
        return "the state is not finite"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if event and [x["event"] for x in found] != [event]:
        return f"other events: {found}"
    named = "0_2_0.jpg" if event != "rolled back" else ".jpg"
    return "" if not event or named in " ".join(found[0]["files"]) else f"the files are not named: {found}"


def _three() -> str:
    trainee = new_trainee()
    times = with_checkpoint(trainee)
    train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in (0, 1, 2)}))
    return "" if len(times) == 1 and sound(trainee) else f"went back {len(times)} times"


def _every() -> str:
    trainee = new_trainee()
    times = with_checkpoint(trainee)
    try:
        for _ in range(3):
            train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in range(6)}))
    except UserError as error:
        return "" if len(times) == 2 and ".jpg" in str(error) and sound(trainee) else f"went back {len(times)} times: {error}"
    return "no end"


def _nothing_to_go_back_to() -> str:
    trainee = new_trainee()
    before = state_of(trainee)
    try:
        train(trainee, 1, Spoilt({k: factor(trainee, NAN) for k in range(6)}))
    except UserError as error:
        return "" if ".jpg" in str(error) and not differing(state_of(trainee), before) else str(error)
    return "no end"


def _scale() -> str:
    trainee = new_trainee()
    trainee.scaler = torch.amp.GradScaler("cpu", init_scale=3e38, enabled=True)
    train(trainee, 1)
    return "" if sound(trainee) and trainee.scaler.get_scale() < 3e38 and not trainee.guard.in_a_row else "taken for a fault"


def memory_faults(tally: Tally, folder: Path, *, short: bool) -> None:
    """Let memory run out in a step, forward or backward; then for batches of any size above some images."""
    straight = new_trainee()
    train(straight)
    expected = state_of(straight)
    for number in range(1 if short else 9):
        path = folder / f"memory{number}.jsonl"
        trainee = new_trainee(events=Events(path))
        with small_memory(trainee, (3 * number + 2) % 9, calls=(number + 3,), backward=number % 2 == 0):
            train(trainee)
        odd = differing(state_of(trainee), expected)
        recorded = path.exists() and len(path.read_text().splitlines()) == 1
        tally.fault(not odd and recorded, f"memory is short in call {number + 3}: differs in {odd[:3]}, recorded: {recorded}")
    for images in (2,) if short else (1, 2, 3):
        found, wanted = (_frozen(), _frozen())
        with small_memory(found, 3, images=images):
            train(found)
        train(wanted)
        odd = differing(state_of(found), state_of(wanted), 1e-5)
        tally.fault(
            not odd and found.fitting.parts > 1, f"memory for {images} images only: {found.fitting.parts} parts, differs in {odd[:3]}"
        )


def _frozen() -> Trainee:
    """Without batch statistics, parts give what the whole gives."""
    return new_trainee(frozen=frozenset(range(9)))
