"""Conformance checks for registered modules.

A check takes a `Subject`, returns a note, and raises `CheckFailed` with the reason, or `Skipped`.
"""

from __future__ import annotations

import copy
import dataclasses
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.build import MISFITS
from models.check import portability
from models.check import subject as subjects
from models.check.portability import channels_last, costs, counted, exports, half, traces
from models.check.subject import CheckFailed, Skipped, Subject, difference, mapped, require_equal, run, subject, tensors_of
from models.folding import fold_norms
from utils.errors import UserError

Check = Callable[[Subject], str]

_CHECKERS = {Path(str(file)) for file in (__file__, portability.__file__, subjects.__file__)}
_TORCH = Path(torch.__file__).parent

SIZES = ((13, 20), (1, 1), (32, 8), (7, 7))
WIDTHS = (4, 12, 20, 24, 40)
FAILURES = (*MISFITS, NameError, OSError)  # exceptions of a user's code that become a line of the report


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the report.

    Attributes:
        check: name of the check.
        state: "ok", "FAILED" or "skipped".
        note: what was found, or why.
    """

    check: str
    state: str
    note: str


def declared_width(it: Subject) -> str:
    """The output is as wide as the rule says."""
    output = it.make().eval()(it.example())
    found = [t.shape[1] if t.ndim > 1 else 0 for t in tensors_of(output)]
    declared = [it.plan.out] if isinstance(it.plan.out, int) else list(it.plan.out)
    if it.plan.out and found != declared:
        raise CheckFailed(f"gives {found} channels, its rule says {declared}: the wrong rule, or the wrong arguments")
    return f"{', '.join(map(str, it.inputs))} -> {', '.join(map(str, found))}"


def any_size(it: Subject) -> str:
    """One instance accepts maps of several sizes in turn."""
    module = it.make().eval()
    for size in SIZES:
        try:
            tensors = tensors_of(module(it.example(size)))
        except FAILURES as error:
            raise CheckFailed(f"{size[0]}x{size[1]}: {_line(error)}") from error
        if not all(t.isfinite().all() for t in tensors):
            raise CheckFailed(f"{size[0]}x{size[1]}: gives NaN or infinity")
    return ", ".join(f"{h}x{w}" for h, w in SIZES)


def any_width(it: Subject) -> str:
    """It accepts every width of a scaled YOLO, or rejects it in its constructor with a hint."""
    if len(it.inputs) != 1 or not isinstance(it.inputs[0], int):
        raise Skipped("reads several maps")
    refused = []
    for width in WIDTHS:
        try:
            other = subject(it.entry.name, (width,))
            module = other.make()
        except ValueError as error:
            refused.append(f"{width} refused: {_line(error)}")
            continue
        except FAILURES as error:
            raise CheckFailed(f"{width} channels: {type(error).__name__} at construction, not a ValueError that says what fits") from error
        try:
            module.train()(_lone(other))
        except FAILURES as error:
            raise CheckFailed(f"{width} channels: built, then {_line(error)}; refuse it at construction") from error
    return "; ".join(refused) or ", ".join(map(str, WIDTHS))


def _lone(it: Subject) -> Any:
    """One image; for a backbone large enough that its last map has more than one cell."""
    return it.example((13, 20) if isinstance(it.plan.out, int) else (64, 96), batch=1)


def batch_of_one(it: Subject) -> str:
    """Training accepts a batch of one image."""
    if not all(t.isfinite().all() for t in tensors_of(it.make().train()(_lone(it)))):
        raise CheckFailed("gives NaN or infinity")
    return "in training"


def gradients(it: Subject) -> str:
    """The gradient reaches every parameter and the input, and is finite."""
    module = it.make().train()
    given = mapped(_lone(it), lambda t: t.requires_grad_())
    output = tensors_of(run(module, given))
    torch.stack([(t * torch.randn_like(t)).sum() for t in output]).sum().backward()
    parameters = dict(module.named_parameters())
    if dead := [n for n, p in parameters.items() if p.grad is None or not p.grad.any()]:
        raise CheckFailed(f"none for {_some(dead)}: what is never used should not be there")
    if wild := [n for n, p in parameters.items() if p.grad is not None and not p.grad.isfinite().all()]:
        raise CheckFailed(f"NaN or infinite for {_some(wild)}")
    if any(t.grad is not None and not t.grad.isfinite().all() for t in tensors_of(given)):
        raise CheckFailed("NaN or infinite for the input")
    return f"{len(parameters)} parameters"


def input_unchanged(it: Subject) -> str:
    """The input is not modified."""
    module, given = it.make(), it.example((7, 7))
    before = copy.deepcopy(given)
    for mode in (True, False):
        module.train(mode)(given)
        if difference(given, before):
            raise CheckFailed("writes its input, which other rows may read; use x * y, not x *= y, and no inplace=True on it")
    return "in training and evaluation"


def deterministic(it: Subject) -> str:
    """In evaluation the same input gives the same output."""
    module, given = it.make().eval(), it.example((7, 7))
    require_equal(run(module, given), run(module, given), 0, "the same input twice")
    return "the same input twice"


def stateless(it: Subject) -> str:
    """A call does not depend on earlier calls, and keeps nothing."""
    module, given = it.make().eval(), it.example()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    first = run(module, given)
    module(it.example((7, 7), batch=3, seed=2))
    require_equal(run(module, given), first, 0, "after a call with another map")
    for name, buffer in module.named_buffers():
        if not torch.equal(buffer, before[name]):
            raise CheckFailed(f"evaluation changes its buffer {name}")
    run(module.train(), given)
    if kept := [f"{name}.{key}".lstrip(".") for name, part in module.named_modules() for key in _kept(part)]:
        raise CheckFailed(f"keeps {_some(kept)} after a call: memory that is not freed, and a copy that cannot be made")
    return "nothing kept"


def _kept(module: nn.Module) -> Iterator[str]:
    """Names of attributes that hold a tensor with a grad_fn."""
    for name, value in vars(module).items():
        held = value if isinstance(value, list | tuple) else list(value.values()) if isinstance(value, dict) else [value]
        if not name.startswith("_") and any(isinstance(v, Tensor) and v.grad_fn is not None for v in held):
            yield name


def independent(it: Subject) -> str:
    """In evaluation the images of a batch are independent."""
    module, given = it.make().eval(), it.example((7, 7))
    require_equal(module(mapped(given, lambda t: t[:1])), mapped(run(module, given), lambda t: t[:1]), 1e-5, "alone and in a batch")
    return "alone as in a batch"


def copies(it: Subject) -> str:
    """A deep copy, and another instance with its weights, compute the same."""
    module, other, given = it.make().eval(), it.make(seed=7).eval(), it.example((7, 7))
    expected = run(module, given)
    other.load_state_dict(module.state_dict())
    require_equal(run(copy.deepcopy(module), given), expected, 0, "a deep copy")
    require_equal(run(other, given), expected, 0, "another instance with its state_dict")
    return "deepcopy, state_dict"


def folding(it: Subject) -> str:
    """Folding the batch norms into the convolutions changes nothing."""
    module, given = it.make().eval(), it.example((7, 7))
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    expected = run(module, given)
    before = _norms(module)
    fold_norms(nn.ModuleList([module]))
    require_equal(run(module, given), expected, 1e-4, "after folding")
    return f"{before - _norms(module)} of {before} batch norms folded" if before else "no batch norms"


def shows_attention(it: Subject) -> str:
    """``attention(x)`` of the module or its parts returns drawable maps, and calling it has no effect."""
    module, given = it.make().eval(), it.example()
    shown: list[str] = []

    def ask(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        maps = part.attention(*inputs)  # type: ignore[operator]
        if not isinstance(maps, Tensor) or maps.dim() != 4 or len(maps) != len(inputs[0]) or not maps.isfinite().all():
            raise CheckFailed(f"{type(part).__name__}.attention(x) must return (B, maps, h, w) of finite values")
        require_equal(part.forward(*inputs), output, 0, "after its attention was called")
        shown.append("x".join(map(str, maps.shape[1:])))

    for part in [m for m in module.modules() if callable(getattr(m, "attention", None))]:
        part.register_forward_hook(ask)
    run(module, given)
    return ", ".join(shown[:3]) or "no method attention(x): nothing to draw"


def _norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


CHECKS: dict[str, Check] = {
    "declared width": declared_width,
    "any size": any_size,
    "any width": any_width,
    "batch of one": batch_of_one,
    "gradients": gradients,
    "input unchanged": input_unchanged,
    "deterministic": deterministic,
    "no state": stateless,
    "batch independence": independent,
    "copies": copies,
    "folding": folding,
    "attention maps": shows_attention,
    "bf16 autocast": half,
    "channels_last": channels_last,
    "TorchScript trace": traces,
    "ONNX export": exports,
    "FLOPs counted": counted,
    "cost": costs,
}
"""Every check by its name, in the order of the report."""


def run_check(name: str, it: Subject) -> CheckResult:
    """Run one check; an exception of the module becomes a failure."""
    if reason := it.entry.exempt.get(name):
        return CheckResult(name, "skipped", reason)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return CheckResult(name, "ok", CHECKS[name](it))
        except Skipped as skipped:
            return CheckResult(name, "skipped", str(skipped))
        except CheckFailed as failed:
            return CheckResult(name, "FAILED", str(failed))
        except FAILURES as error:
            return CheckResult(name, "FAILED", _line(error))


def examine(name: str) -> Iterator[CheckResult]:
    """Run all checks on a registered module; if its example cannot be built, that is the only result."""
    try:
        it = subject(name)
        it.make()
    except UserError as error:
        yield CheckResult(
            "builds", "FAILED", f"{_line(error)}; register(..., example=(...), inputs=(...)) gives row arguments and input widths"
        )
        return
    except FAILURES as error:
        yield CheckResult("builds", "FAILED", _line(error))
        return
    seen: dict[str, str] = {}
    for check in CHECKS:
        result = run_check(check, it)
        if result.state == "FAILED" and (first := seen.setdefault(result.note, check)) != check:
            result = dataclasses.replace(result, note=f"as under {first!r}")
        yield result


def _line(error: BaseException) -> str:
    """The exception and the innermost line of the traceback that is neither a check's nor PyTorch's."""
    text = " ".join(str(error).split())
    lines = [(Path(frame.f_code.co_filename), number) for frame, number in traceback.walk_tb(error.__traceback__)]
    own = [(path, number) for path, number in lines if path not in _CHECKERS and not path.is_relative_to(_TORCH)]
    place = f" ({own[-1][0].name}:{own[-1][1]})" if own and not isinstance(error, UserError) else ""
    return f"{type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}{place}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
