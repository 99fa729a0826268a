"""YOLOAir's module names: its YAML rows build the modules of the papers, and `differences` lists where these differ.

Its attention rows repeat the width of their input as the first argument, ``[-1, 1, CA, [1024]]``; that is checked and dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from models.arguments import repeats_width
from models.attention.axial import AxialTransformer
from models.attention.bot import C3BoT
from models.attention.coord import CoordAtt
from models.attention.cot import C3CoT
from models.attention.criss_cross import CrissCross
from models.attention.dual import DualAttention
from models.attention.effective_se import EffectiveSE
from models.attention.gam import GAM
from models.attention.global_context import GCBlock
from models.attention.gnconv import C3Hor, GnConv
from models.attention.nam import NAM
from models.attention.parnet import ParNetBlock
from models.attention.polarized import PolarizedAttention
from models.attention.se import SE
from models.attention.selective_kernel import SKConv
from models.attention.spatial_group import SGE
from models.attention.swin import C3Swin, C3SwinV2
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


def _context(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """[width, ratio, ...] of a context block: the ratio is one over `GCBlock`'s reduction, and what follows has no meaning."""
    plan = _unscaled(keep=1)(row, inputs, scale)
    width, *rest = plan.args
    return dataclasses.replace(plan, args=(width, *(round(1 / r) if isinstance(r, float) and 0 < r < 1 else r for r in rest)))


def _unscaled_stack(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """`stack` for a name whose two widths YOLOAir does not scale: the width is the input's, the numbers are not compared."""
    width = only(row, inputs)
    return LayerPlan((width, width, scale.repeats(row.repeats)), width)


register(preserve, name="CA", example=(4,))(CoordAtt)
register(preserve, name="SEAttention", example=(4,))(SE)
register(preserve, name="SKAttention")(SKConv)
register(preserve, name="CrissCrossAttention")(CrissCross)
register(preserve, name="NAMAttention")(NAM)
register(preserve, name="GAMAttention", example=(2,))(GAM)
register(preserve, name="EffectiveSELayer")(EffectiveSE)
register(_context, name="GlobalContextBlock", example=(512, 0.25, 2, 16))(GCBlock)
register(_unscaled(keep=0), name="DANet", example=(512, 512, False))(DualAttention)
register(_unscaled(keep=0), name="PSA_s", example=(512, 512, False))(PolarizedAttention)
register(_unscaled(keep=0), name="ParNetAttention", example=(512, 0.5, 2))(ParNetBlock)
register(_unscaled(keep=1), name="AxialImageTransformer", example=(512, 2, False))(AxialTransformer)
register(_unscaled(keep=1), name="SpatialGroupEnhance", example=(8, 0.5))(SGE)
register(stack, name="C3STR", example=(48,))(C3Swin)
register(_unscaled_stack, name="Swin_Transformer_A", example=(256, 256))(C3Swin)
register(_unscaled_stack, name="Swin_v2_A", example=(256, 256))(C3SwinV2)
register(_unscaled_stack, name="SwinV2_CSPB", example=(128, 128))(C3SwinV2)
register(_unscaled(), name="gnconv", example=(256, 3))(GnConv)
register(stack, name="CoT3", example=(48,))(C3CoT)
register(stack, name="BoT3", example=(48,))(C3BoT)
register(stack, name="C3HB", example=(48,))(C3Hor)

_UNDEFINED = "the paper's block; YOLOAir's YAMLs name it, but nothing there defines it"
_NOWHERE = "neither YOLOAir nor a paper defines it; what is built is a stand-in"
_WHOLE = "a row builds what it names; the copy builds the whole network in each of its rows, and uses a part of it"
_NO_DOWNLOAD = "starts at random; the copy downloads weights while it is built"
_DIFFERENCES = {
    "CA": "pools any height and width, exported too; the copy bakes the size of the map into the graph",
    "SEAttention": "the same formula; the width is its input's, where the copy books whatever number the row has",
    "SKAttention": "the paper's: 3x3 convolutions of growing dilation, weighted per channel",
    "CrissCrossAttention": "its mask lies where the map does; the copy's stays on the CPU and fails on a GPU",
    "GlobalContextBlock": f"{_UNDEFINED}; of [width, 0.25, 2, 16] the ratio is read, the last two numbers have no meaning",
    "TripletAttention": f"{_UNDEFINED}; the 2 of [2] cannot be the side of a kernel and is dropped",
    "DoubleAttention": f"{_UNDEFINED} (the common copy takes its softmax over the batch); of [width, 128, 128, 8] the 8 has no meaning",
    "DANet": f"{_UNDEFINED}: both attentions, with the convolutions of the paper's head; the last argument has no meaning",
    "PSA_s": f"{_UNDEFINED}: polarized self-attention, sequential; the last argument has no meaning",
    "ParNetAttention": f"{_UNDEFINED}, with the skip's batch norm; the numbers after the width have no meaning",
    "AxialImageTransformer": f"{_UNDEFINED}; of [width, 2, false] the 2 is the depth, the last argument has no meaning",
    "SpatialGroupEnhance": f"{_UNDEFINED}; of [8, 0.5] the 8 are the groups, the last number has no meaning",
    "NAMAttention": "the factors of the batch norm learn through the shares, too; the copy cuts that gradient off",
    "GAMAttention": "a sigmoid after the channels' MLP, and full 7x7 convolutions; the copy has neither and always four groups",
    "SOCA": "works at half precision and on maps of one colour; the copy's square root fails under autocast",
    "S2Attention": "any width, shifts that do not overwrite what they read, and the paper's norm and residual; the copy works at 512 only",
    "ShuffleAttention": "64 groups as in the paper, or as many as divide; the copy has 8",
    "EffectiveSELayer": "the same formula; the copy takes the row's width for its activation",
    "ACmix": "the same formula without a bias of no effect; any map size and half precision",
    "MultiSEAM": "the map is padded to whole patches; the copy drops the border, and fails on maps smaller than a patch",
    "C3GC": "global context at the end of each inner block, as in the paper; the copy has one, before the branch that passes by",
    "C3STR": "windows of 7 as in the paper, every second inner block is shifted",
    "Swin_Transformer_A": "the number repeats the inner block, and every second is shifted; the copy repeats the whole, without any shift",
    "Swin_v2_A": "the number repeats the inner block, and every second is shifted; the copy repeats the whole, without any shift",
    "SwinV2_CSPB": _UNDEFINED,
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
    "ConvNextBlock": "the row's number repeats it, layer scales start at 1e-6, no drop path; the copy builds one block and takes the "
    "number for its layer scale and the width for its drop path",
    "MobileOne": "the first block changes the width, and all merge on fusing; the copy needs an input of the row's width and never merges",
    "MobileOneBlock": "the last argument must be false, no merged form; the copy takes it for the dilation, and never merges its branches",
    "RepVGGBlockv6": "its branches merge on fusing; the copy's stay",
    "RepBlock": "[in, out] are two widths, [width] is one; the copy takes the second for the number of blocks",
    "SimConv": "[in, out, ...] at one size of the model, at others with the same ratio; the copy books the width of its input",
    "SimSPPF": "the output has the width that the row gives; [in, out, k] keeps its ratio at other sizes of the model",
    "ConvBNLayer": "[in, out, ...] keeps its ratio at other sizes of the model; the padding keeps the size where the row gives none",
    "CoordConv": "[in, out, ...] keeps its ratio at other sizes of the model; LeakyReLU(0.1) as in PP-YOLO (the copy: SiLU)",
    "PPConvBlock": "LeakyReLU(0.1) as in PP-YOLO (the copy: SiLU)",
    "ResSPP": "any number of blocks, no weight that is never used; the copy has four blocks at any number",
    "VoVGSCSP": "the row's number repeats its bottlenecks; the copy has one, and convolutions that it never calls",
    "CARAFE": "the row's 3 is the encoder's kernel, reassembly is by 5x5 as in the paper; the copy has 3x3, and a further convolution",
    "Involution": "kernels come from a linear layer; the copy's go through batch norm and SiLU, and it ignores the row's width",
    "Concat_bifpn": "as many weights as maps, none negative, then swish and a separable convolution; the copy has a set that it never uses",
    "ASPP": "with batch norm and ReLU after each convolution, as in the paper; the copy has neither",
    "BasicRFB": "the authors' branches; the copy's have a 3x3 more in the first, and no activation after the first 1x1",
    "DWT": "needs no further package; without one the copy is space_to_depth",
    "MP": "an odd border makes a last window of its own, so that it fits a convolution of stride 2 beside it",
    "RTRM": f"{_NOWHERE}: YOLOv7's ELAN, which it replaces",
    "ETVR": f"{_NOWHERE}: YOLOv7's ELAN, in whose model it stands",
    "XCRS": f"{_NOWHERE}: YOLOv7's ELAN in place of C3",
    "WaveLAN": f"{_NOWHERE}: YOLOv7's ELAN with Wave-MLP's blocks inside",
    **dict.fromkeys(("Densenet121", "Densenet169", "Densenet201"), _WHOLE),
    **dict.fromkeys(("ConvNeXt", "ResNet50vd", "ResNet101vd", "ResNet50vd_dcn", "Res2net50"), _WHOLE),
    **dict.fromkeys(("MobileNet1", "MobileNet2", "MobileNet3"), _NO_DOWNLOAD),
    "ShuffleNetV2_Model": "the width is even, not a multiple of 8, so that the published 116 stays",
    "mobilev3_bneck": "the inner width is scaled as the output's, as the paper's multiplier does; the copy's stays",
    "MobileNetV3_InvertedResidual": "the inner width is scaled as the output's, as the paper's multiplier does; the copy's stays",
    "BepC3": f"{_UNDEFINED}; [in, out] at one size of the model, at others with the same ratio",
}
_SHARED = {
    "ACmix",
    "CBAM",
    "ConvNextBlock",
    "DoubleAttention",
    "HorBlock",
    "MultiSEAM",
    "S2Attention",
    "ShuffleAttention",
    "SimAM",
    "SOCA",
    "TripletAttention",
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
    return row.name not in _SHARED or repeats_width(row.args) or (row.name, row.args) == ("TripletAttention", (2,))
