"""What HorNet and CAT have in common: four stages, each of whose outputs may have a norm of its own, as in the authors' detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from models.backbones.pretrained import State, load_pretrained
from models.layers.norm import ChannelNorm
from models.registry import pyramid, register

N = TypeVar("N", bound=nn.Module)


class NormedPyramid(nn.Module):
    """Adds norms of outputs, and loads checkpoints with or without them."""

    def add_norms(self, widths: Sequence[int], normed: Sequence[int], eps: float = 1e-6) -> None:
        """Give each output in `normed` a norm."""
        self.normed = frozenset(normed)
        for i in sorted(self.normed):
            self.add_module(f"norm{i}", ChannelNorm(widths[i], eps))

    def output(self, i: int, x: Tensor) -> Tensor:
        """Output `i` of the network, for the map of its stage."""
        return self.get_submodule(f"norm{i}")(x) if i in self.normed else x

    def load(self, path: str, convert: Callable[[State], State], *, own: Sequence[str] = ()) -> None:
        """Load an authors' classification or detection checkpoint; see `load_pretrained`."""
        without = (f"norm{i}." for i in range(4) if i not in self.normed)
        load_pretrained(self, path, unused=("head.", "norm.", *without), own=("norm", *own), convert=convert)


def publish(name: str, network: Callable[..., N], base: int, **settings: Any) -> Callable[..., N]:
    """Register a published size of a network, `base` wide in its first stage, as ``name(channels, pretrained, normed, drop_path)``."""

    def build(channels: int = 3, pretrained: str | None = None, normed: Sequence[int] = (0, 1, 2, 3), drop_path: float = 0.0) -> N:
        return network(channels, base, normed, pretrained=pretrained, drop_path=drop_path, **settings)

    build.__name__ = build.__qualname__ = name
    build.__module__ = network.__module__
    return register(pyramid(lambda *_, **__: (base, 2 * base, 4 * base, 8 * base)), inputs=(3,))(build)
