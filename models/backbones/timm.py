"""Any network of timm that gives maps of several strides, as one row: ``[-1, 1, timm, [convnext_tiny, {pretrained: true}]]``.

timm (Wightman, 2019, doi:10.5281/zenodo.4414861) is an extra and is imported when a row names it.
"""

from __future__ import annotations

import importlib
import inspect
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from models.arguments import require_fit
from models.backbones.pretrained import State, load_pretrained
from models.flops import parameters
from models.layers.fuse import pad_to_multiple
from models.registry import LayerPlan, Row, Scale, Width, only, register
from utils.errors import UserError, nearest

_STRIDES = (8, 16, 32)

# timm's files of networks that have maps of strides 8, 16 and 32 for images of any size, found by trying one of each.
_FITTING = """
    byobnet convnext cpubone csatv2 cspnet cspnext davit densenet dla dpn edgenext efficientnet efficientvit_mit fasternet fastvit
    focalnet ghostnet hardcorenas hgnet hieradet_sam2 hrnet iformer inception_next lcnetv2 lowformer mambaout metaformer mobilenetv3
    mobilenetv5 mobilevit mvitv2 nextvit nfnet pvt_v2 rdnet regnet repghost repvit res2net resnest resnet resnetv2 rexnet selecsls
    senet sknet starnet swiftformer swin_transformer swin_transformer_v2 swin_transformer_v2_cr tiny_vit tresnet twins vgg vovnet
    xception_aligned
"""

# Settings that let a network take maps of any size, of window networks and of networks of one stride; the others need none.
_SIZED: tuple[dict[str, bool], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})


def _package() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError(f"a timm row needs a package: pip install timm ({error})") from error


def fitting(pattern: str = "") -> list[str]:
    """Names of timm's networks that have maps of strides 8, 16 and 32 and take images of any size, of those that match a pattern."""
    timm = _package()
    names = (name for module in _FITTING.split() for name in timm.list_models(pattern, module=module))
    return sorted(name for name in names if not name.startswith("test_"))


def _create(name: str, channels: int, **settings: Any) -> Any:
    """Build a network that returns its maps.

    Raises:
        UserError: no network of that name, or one without maps.
    """
    timm = _package()
    if not timm.is_model(name):
        raise UserError(f"timm {timm.__version__} has no network {name!r}{nearest(name, timm.list_models())}; python -m models.show --timm")
    for sized in _SIZED:
        try:
            return timm.create_model(name, features_only=True, in_chans=channels, **sized, **settings)
        except TypeError as error:  # a setting that this network does not have
            reason: Exception = error
        except RuntimeError as error:  # no maps, or no weights of the tag after the dot
            reason = error
            break
    raise UserError(f"timm's {name} cannot give maps ({reason}){nearest(name, fitting())}; python -m models.show --timm") from reason


def _maps(network: Any, x: Tensor) -> list[Tensor]:
    """A network's maps, (B, C, H, W) each; some keep their channels last."""
    last = str(getattr(network, "output_fmt", "")).endswith("NHWC")
    return [y.permute(0, 3, 1, 2) if last else y for y in network(x)]


@cache
def outputs(name: str, channels: int, strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which of a network's maps have the strides, and their widths; of several of one stride the last.

    Raises:
        UserError: unknown network, one that takes a single size of images, or a stride that it does not have.
    """
    with torch.device("meta"):
        network = _create(name, channels).eval()
        info = network.feature_info
        try:
            sides = [n * max(info.reduction()) for n in (2, 3)]
            with torch.no_grad():
                maps = _maps(network, torch.empty(1, channels, *sides))
            for y, stride in zip(maps, info.reduction(), strict=True):
                if [side * stride for side in y.shape[2:]] != sides:
                    raise ValueError(f"gives {tuple(y.shape[2:])} at stride {stride} for {tuple(sides)}")
        except Exception as error:  # whatever a network raises
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
            raise UserError(f"timm's {name} does not take images of any size ({reason}){nearest(name, fitting())}") from error
    at = dict(zip(info.reduction(), zip(info.out_indices, info.channels(), strict=True), strict=True))
    if not strides or list(strides) != sorted(set(strides)) or not set(strides) <= at.keys():
        near = "" if set(strides) - {8, 16, 32} else nearest(name, fitting())
        there = ", ".join(map(str, at))
        raise UserError(f"timm's {name} has maps of strides {there}; strides is a rising list of these, not {list(strides)}{near}")
    chosen = [at[stride] for stride in strides]
    return tuple(index for index, _ in chosen), tuple(width for _, width in chosen)


def timm_plan(row: Row, inputs: Sequence[Width], scale: Scale) -> LayerPlan:  # noqa: ARG001  published widths
    args = (only(row, inputs), *row.args)
    require_fit(row.name, timm, args, row.keywords)
    given = inspect.signature(timm).bind(*args, **row.keywords).arguments
    return LayerPlan(args, outputs(given["name"], given["channels"], tuple(given.get("strides", _STRIDES)))[1])


def described(name: str) -> tuple[str, ...]:
    """Name, strides, their widths, parameters up to stride 32, and names of weights."""
    with torch.device("meta"):
        network = _create(name, 3)
        info = network.feature_info
        indices = [index for index, stride in zip(info.out_indices, info.reduction(), strict=True) if stride <= _STRIDES[-1]]
        count = parameters(_create(name, 3, out_indices=indices))
    texts = (", ".join(map(str, numbers)) for numbers in (info.reduction(), info.channels()))
    return name, *texts, f"{count:,}", ", ".join(_package().list_pretrained(name + ".*")) or "none"


class TimmBackbone(nn.Module):
    """A network of timm without its classifier; widths are its own, not scaled.

    The image, 0 to 1, is first normalised with the mean and deviation that the network's weights expect. Sides that the largest stride
    does not divide are padded with zeros, right and bottom. A network ends where its last map is taken.

    Args:
        channels: width of the image.
        name: timm's name of it, with or without the tag of its weights: ``convnext_tiny.in12k_ft_in1k``.
        pretrained: true for timm's weights, which it downloads once; or a file of them, ``.safetensors``, ``.pth`` or ``.bin``.
        strides: of the outputs, rising; which a network has, ``python -m models.show --timm NAME`` lists.

    Shape:
        (B, channels, H, W) -> a list of maps (B, width_i, ceil(H / strides_i), ceil(W / strides_i))

    Raises:
        UserError: timm is not installed, an unknown network, strides that it does not have, or weights that are not there or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, name: str, pretrained: bool | str | None = None, strides: Sequence[int] = _STRIDES) -> None:
        super().__init__()
        self.strides = tuple(strides)
        indices, _ = outputs(name, channels, self.strides)
        self.net = _downloaded(name, channels, indices) if pretrained is True else _create(name, channels, out_indices=indices)
        for key in ("mean", "std"):
            value = torch.tensor(self.net.pretrained_cfg[key])
            value = value if len(value) == channels else value.mean().repeat(channels)
            self.register_buffer(key, value.reshape(-1, 1, 1), persistent=False)
        if isinstance(pretrained, str):
            load_pretrained(self.net, pretrained, convert=self._renamed)

    def _renamed(self, state: State) -> State:
        """The entries of timm's state_dict that the maps need, as the network calls them that returns its maps."""
        there = {form: tensor for name, tensor in state.items() for form in (name, name.replace(".", "_", 1), f"model.{name}")}
        return {name: there[name] for name in self.net.state_dict() if name in there}

    def forward(self, x: Tensor) -> list[Tensor]:
        H, W = x.shape[2:]
        maps = _maps(self.net, pad_to_multiple((x - self.mean) / self.std, self.strides[-1]))
        return [y[:, :, : -(-H // s), : -(-W // s)] for y, s in zip(maps, self.strides, strict=True)]

    def fuse(self) -> None:
        """Merge the branches of networks that train with several (RepVGG, FastViT, MobileOne ...)."""
        from timm.utils.model import reparameterize_model

        self.net = reparameterize_model(self.net, inplace=True)


def _downloaded(name: str, channels: int, indices: Sequence[int]) -> Any:
    """A network with timm's weights.

    Raises:
        UserError: no weights of that name, or no connection; says where the file is.
    """
    config = _package().get_pretrained_cfg(name)
    place = f"https://huggingface.co/{config.hf_hub_id}" if config and config.hf_hub_id else config and config.url
    if not place:
        raise UserError(f"timm has no weights of {name}; leave pretrained out, or name a tag: python -m models.show --timm {name}")
    try:
        with _offline_at_once():
            return _create(name, channels, out_indices=indices, pretrained=True)
    except Exception as error:  # noqa: BLE001 - whatever the connection, the hub's client or the file raises
        reason = error.__cause__ or error
    text = " ".join(str(reason).split())[:120]
    raise UserError(
        f"the weights of timm's {name} cannot be had: {type(reason).__name__} ({text}); download model.safetensors from {place} where "
        "there is a connection, and name it: {pretrained: model.safetensors}"
    ) from reason


@contextmanager
def _offline_at_once() -> Iterator[None]:
    """Where the hub has no address, read only what is downloaded already: its client tries for a minute otherwise."""
    from huggingface_hub import constants

    if not urllib.request.getproxies():
        try:
            socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
        except OSError:
            before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
            try:
                yield
            finally:
                constants.HF_HUB_OFFLINE = before
            return
    yield


@register(timm_plan, inputs=(3,))
def timm(channels: int, name: str, pretrained: bool | str | None = None, strides: Sequence[int] = _STRIDES) -> TimmBackbone:
    """A network of timm; see `TimmBackbone`."""
    return TimmBackbone(channels, name, pretrained, strides)
