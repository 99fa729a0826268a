"""Transfer of pretrained weights to a changed model by its structure, so that rows after an inserted row keep their weights.

The rows of both models are aligned as sequences: pairs never cross, and a pair scores higher the more of its module, arguments and
shapes agree; a variant's row whose origin is the other row breaks ties. Within a pair, tensors are matched by name and
shape. State_dict keys alone are not used: ``model.9.conv.weight`` is another layer in each model.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.detector import Detector
from models.heads.detect import Detect
from models.registry import Row
from models.weights.load import Weights

Tensors = Mapping[str, Tensor]

# Arguments count more than shapes: in the next larger model a layer has the shapes of a deeper layer of this one, but its own arguments.
_SAME_MODULE, _SAME_ARGUMENTS, _SAME_SHAPES, _REPLACED, _SAME_ORIGIN = 4.0, 4.5, 4.0, 2.0, 0.5
_NO_TENSORS = 1.0  # Concat and Upsample guide the alignment, but weigh less than a layer with weights


@dataclass(frozen=True, slots=True)
class RowReport:
    """The transfer of one row.

    Attributes:
        index: row of the model.
        source: the matching row of the weights, or None for a new one.
        module: name, and what it replaces.
        transferred: number of tensors copied.
        new: tensors that the weights do not have.
        misfits: why each other tensor was not copied.
    """

    index: int
    source: int | None
    module: str
    transferred: int
    new: int
    misfits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TransferReport:
    """The result of `transfer`; `str()` is a table with a line per row, `summary()` one line.

    Attributes:
        transferred: number of tensors copied.
        total: tensors of the weights.
        rows: a report for each row of the model.
        lost: tensors of the weights' rows that the model does not have.
        keys: names of the tensors of the weights that were copied.
        share: of the model's parameters, how many have the weights' values; 0 to 1.
        source: name of the weights' file.
    """

    transferred: int
    total: int
    rows: tuple[RowReport, ...]
    lost: int
    keys: frozenset[str]
    share: float
    source: str

    @property
    def poor(self) -> bool:
        """Whether less than half was transferred: probably the weights of another model."""
        return 2 * self.transferred < self.total

    def summary(self) -> str:
        """One line, such as ``transferred 349/349 tensors of yolov5n.pt; 55 new in 3 rows``."""
        parts = [f"transferred {self.transferred}/{self.total} tensors of {self.source}"]
        if with_new := [row.new for row in self.rows if row.new]:
            parts.append(f"{sum(with_new)} new in {len(with_new)} row{'s' * (len(with_new) > 1)}")
        if misfits := [reason for row in self.rows for reason in row.misfits]:
            parts.append(f"{len(misfits)} not fitting ({_brief(misfits)})")
        if self.lost:
            parts.append(f"{self.lost} of rows that this model does not have")
        if self.poor:
            parts.append("LESS THAN HALF: are these the weights for this model?")
        return "; ".join(parts)

    def __str__(self) -> str:
        lines = [f"{'row':>4} {'of':>4} {'module':<28} {'taken':>6} {'new':>5}  not fitting"]
        for row in self.rows:
            source = "new" if row.source is None else row.source
            lines.append(f"{row.index:>4} {source:>4} {row.module:<28} {row.transferred:>6} {row.new:>5}  {_brief(row.misfits)}".rstrip())
        return "\n".join([*lines, self.summary()])


@torch.no_grad()
def transfer(model: Detector, weights: Weights, *, keep_anchors: bool = True) -> TransferReport:
    """Copy every matching tensor of `weights` into `model`, in place.

    Args:
        keep_anchors: use the anchors with which the weights were trained; otherwise the model keeps its own.
    """
    theirs, own = _by_row(weights.state), _by_row(model.state_dict())
    sources = dict(_align(*_before(weights.spec.rows, theirs), *_before(model.spec.rows, own)))
    head, rows, keys = model.spec.rows[-1].index, [], set[str]()
    parameters, copied = dict(model.named_parameters()), 0
    for row in model.spec.rows:
        source = sources.get(row.index)
        given = theirs.get(source.index, {}) if source else {}
        taken, new, misfits = set[str](), 0, []
        for name, tensor in own.get(row.index, {}).items():
            known = _given_name(name, tensor, given) if row.replaced else name
            if known not in given:
                new += 1
            elif row.index == head and name == "anchors" and not keep_anchors:
                misfits.append("the model's own anchors are kept")
            elif tensor.shape != given[known].shape:
                misfits.append(_reason(name, given[known], tensor, (weights.nc, model.nc) if row.index == head else (0, 0)))
            else:
                tensor.copy_(given[known])
                taken.add(known)
                copied += tensor.numel() * (f"model.{row.index}.{name}" in parameters)
                if isinstance(model.head, Detect) and row.index == head and name == "anchors":
                    model.head.counted = False
        replaced = f" for {source.name}" if source and source.name != row.name else ""
        rows.append(RowReport(row.index, source.index if source else None, row.name + replaced, len(taken), new, tuple(misfits)))
        keys |= {f"model.{source.index}.{name}" for name in taken} if source else set()
    kept = {source.index for source in sources.values()}
    lost = sum(len(tensors) for index, tensors in theirs.items() if index not in kept)
    share = copied / max(sum(p.numel() for p in parameters.values()), 1)
    return TransferReport(len(keys), len(weights.state), tuple(rows), lost, frozenset(keys), share, weights.source.name)


def _before(rows: Sequence[Row], tensors: Mapping[int, Tensors]) -> tuple[list[Row], dict[int, Tensors]]:
    """Rows and tensors by row, with a block that fades in taken for the one that it replaces."""
    seen = {row.index: row.replaced is not None for row in rows}
    old = {
        index: {name.removeprefix("old."): t for name, t in own.items() if name.startswith("old.")} if seen.get(index) else own
        for index, own in tensors.items()
    }
    return [dataclasses.replace(row.replaced, index=row.index) if row.replaced else row for row in rows], old


def _given_name(name: str, tensor: Tensor, given: Tensors) -> str:
    """What a tensor of a block that fades in, or of the one it replaces, is called in the weights; the new block takes what fits it."""
    part, _, rest = name.partition(".")
    return name if name in given or (part == "new" and rest in given and given[rest].shape != tensor.shape) else rest


def _by_row(state: Tensors) -> dict[int, dict[str, Tensor]]:
    """``model.3.conv.weight`` -> tensors[3]["conv.weight"]; keys of another form are under -1."""
    rows: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        top, _, rest = key.partition(".")
        index, _, name = rest.partition(".")
        number = int(index) if top == "model" and index.isdecimal() else -1
        rows.setdefault(number, {})[name] = tensor
    return rows


def _reason(name: str, given: Tensor, own: Tensor, classes: tuple[int, int]) -> str:
    if classes[0] != classes[1] and name.startswith("m.") and given.shape[1:] == own.shape[1:]:
        return f"classes {classes[0]} -> {classes[1]}"
    return f"{name} {'x'.join(map(str, given.shape))} -> {'x'.join(map(str, own.shape))}"


def _brief(reasons: Sequence[str]) -> str:
    counted = [f"{count}x {reason}" if count > 1 else reason for reason, count in Counter(reasons).items()]
    return ", ".join(counted[:2]) + (", ..." if len(counted) > 2 else "")


def _align(
    theirs: Sequence[Row], their_tensors: Mapping[int, Tensors], own: Sequence[Row], own_tensors: Mapping[int, Tensors]
) -> list[tuple[int, Row]]:
    """Pairs of row indices of `own` with the matching row of `theirs`: the best alignment (Needleman and Wunsch, 1970)."""
    score = [[_score(a, b, their_tensors.get(a.index, {}), own_tensors.get(b.index, {})) for b in own] for a in theirs]
    best = [[0.0] * (len(own) + 1) for _ in range(len(theirs) + 1)]  # best[i][j]: of the rows from i and from j on
    for i in reversed(range(len(theirs))):
        for j in reversed(range(len(own))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + score[i][j])
    pairs, i, j = [], 0, 0
    while i < len(theirs) and j < len(own):
        if score[i][j] and best[i][j] == best[i + 1][j + 1] + score[i][j]:
            pairs.append((own[j].index, theirs[i]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _score(a: Row, b: Row, a_tensors: Tensors, b_tensors: Tensors) -> float:
    """How well row `b` of a model matches row `a` of the weights; 0 for no match."""
    fitting = {name for name, tensor in a_tensors.items() if name in b_tensors and b_tensors[name].shape == tensor.shape}
    origin = _SAME_ORIGIN * (a.origin == b.origin or b.origin.partition("=")[0] == a.origin)
    if a.name == b.name:
        if not a_tensors and not b_tensors:
            return _NO_TENSORS + origin
        shapes = _SAME_SHAPES * len(fitting) / max(len(a_tensors), len(b_tensors))
        return _SAME_MODULE + _SAME_ARGUMENTS * ((a.args, a.keywords) == (b.args, b.keywords)) + shapes + origin
    parts = [{name.partition(".")[0] for name in names} for names in (a_tensors, b_tensors)]
    misfitting = {name.partition(".")[0] for name in (a_tensors.keys() | b_tensors.keys()) - fitting}
    whole = (parts[0] | parts[1]) - misfitting
    replaces = "=" in b.origin and origin
    return _REPLACED + origin if whole and (replaces or 2 * len(whole) >= max(map(len, parts))) else 0.0
