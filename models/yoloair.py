"""YOLOAir's module names: its YAML rows build the modules of the papers, and `differences` lists where these differ.

Its attention rows repeat the width of their input as the first argument, ``[-1, 1, CA, [1024]]``; that is checked and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from models.arguments import repeats_width
from models.attention.bot import C3BoT
from models.attention.coord import CoordAtt
from models.attention.cot import C3CoT
from models.attention.criss_cross import CrissCross
from models.attention.global_context import GCBlock
from models.attention.gnconv import C3Hor, GnConv
from models.attention.se import SE
from models.attention.selective_kernel import SKConv
from models.registry import LayerPlan, Row, Rule, Scale, Width, only, preserve, register, stack


def _unscaled(*, keep: int | None = None) -> Rule:
    """`preserve` for a name whose width YOLOAir does not scale, so that the number is right at one size of the model only: not compared.

    Of the arguments after the width, once or twice, the first `keep` have a meaning; the others are dropped.
    """

    def rule(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
        width, args = only(row, inputs), row.args
        for _ in range(2):
            args = args[1:] if repeats_width(args) else args
        return LayerPlan((width, *args[:keep]), width, scale.repeats(row.repeats))

    return rule


register(preserve, name="CA", example=(4,))(CoordAtt)
register(preserve, name="SEAttention", example=(4,))(SE)
register(preserve, name="SKAttention")(SKConv)
register(preserve, name="CrissCrossAttention")(CrissCross)
register(preserve, name="GlobalContextBlock", example=(4,))(GCBlock)
register(_unscaled(), name="gnconv", example=(256, 3))(GnConv)
register(stack, name="CoT3", example=(48,))(C3CoT)
register(stack, name="BoT3", example=(48,))(C3BoT)
register(stack, name="C3HB", example=(48,))(C3Hor)

_UNDEFINED = "the paper's block; YOLOAir's YAMLs name it, but nothing there defines it"
_DIFFERENCES = {
    "CA": "pools any height and width, exported too; the copy bakes the size of the map into the graph",
    "SEAttention": "the same formula; the width is its input's, where the copy books whatever number the row has",
    "SKAttention": "the paper's: 3x3 convolutions of growing dilation, weighted per channel",
    "CrissCrossAttention": "its mask lies where the map does; the copy's stays on the CPU and fails on a GPU",
    "GlobalContextBlock": _UNDEFINED,
    "TripletAttention": _UNDEFINED,
    "DoubleAttention": f"{_UNDEFINED} (the common copy takes its softmax over the batch)",
    "CBAM": "ReLU, and the maximum before the mean, as in the authors' code; the copy has LeakyReLU(0.1) and the mean first",
    "SimAM": "lambda is the paper's 1e-4; the copy takes the row's width for lambda, which leaves a constant factor of about 0.62",
    "gnconv": "s = 1/3 as in every released HorNet (the copy: 1), and the row's number repeats it; the width is its input's at any size "
    "of the model, the copy's unscaled number is right at width 0.5 only",
    "HorBlock": "the row's number repeats it, layer scales start at 1e-6, no drop path; the copy builds one block and takes the number for "
    "its layer scale and the width for its drop path",
    "HorNet": "a row builds the stage it names; the copy builds all four stages in each of its four rows, and uses one of them",
    "C3HB": "gnConv with s = 1/3 and an order that follows the width (the copy: s = 1, order 5)",
    "CoT3": "values of the k x k neighbours are gathered with weights per pixel; the copy averages those weights and takes a "
    "softmax over the whole map, in which the branch vanishes as the map grows",
    "BoT3": "logits over sqrt(d), with relative positions; the copy has neither, and a layer that is never used",
}


def differences(rows: Sequence[Row]) -> Iterator[str]:
    """Say, for each module written as YOLOAir's YAMLs do, where what is built differs from what is built there."""
    theirs = [row for row in rows if _is_theirs(row)]
    for name in dict.fromkeys(row.name for row in theirs):
        if text := _DIFFERENCES.get(name):
            indices = ", ".join(str(r.index) for r in theirs if r.name == name)
            yield f"{name} (row {indices}) is not YOLOAir's copy: {text}"


def _is_theirs(row: Row) -> bool:
    """Whether a row of a name that both have is written as theirs: its first argument repeats the width, its second is a stage."""
    if row.name == "HorNet":
        return len(row.args) > 1 and isinstance(row.args[1], int)
    return row.name not in {"CBAM", "SimAM", "HorBlock", "TripletAttention", "DoubleAttention"} or repeats_width(row.args)
