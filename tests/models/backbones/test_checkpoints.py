"""Checkpoints of the authors' trainers and detectors, made here with their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.catnet import CAT
from models.backbones.cotnet import CoTNet
from models.backbones.cotnetd import SECoTNetD

DEPTHS = (1, 1, 2, 1)


class Settings(dict):  # type: ignore[type-arg]
    """A subclass of dict with attributes, as the settings in the files of CAT's trainer."""

    def __init__(self, **content: Any) -> None:
        super().__init__(content)
        self.frozen = True


def randomized(network: nn.Module) -> nn.Module:
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1)
    return network


def equal(network: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True))


def in_a_detector(state: dict[str, Tensor]) -> dict[str, Any]:
    """A feature pyramid's backbone, beside it the pyramid's own layers and the heads."""
    others = {"backbone.fpn_lateral2.weight": torch.zeros(1), "roi_heads.box_head.fc1.weight": torch.zeros(1)}
    return {"model": {f"backbone.bottom_up.{name}": tensor for name, tensor in state.items()} | others, "iteration": 9}


def detectron_names(network: nn.Module, deep_stem: bool) -> dict[str, Tensor]:
    """The names in the authors' detectors, by the tables of their modules: a norm belongs to the convolution before it."""
    renamed = {}
    for name, tensor in network.state_dict().items():
        first, *rest = name.split(".")
        if first.startswith("layer"):
            block, part, *inner = rest
            inside = ".".join(inner)
            if part in {"bn1", "bn3"}:
                part, inside = f"conv{part[-1]}", f"norm.{inside}"
            elif part == "downsample":
                index, kind = inner
                conv = "1." if deep_stem else ""  # an average pool stands before it in SE-CoTNetD
                norm = "2" if deep_stem else "1"
                part, inside = "shortcut", f"{conv}norm.{kind}" if index == norm else f"{conv}{kind}"
            elif part == "conv2":
                sequence, *position = inner
                if sequence in {"key_embed", "se"} or (sequence == "conv1x1" and not deep_stem) or sequence == "embed":
                    index, kind = position
                    shifted = {"0": "0.", "1": "0.norm.", "3": "2.", "4": "3."}[index]
                    inside = f"{sequence}.{shifted}{kind}"
            name = f"res{int(first[-1]) + 1}.{block}.{part}.{inside}"
        elif first == "bn1":
            name = f"stem.conv1.7.{rest[0]}" if deep_stem else f"stem.conv1.norm.{rest[0]}"
        else:
            name = f"stem.{name}"
        renamed[name] = tensor
    return renamed


def test_a_detector_of_cotnet_whose_pyramid_has_layers_of_its_own(tmp_path: Path) -> None:
    source = randomized(CoTNet(3, 8, DEPTHS))
    torch.save(in_a_detector(detectron_names(source, deep_stem=False)), tmp_path / "detector.pth")
    assert equal(CoTNet(3, 8, DEPTHS, pretrained=str(tmp_path / "detector.pth")), source)


def test_a_detector_of_se_cotnetd(tmp_path: Path) -> None:
    source = randomized(SECoTNetD(3, 8, DEPTHS))
    names = detectron_names(source, deep_stem=True)
    assert {"stem.conv1.7.weight", "res2.0.shortcut.1.norm.weight", "res2.0.conv2.bn0.weight", "res5.0.conv2.conv1x1.1.weight"} <= set(
        names
    )
    torch.save(in_a_detector(names), tmp_path / "detector.pth")
    assert equal(SECoTNetD(3, 8, DEPTHS, pretrained=str(tmp_path / "detector.pth")), source)


def test_a_file_of_cats_trainer(tmp_path: Path) -> None:
    source = randomized(CAT(3, 8, depths=(1, 1, 1, 1)))
    config = Settings(MODEL=Settings(NAME="cat_tiny", DROP_PATH_RATE=0.1), SEED=0)
    optimizer = torch.optim.AdamW(source.parameters()).state_dict()
    torch.save({"model": source.state_dict(), "optimizer": optimizer, "config": config, "epoch": 299}, tmp_path / "ckpt.pth")
    assert equal(CAT(3, 8, depths=(1, 1, 1, 1), pretrained=str(tmp_path / "ckpt.pth")), source)
