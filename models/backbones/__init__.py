"""Backbones, one network per file: modules with the `pyramid` rule, whose outputs ``Feature`` selects, and rows of one stage each.

Importing registers them.
"""

from models.backbones import (  # noqa: F401  importing them registers their modules
    botnet,
    catnet,
    convnext,
    cotnet,
    cotnetd,
    cspresnet,
    densenet,
    fasternet,
    hornet,
    light,
    lsknet,
    mobilenet,
    pretrained,
    replknet,
    resnet,
    resnet_vd,
    stage_rows,
    timm,
    trunk,
)
