"""Convolutions that train with several branches and merge into one for inference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import multiple, odd, positive
from models.layers.conv import Conv, batch_norm, fold_members
from models.layers.named_widths import project_or_pair, stack_or_pair
from models.layers.norm import factor_and_shift
from models.registry import project, register, stack


class Mergeable(nn.Module):
    """Branches whose sum is one convolution.

    Args:
        c1: input width.
        c2: output width.
        k: side of the kernel, odd.
        s: stride.
        g: groups.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: an even kernel, or groups that do not divide the widths.
    """

    def __init__(self, c1: int, c2: int, k: int, s: int, g: int = 1) -> None:
        super().__init__()
        positive(self, s=s, g=g)
        multiple(self, g, c1=c1, c2=c2)
        odd(self, k=k)
        self.shape = (c1, c2, k, s, g)
        self.merged: nn.Conv2d | None = None

    def total(self, x: Tensor) -> Tensor:
        """The sum of the branches."""
        raise NotImplementedError

    def take_kernels(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The kernel, (c2, c1 / g, k, k), and bias of each branch in evaluation mode; frees the branches."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.total(x) if self.merged is None else self.merged(x)

    @torch.no_grad()
    def fuse(self) -> None:
        """Add all branches up to one convolution: each is linear, its kernel padded to the largest (RepVGG, section 3.3)."""
        if self.merged is not None:
            return
        c1, c2, k, s, g = self.shape
        first = next(self.parameters())
        merged = nn.Conv2d(c1, c2, k, s, k // 2, groups=g).to(first.device, first.dtype)
        merged.weight.zero_()
        assert merged.bias is not None
        merged.bias.zero_()
        for weight, bias in self.take_kernels():
            merged.weight += weight
            merged.bias += bias
        self.merged = merged.train(self.training).requires_grad_(first.requires_grad)


def padded_kernel(branch: nn.Module, k: int) -> tuple[Tensor, Tensor]:
    """Kernel, padded to k x k, and bias of a convolution "0" with a batch norm "1"."""
    fold_members(branch, ("0", "1"))
    weight, bias = (branch.get_submodule("0").get_parameter(name) for name in ("weight", "bias"))
    high, wide = ((k - side) // 2 for side in weight.shape[2:])
    return F.pad(weight, (wide, wide, high, high)), bias


class BranchedConv(Mergeable):
    """The sum of convolutions, each with a batch norm, and of a batch norm of the input where the shape allows it.

    Args:
        c1: input width.
        c2: output width.
        kernels: odd kernel sizes, one a branch.
        s: stride.
        g: groups.
        identity: false for no batch norm of the input.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: an even kernel, or groups that do not divide the widths.
    """

    def __init__(self, c1: int, c2: int, kernels: Sequence[int], s: int = 1, g: int = 1, identity: bool = True) -> None:
        super().__init__(c1, c2, max(kernels), s, g)
        for kernel in kernels:
            odd(self, k=kernel)
        self.kernels = tuple(kernels)
        # A 1x1 reads every s-th pixel at stride 1: the backward pass of a strided one of an image in channels_last crashes oneDNN.
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c1, c2, k, s if k > 1 else 1, k // 2, groups=g, bias=False), batch_norm(c2)) for k in kernels
        )
        self.identity = batch_norm(c1) if identity and c1 == c2 and s == 1 else None

    def total(self, x: Tensor) -> Tensor:
        step = self.shape[3]
        thinned = x[..., ::step, ::step]
        maps = [branch(thinned if k == 1 else x) for branch, k in zip(self.branches, self.kernels, strict=True)]
        y = maps[0] if self.identity is None else self.identity(x) + maps[0]
        for other in maps[1:]:
            y = y + other
        return y

    def take_kernels(self) -> Iterator[tuple[Tensor, Tensor]]:
        c1, c2, k, _, g = self.shape
        yield from (padded_kernel(branch, k) for branch in self.branches)
        if self.identity is not None:
            factor, shift = factor_and_shift(self.identity)
            unit = nn.init.dirac_(factor.new_empty(c2, c1 // g, k, k), g)
            yield unit * factor.view(-1, 1, 1, 1), shift
        self.branches, self.identity = nn.ModuleList(), None


@register(project, aliases=("RepVGGBlockv6",), example=(48, 3, 2))
class RepVGGBlock(nn.Module):
    """RepVGG's block (Ding et al., CVPR 2021, arXiv:2101.03697): a k x k convolution, a 1x1 and the identity, then ReLU.

    Each of the three has a batch norm; they are one convolution after fusing.

    Args:
        c1: input width.
        c2: output width.
        k: kernel size, odd.
        s: stride.
        g: groups.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    activation: type[nn.Module] = nn.ReLU

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1, g: int = 1) -> None:
        super().__init__()
        self.conv = BranchedConv(c1, c2, (k, 1), s, g)
        self.act = self.activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


@register(project, example=(48, 3, 1))
class RepConv(RepVGGBlock):
    """`RepVGGBlock` with SiLU, of YOLOv7 (Wang et al., CVPR 2023, arXiv:2207.02696, section 4.1).

    Args:
        c1, c2, k, s, g: as in `RepVGGBlock`.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    activation = nn.SiLU


@register(stack_or_pair, example=(48,))
class RepBlock(nn.Sequential):
    """`n` RepVGG blocks: a stage of YOLOv6's small models (Li et al., arXiv:2209.02976, figure 3).

    Args:
        c1: input width.
        c2: output width.
        n: blocks.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1) -> None:
        super().__init__(RepVGGBlock(c1, c2), *(RepVGGBlock(c2, c2) for _ in range(n - 1)))


class BottleRep(nn.Module):
    """Two RepVGG blocks and a residual whose input has a learned factor (YOLOv6, arXiv:2209.02976, figure 3b).

    Shape:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = RepVGGBlock(channels, channels)
        self.conv2 = RepVGGBlock(channels, channels)
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)) + self.alpha * x


@register(stack_or_pair, example=(48,))
class BepC3(nn.Module):
    """CSPStackRep, a stage of YOLOv6's larger models: `BottleRep`s in one of two branches (arXiv:2209.02976, figure 3c).

    Args:
        c1: input width.
        c2: output width.
        n: RepVGG blocks, two in each `BottleRep`.
        e: inner width as a share of c2.

    Shape:
        (B, c1, H, W) -> (B, c2, H, W)
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        super().__init__()
        inner = int(c2 * e)
        positive(self, c2=inner)
        self.cv1 = Conv(c1, inner, act=nn.ReLU())
        self.cv2 = Conv(c1, inner, act=nn.ReLU())
        self.cv3 = Conv(2 * inner, c2, act=nn.ReLU())
        self.m = nn.Sequential(*(BottleRep(inner) for _ in range(max(n // 2, 1))))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


@register(project_or_pair, example=(48, 3, 2))
class SimConv(Conv):
    """`Conv` with ReLU, of YOLOv6's neck.

    Args:
        c1: input width.
        c2: output width.
        k: kernel size.
        s: stride.
        g: groups.

    Shape:
        (B, c1, H, W) -> (B, c2, H', W')
    """

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1) -> None:
        super().__init__(c1, c2, k, s, g=g, act=nn.ReLU())


@register(project, example=(48, 2, 2))
class MobileOneBlock(nn.Module):
    """A depthwise 3x3 and a 1x1 convolution, each the sum of several: MobileOne (Vasu et al., CVPR 2023, arXiv:2206.04040, figure 3).

    The depthwise part adds up k 3x3 branches, a 1x1 and the identity, the pointwise one k 1x1 branches and the identity; each ends with
    ReLU, and is one convolution after fusing.

    Args:
        c1: input width.
        c2: output width.
        branches: k, the over-parameterisation factor.
        s: stride of the depthwise part.
        deploy: false; where other code has a switch for the merged form.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))

    Raises:
        ValueError: no branch, or the merged form asked for.
    """

    def __init__(self, c1: int, c2: int, branches: int = 4, s: int = 1, deploy: bool = False) -> None:
        super().__init__()
        positive(self, branches=branches)
        if deploy:
            raise ValueError("MobileOneBlock: deploy must be false; a model trains with the branches, and fusing merges them")
        self.depthwise = BranchedConv(c1, c1, (*[3] * branches, 1), s, c1)
        self.pointwise = BranchedConv(c1, c2, [1] * branches)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pointwise(F.relu(self.depthwise(x))))


@register(stack, example=(48, 2))
class MobileOne(nn.Sequential):
    """`n` blocks of MobileOne: a stage; the first has the stride and changes the width (arXiv:2206.04040, table 7).

    Args:
        c1: input width.
        c2: output width.
        n: blocks.
        branches, s, deploy: as in `MobileOneBlock`.

    Shape:
        (B, c1, H, W) -> (B, c2, ceil(H / s), ceil(W / s))
    """

    def __init__(self, c1: int, c2: int, n: int = 1, branches: int = 4, s: int = 1, deploy: bool = False) -> None:
        super().__init__(*(MobileOneBlock(c1 if i == 0 else c2, c2, branches, s if i == 0 else 1, deploy) for i in range(n)))
