"""ResNet's bottleneck with any module in the middle, and the initialisation of weights."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.conv import fold_members


class ResidualBottleneck(nn.Module):
    """1x1, a middle module, 1x1, and a shortcut (He et al., CVPR 2016, arXiv:1512.03385, figure 5).

    The last norm starts at zero, so that the block starts as its shortcut. A network may set `drop_path`.

    Args:
        channels: width of the input.
        width: width of the middle.
        out: width of the output.
        stride: 2 halves the map, in the middle and in the shortcut.
        middle: (B, width, H, W) -> (B, width, ceil(H / stride), ceil(W / stride)).

    Shape:
        (B, channels, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, channels: int, width: int, out: int, stride: int, middle: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(width)
        self.conv2 = middle
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3: nn.Module = nn.BatchNorm2d(out)
        nn.init.zeros_(self.bn3.weight)
        self.drop_path: nn.Module = nn.Identity()
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def before(self, x: Tensor) -> Tensor:
        """Applied between the first activation and the middle; the identity here."""
        return x

    def after(self, x: Tensor) -> Tensor:
        """Applied between the middle and the last convolution; the identity here."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.drop_path(self.bn3(self.conv3(self.after(self.conv2(self.before(y))))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))

    def fuse(self) -> None:
        """Fold the batch norms into the convolutions before them."""
        fold_members(self, ("conv1", "bn1"), ("conv3", "bn3"))


def init_resnet_weights(network: nn.Module, mode: Literal["fan_out", "fan_in"] = "fan_out") -> None:
    """Kaiming-normal convolutions, standard deviation sqrt(2 / fan)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")


def init_transformer_weights(module: nn.Module, kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)) -> None:
    """Truncated-normal weights of standard deviation 0.02 and zero biases, for layers of `kinds` inside `module`."""
    for layer in module.modules():
        if isinstance(layer, kinds):
            assert isinstance(layer.weight, Tensor)
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if isinstance(layer.bias, Tensor):
                nn.init.zeros_(layer.bias)


def init_xavier_weights(module: nn.Module) -> None:
    """Xavier-uniform convolutions, standard deviation sqrt(2 / (fan in + fan out)), and zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
