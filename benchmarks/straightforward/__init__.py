"""Direct implementations of the blocks' formulas, with unfold, explicit softmax, permutes and loops: a baseline for speed.

Each has the weights of the corresponding module and computes the same output.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.straightforward import attention, gates, layers, mixing
from models.attention.area import AreaAttentionBlock
from models.attention.axial import AxialTransformer
from models.attention.cat import CPSA, IPSA
from models.attention.coatnet import CoAtNetBlock
from models.attention.crossformer import CrossFormer
from models.attention.deformable import DeformableAttention
from models.attention.dual import DualAttention
from models.attention.halo import HaloAttention
from models.attention.irmb import InvertedResidualMobileBlock
from models.attention.mlp_mixers import GatedMLP, MLPMixer, ResMLP, SparseMLP, VisionPermutator
from models.attention.mobilevit import MobileViTAttention
from models.attention.muse import MUSE
from models.attention.non_local import NonLocal
from models.attention.position_sensitive import PSABlock
from models.attention.routing import BiLevelRoutingAttention
from models.attention.swin import SwinBlock, SwinV2Block
from models.attention.synergy import SCSA


def explicit(kind: type[nn.Module]) -> type[nn.Module]:
    """A block whose attention writes out softmax(Q K + mask) V, where its own uses a fused kernel."""

    class Explicit(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: Any) -> Any:
            with sdpa_kernel(SDPBackend.MATH):
                return super().forward(x)

    return Explicit


FUSED = (
    *(AreaAttentionBlock, AxialTransformer, BiLevelRoutingAttention, CoAtNetBlock, CPSA, CrossFormer, DeformableAttention, DualAttention),
    *(HaloAttention, IPSA, MobileViTAttention, MUSE, NonLocal, PSABlock, SCSA, SwinBlock, SwinV2Block),
)
WINDOWED = {"gMLP": GatedMLP, "MLPMixer": MLPMixer, "ResMLP": ResMLP, "sMLP": SparseMLP, "ViP": VisionPermutator}
STRAIGHTFORWARD: dict[str, type[nn.Module]] = {
    "ACmix": attention.UnfoldedACmix,
    "AFT": mixing.FullAFT,
    "BAM": gates.ExpandedBAM,
    "C3TR": mixing.ModuleC3TR,
    "CAB": attention.ExplicitCAB,
    "CARAFE": attention.UnfoldedCARAFE,
    "CBAM": gates.PooledCBAM,
    "CondConv": layers.LoopedCondConv,
    "ConvNextBlock": attention.ConvolvedConvNextBlock,
    "CoordAtt": gates.PooledCoordAtt,
    "CoT": attention.UnfoldedCoT,
    "CoXt": attention.UnfoldedCoXt,
    "CrissCross": mixing.MaskedCrissCross,
    "DCNv2": layers.OperatorDCNv2,
    "DWT": layers.ConvolvedDWT,
    "DynamicConv": layers.LoopedDynamicConv,
    "DySample": layers.ShuffledDySample,
    "ECA": gates.PooledECA,
    "EffectiveSE": gates.PooledEffectiveSE,
    "ELA": gates.TwiceMultipliedELA,
    "EMA": gates.PooledEMA,
    "EMSA": mixing.TokenEMSA,
    "ExternalAttention": mixing.TokenExternal,
    "FCA": gates.PooledFCA,
    "GCBlock": gates.ProductGCBlock,
    "GnConv": attention.UnfoldedGnConv,
    "GSConv": layers.ReshapedGSConv,
    "Involution": attention.UnfoldedInvolution,
    "iRMB": explicit(InvertedResidualMobileBlock),
    "MHSA": attention.ExplicitMHSA,
    "MLCA": gates.PooledMLCA,
    "MobileViTv2Attention": mixing.UnfoldedMobileViTv2,
    "NAM": gates.PermutedNAM,
    "OREPA": layers.BranchedOREPA,
    "OutlookAttention": attention.FoldedOutlook,
    "RepMLP": mixing.GroupedRepMLP,
    "RFAConv": layers.RearrangedRFAConv,
    "S2Attention": mixing.WrittenS2,
    "SE": gates.PooledSE,
    "SGE": gates.PooledSGE,
    "SimSPPF": layers.ParallelSimSPPF,
    "SOCA": gates.CentredSOCA,
    "SPPF": layers.ParallelSPPF,
    "SPPFCSPC": layers.ParallelSPPFCSPC,
    "TripletAttention": gates.PermutedTriplet,
    "UFOAttention": mixing.TokenUFO,
    **{kind.__name__: explicit(kind) for kind in FUSED},
    **{name: mixing.unfolded(kind) for name, kind in WINDOWED.items()},
}
DIRECT = {
    *("CAA", "CPCA", "DoubleAttention", "GAM", "GatherExcite", "GlobalLocalFilter", "LSK", "LSKA", "MultiSEAM", "ParNetBlock"),
    *("PolarizedAttention", "PyramidSplitAttention", "ResidualAttention", "SCConv", "SEAM", "ShuffleAttention", "SimAM", "SKConv"),
}
"""Attention whose own code is the straightforward form already: one call of PyTorch for each step of its formula. So are the layers and
necks without an entry above: convolutions, norms, pools and sums."""
COMPOSED = {
    *("A2C2f", "BottleneckTransformer", "BottleStack", "C2PSA", "C3BoT", "C3CAT", "C3CoT", "C3GC", "C3Hor", "C3Swin", "C3SwinV2"),
    *("CNeB", "CoTBottleneck", "HorBlock"),
}
"""Blocks of convolutions around an attention with an entry of its own."""
