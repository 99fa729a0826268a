"""Fifty popular networks of timm as modules to check: ``python -m models.check --timm``."""

from __future__ import annotations

from models.backbones.timm import fitting, timm, timm_plan
from models.registry import register

POPULAR = """
    resnet18 resnet34 resnet50 resnet101 resnext50_32x4d wide_resnet50_2 seresnet50 resnetv2_50 res2net50_26w_4s
    efficientnet_b0 efficientnet_b1 efficientnet_b3 tf_efficientnetv2_b0 tf_efficientnetv2_s efficientnet_lite0 mobilenetv2_100
    mobilenetv3_small_100 mobilenetv3_large_100 mobilenetv4_conv_small mobilenetv4_conv_medium mnasnet_100 lcnet_100 tinynet_a fbnetc_100
    regnetx_008 regnety_008 densenet121 vgg16_bn darknet53 cspdarknet53 dla34 hrnet_w18_small repvgg_a0 ghostnet_100 ghostnetv2_100
    hgnetv2_b0 rexnet_100 convnext_atto convnext_tiny convnextv2_atto convnextv2_tiny swin_tiny_patch4_window7_224
    swinv2_tiny_window8_256 pvt_v2_b0 pvt_v2_b1 poolformer_s12 edgenext_small fastvit_t8 efficientvit_b0 repvit_m0_9
"""

_SKIPPED = {
    "any width": "reads the image",
    "TorchScript trace": "export.py compares an exported model with torch",
    "ONNX export": "export.py compares an exported model with torch",
}
_TIMMS_OWN = {
    "hrnet_w18_small": {"gradients": "its last fusion also makes a map of stride 4, which no output reads"},
    "hgnetv2_b0": {"gradients": "the batch norm behind it takes out what a bias of its first stage adds"},
    "rexnet_100": dict.fromkeys(("batch of one", "gradients"), "its gates norm pooled maps: train with two images or more at a time"),
}
"""Checks that a network fails by timm's own code, and why."""


def register_popular() -> list[str]:
    """Register each as a module ``timm:NAME``; returns these names, without those that this version of timm does not have."""
    there = set(fitting())
    names = [name for name in POPULAR.split() if name in there]
    for name in names:
        register(timm_plan, name=f"timm:{name}", example=(name,), inputs=(3,), exempt={**_SKIPPED, **_TIMMS_OWN.get(name, {})})(timm)
    return [f"timm:{name}" for name in names]
