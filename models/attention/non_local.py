"""Non-local block (Wang et al., CVPR 2018, arXiv:1711.07971)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from models.arguments import positive
from models.layers.transformer import attention_weights
from models.registry import preserve, register


@register(preserve, example=(4,))
class NonLocal(nn.Module):
    """Non-local block (arXiv:1711.07971, eq. 1-6): every position gathers from all others; starts as the identity.

    Args:
        channels: width C of input and output.
        inner: width of the embeddings; None takes half of C.
        mode: "embedded_gaussian" (a softmax, as in the paper without the 1 / sqrt(d) of some copies) or "dot_product" (a mean).
        pool: gather from a map halved by a 2x2 maximum.

    Shape:
        (B, C, H, W) -> (B, C, H, W), any H, W >= 1; time and, for the gradient, memory grow with (H * W)^2

    Raises:
        ValueError: an unknown mode.
    """

    def __init__(
        self,
        channels: int,
        inner: int | None = None,
        mode: Literal["embedded_gaussian", "dot_product"] = "embedded_gaussian",
        pool: bool = False,
    ) -> None:
        super().__init__()
        if mode not in {"embedded_gaussian", "dot_product"}:
            raise ValueError(f"NonLocal: mode must be 'embedded_gaussian' or 'dot_product', not {mode!r}")
        positive(self, inner=inner)
        inner = max(channels // 2, 1) if inner is None else inner
        self.mode, self.pool = mode, pool
        self.g = nn.Conv2d(channels, inner, 1)
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.conv_out = nn.Conv2d(inner, channels, 1)
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def _source(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2, ceil_mode=True) if self.pool else x

    def attention(self, x: Tensor, at: tuple[int, int] | None = None) -> Tensor:
        """Weights for the query in row and column `at`, or the mean over all queries: (B, 1, H, W), H and W halved by `pool`."""
        source = self._source(x)
        theta, phi = (t.flatten(2).transpose(1, 2)[:, None] for t in (self.theta(x), self.phi(source)))
        query = None if at is None else at[0] * x.shape[3] + at[1]
        if self.mode == "embedded_gaussian":
            return attention_weights(theta, phi, query).unflatten(2, source.shape[2:])
        queries = theta.mean(2, keepdim=True) if query is None else theta[:, :, query : query + 1]
        return (queries @ phi.transpose(2, 3) / phi.shape[2])[:, :, 0].unflatten(2, source.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        source = self._source(x)
        theta, phi, g = (t.flatten(2).transpose(1, 2)[:, None] for t in (self.theta(x), self.phi(source), self.g(source)))  # (B, 1, N, d)
        if self.mode == "embedded_gaussian":
            y = F.scaled_dot_product_attention(theta, phi, g, scale=1.0)
        else:
            y = theta @ ((phi.transpose(2, 3) / phi.shape[2]) @ g)  # a d x d matrix rather than N x N
        return x + self.conv_out(y[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))
