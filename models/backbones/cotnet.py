"""CoTNet and CoTNeXt as backbones (Li et al., TPAMI 2022, arXiv:2107.12292)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from models.attention.cot import CoTBottleneck
from models.backbones.pretrained import State, load_pretrained
from models.backbones.resnet import ResidualPyramid, publish, residual_widths
from models.layers.residual import init_resnet_weights
from models.registry import pyramid, register

# In the authors' detectors a norm is part of its convolution, which shifts the following indices, and stages count from 2.
_DETECTION_NAMES = (
    (r"^stem\.conv1\.7\.", "bn1."),  # the last norm of SE-CoTNetD's deep stem
    (r"^stem\.", ""),
    (r"^res(\d)\.", lambda match: f"layer{int(match[1]) - 1}."),
    (r"\bembed\.3\.", "embed.4."),
    (r"\bembed\.2\.", "embed.3."),
    (r"\bse\.2\.", "se.3."),
    (r"\b(key_embed|embed|conv1x1|se)\.0\.norm\.", r"\1.1."),
    (r"\bshortcut\.1\.norm\.", "downsample.2."),
    (r"\bshortcut\.1\.", "downsample.1."),
    (r"\bshortcut\.norm\.", "downsample.1."),
    (r"\bshortcut\.", "downsample.0."),
    (r"\bconv(\d)\.norm\.", r"bn\1."),
)


def classification_names(state: State) -> State:
    """Rename the state_dict keys of the authors' detectors to those of their classification networks."""
    if not any(re.search(r"\bres2\.", name) for name in state):
        return state
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in _DETECTION_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


@register(pyramid(residual_widths, scaled=True), example=(8, (1, 1, 1, 1)), inputs=(3,))
class CoTNet(ResidualPyramid):
    """ResNet whose every 3x3 is a CoT block; CoTNeXt: CoXt blocks at one and a half times the width (section 3.3, tables 1 and 2).

    Args:
        channels: width of the image.
        stem: width of the stem, 64 in the paper; the others follow. In a YAML it is scaled by the model's width.
        depths: blocks per stage.
        grouped: CoTNeXt.
        pretrained: an authors' checkpoint, of classification or of a detector.
        drop_path: stochastic depth of the last block, growing linearly from 0; 0.1 in the authors' classification, none in their detectors.

    Shape:
        (B, channels, H, W) -> four maps of strides 4, 8, 16, 32 and widths 256, 512, 1024, 2048 at stem 64
    """

    def __init__(
        self,
        channels: int = 3,
        stem: int = 64,
        depths: Sequence[int] = (3, 4, 6, 3),
        grouped: bool = False,
        pretrained: str | None = None,
        drop_path: float = 0.0,
    ) -> None:
        def block(stage: int, i: int, width: int, out: int, stride: int) -> nn.Module:  # noqa: ARG001
            return CoTBottleneck(width, out, stride, grouped)

        super().__init__(channels, depths, block, stem, drop_path=drop_path)
        init_resnet_weights(self)
        if pretrained:
            load_pretrained(self, pretrained, unused=("fc.",), convert=classification_names)


cotnet50 = publish("cotnet50", CoTNet)
cotnet101 = publish("cotnet101", CoTNet, depths=(3, 4, 23, 3))
cotnext50 = publish("cotnext50", CoTNet, grouped=True)
cotnext101 = publish("cotnext101", CoTNet, depths=(3, 4, 23, 3), grouped=True)
