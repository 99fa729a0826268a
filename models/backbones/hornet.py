"""HorNet as a backbone (Rao et al., NeurIPS 2022, arXiv:2207.14284)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from models.arguments import four_stages
from models.attention.gnconv import HorBlock, resized_spectrum
from models.attention.tokens import rising
from models.backbones.normed import NormedPyramid, publish
from models.backbones.pretrained import State
from models.layers.fuse import pad_to_multiple
from models.layers.norm import ChannelNorm
from models.layers.residual import init_transformer_weights
from models.registry import LayerPlan, Row, Scale, Width, only, pyramid, register
from utils.errors import UserError

_ORDERS = (2, 3, 4, 5)
_SPECTRA = ((0, 0), (0, 0), (14, 8), (7, 4))
"""Native spectra of the filters of stages 3 and 4: of maps of 14 x 14 and 7 x 7."""


def hornet_widths(channels: int = 3, base: int = 64, *_: object, **__: object) -> tuple[int, ...]:  # noqa: ARG001
    """Widths of the outputs, for the constructor's arguments."""
    return base, 2 * base, 4 * base, 8 * base


def _network_or_stage(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:
    """The whole network; or, for YOLOAir's row ``[width, stage, 3, depths, base]``, one stage of unscaled width."""
    if len(row.args) < 2 or not isinstance(row.args[1], int):
        return pyramid(hornet_widths, scaled=True)(row, inputs, scale)
    width, stage = row.args[:2]
    depths, base = (row.args[k] if k < len(row.args) else default for k, default in ((3, (2, 3, 18, 2)), (4, width // 2**stage)))
    if not 0 <= stage < 4 or width != base * 2**stage or len(depths) != 4:
        raise UserError(
            f"a row a stage is [width, stage, 3, depths, base] with stage 0 to 3, four depths and width = base * 2^stage, not "
            f"{list(row.args)}; the whole network is one row, [1, HorNet, [base]], whose outputs [1, Feature, [i]] selects"
        )
    return LayerPlan((only(row, inputs), base, stage, depths[stage]), width, build=HorNetStage)


def _blocks(stage: int, width: int, gf: bool, layer_scale: float, rates: Sequence[float]) -> nn.Sequential:
    """The blocks of a stage, one for each rate of stochastic depth."""
    h, w = _SPECTRA[stage]
    return nn.Sequential(*(HorBlock(width, _ORDERS[stage], 1 / 3, gf and h > 0, h or 14, w or 8, layer_scale, rate) for rate in rates))


@register(_network_or_stage, example=(8, (0, 1, 2, 3), (1, 1, 1, 1), True), inputs=(3,))
class HorNet(NormedPyramid):
    """HorNet: four stages of `HorBlock`, gnConv of order 2, 3, 4, 5 (arXiv:2207.14284, section 3.3 and table 7).

    Each output has its own LayerNorm, as in the authors' detectors; the input of the next stage is not normed. State_dict keys
    are those of the authors' classification checkpoints, whose head and last norm are not used.

    Args:
        channels: width of the image.
        base: width C of the first stage; the others have 2C, 4C, 8C. In a YAML it is scaled by the model's width.
        normed: outputs with a norm; an output that no row reads should have none, since it would never be trained.
        depths: blocks per stage.
        gf: global-local filters in stages 3 and 4.
        layer_scale: initial value of the layer scales.
        drop_path: stochastic depth of the last block, growing linearly from 0; 0.2, 0.4 and 0.5 for T, S and B in the paper.
        pretrained: an authors' checkpoint, trained at any image size.

    Shape:
        (B, channels, H, W) -> C x H/4 x W/4, 2C x H/8 x W/8, 4C x H/16 x W/16, 8C x H/32 x W/32, sizes rounded up
    """

    def __init__(
        self,
        channels: int = 3,
        base: int = 64,
        normed: Sequence[int] = (0, 1, 2, 3),
        depths: Sequence[int] = (2, 3, 18, 2),
        gf: bool = False,
        layer_scale: float = 1e-6,
        drop_path: float = 0.0,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        four_stages(self, depths, normed)
        widths = hornet_widths(channels, base)
        self.downsample_layers = nn.ModuleList([nn.Sequential(nn.Conv2d(channels, base, 4, stride=4), ChannelNorm(base))])
        for narrow, wide in pairwise(widths):
            self.downsample_layers.append(nn.Sequential(ChannelNorm(narrow), nn.Conv2d(narrow, wide, 2, stride=2)))
        rates = iter(rising(drop_path, sum(depths)))
        self.stages = nn.ModuleList(
            _blocks(stage, width, gf, layer_scale, [next(rates) for _ in range(depth)])
            for stage, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )
        self.add_norms(widths, normed)
        init_transformer_weights(self)
        if pretrained:
            self.load(pretrained, _spectra)

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for i, (shrink, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(shrink(pad_to_multiple(x, 4 if i == 0 else 2)))
            outputs.append(self.output(i, x))
        return outputs


def _spectra(state: State) -> State:
    """Resize the filters of a checkpoint trained on larger images, as the authors do; `forward` resizes them in the same way."""
    state = dict(state)
    for stage, size in enumerate(_SPECTRA):
        for name in [n for n in state if n.startswith(f"stages.{stage}.") and n.endswith(".complex_weight")]:
            if all(size) and state[name].dim() == 4:
                state[name] = resized_spectrum(state[name].float(), *size)
    return state


class HorNetStage(nn.Module):
    """One stage of `HorNet` as a separate row, without an output norm, as YOLOAir's YAMLs use HorNet.

    Args:
        channels: width of the input: the image's, or that of the stage before.
        base: width C of the network's first stage.
        stage: 0 to 3.
        depth: number of blocks.

    Shape:
        (B, channels, H, W) -> (B, C * 2^stage, H / 4, W / 4) at stage 0, else H / 2, W / 2; rounded up
    """

    def __init__(self, channels: int, base: int, stage: int, depth: int) -> None:
        super().__init__()
        width = base << stage
        self.stride = 4 if stage == 0 else 2
        shrink = nn.Conv2d(channels, width, self.stride, stride=self.stride)
        self.downsample = nn.Sequential(*((shrink, ChannelNorm(width)) if stage == 0 else (ChannelNorm(channels), shrink)))
        self.blocks = _blocks(stage, width, gf=False, layer_scale=1e-6, rates=[0.0] * depth)
        init_transformer_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(pad_to_multiple(x, self.stride)))


hornet_tiny = publish("hornet_tiny", HorNet, 64, gf=False)
hornet_tiny_gf = publish("hornet_tiny_gf", HorNet, 64, gf=True)
hornet_small = publish("hornet_small", HorNet, 96, gf=False)
hornet_small_gf = publish("hornet_small_gf", HorNet, 96, gf=True)
hornet_base = publish("hornet_base", HorNet, 128, gf=False)
hornet_base_gf = publish("hornet_base_gf", HorNet, 128, gf=True)
hornet_large = publish("hornet_large", HorNet, 192, gf=False)
hornet_large_gf = publish("hornet_large_gf", HorNet, 192, gf=True)
