"""FasterNet, of partial convolutions (Chen et al., CVPR 2023, arXiv:2303.03667)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from models.arguments import four_stages
from models.backbones.pretrained import load_pretrained
from models.layers.conv import fold_members
from models.layers.fuse import pad_to_multiple
from models.layers.light_blocks import FasterBlock
from models.registry import pyramid, register


def fasternet_widths(channels: int = 3, base: int = 40, *_: object, **__: object) -> tuple[int, ...]:  # noqa: ARG001
    """Widths of the outputs, for the constructor's arguments."""
    return base, 2 * base, 4 * base, 8 * base


class _Shrink(nn.Module):
    """A convolution whose stride is its side, and batch norm; its name is the authors'."""

    def __init__(self, channels: int, out: int, stride: int, name: str) -> None:
        super().__init__()
        self.stride, self.name = stride, name
        self.add_module(name, nn.Conv2d(channels, out, stride, stride, bias=False))
        self.norm: nn.Module = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.get_submodule(self.name)(pad_to_multiple(x, self.stride)))

    def fuse(self) -> None:
        """Fold the batch norm."""
        fold_members(self, (self.name, "norm"))


@register(pyramid(fasternet_widths, scaled=True), example=(8, (1, 1, 1, 1)), inputs=(3,))
class FasterNet(nn.Module):
    """FasterNet (arXiv:2303.03667, table 7): a 4x4 of stride 4 and four stages of `FasterBlock`, each next one after a 2x2 of stride 2.

    Args:
        channels: width of the image.
        base: width C of the first stage. In a YAML it is scaled by the model's width.
        depths: blocks of each stage.
        gelu: GELU for ReLU, as in T0 and T1.
        pretrained: an authors' checkpoint.

    Shape:
        (B, channels, H, W) -> four maps of strides 4, 8, 16, 32 and widths C, 2C, 4C, 8C, sizes rounded up
    """

    def __init__(
        self, channels: int = 3, base: int = 40, depths: Sequence[int] = (1, 2, 8, 2), gelu: bool = False, pretrained: str | None = None
    ) -> None:
        super().__init__()
        four_stages(self, depths)
        self.patch_embed = _Shrink(channels, base, 4, "proj")
        self.stages = nn.ModuleList()
        for i, depth in enumerate(depths):
            if i:
                self.stages.append(_Shrink(base << (i - 1), base << i, 2, "reduction"))
            blocks = nn.Sequential(*(FasterBlock(base << i, act=nn.GELU() if gelu else None) for _ in range(depth)))
            self.stages.append(nn.ModuleDict({"blocks": blocks}))
        if pretrained:
            load_pretrained(self, pretrained, unused=("avgpool_pre_head.", "head."))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, outputs = self.patch_embed(x), []
        for stage in self.stages:
            if isinstance(stage, nn.ModuleDict):
                x = stage["blocks"](x)
                outputs.append(x)
            else:
                x = stage(x)
        return outputs


def _publish(name: str, base: int, depths: tuple[int, ...], gelu: bool) -> Callable[..., FasterNet]:
    """Register a published size as ``name(channels, pretrained)``."""

    def build(channels: int = 3, pretrained: str | None = None) -> FasterNet:
        return FasterNet(channels, base, depths, gelu, pretrained)

    build.__name__ = build.__qualname__ = name
    return register(pyramid(lambda *_, **__: fasternet_widths(3, base)), inputs=(3,))(build)


fasternet_t0 = _publish("fasternet_t0", 40, (1, 2, 8, 2), gelu=True)
fasternet_t1 = _publish("fasternet_t1", 64, (1, 2, 8, 2), gelu=True)
fasternet_t2 = _publish("fasternet_t2", 96, (1, 2, 8, 2), gelu=False)
fasternet_s = _publish("fasternet_s", 128, (1, 2, 13, 2), gelu=False)
