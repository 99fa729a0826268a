"""The shipped variants: their figures, and what each takes over from pretrained weights."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from models import build_model
from models.attention.bot import MHSA
from models.attention.cat import CAB
from models.attention.cot import CoT
from models.attention.criss_cross import CrissCross
from models.attention.gnconv import HorBlock
from models.backbones.catnet import CAT, cat_small
from models.backbones.hornet import hornet_tiny
from models.detector import Detector
from models.gate import Gate
from models.weights.load import Weights, read_weights
from models.weights.transfer import transfer
from utils.training.optim import parameter_groups

INSERTED = ("ca", "se", "cbam", "gnconv", "horblock", "eca", "simam", "triplet", "gc", "ge", "nonlocal", "crisscross", "a2", "sk", "sc")
# Tensors of yolov5n.pt that have a place in a variant with a replaced row, of 349.
TAKEN = {"cot": 325, "bot": 343, "cat": 337, "horfpn": 305, "hornet": 163, "cotnet": 153, "botnet": 153, "catnet": 163}


@cache
def small(name: str) -> Detector:
    return build_model(f"yolov5n-{name}", nc=3)


@pytest.fixture(scope="module")
def official(shared: Path) -> Weights:
    """The official yolov5n."""
    return read_weights(shared / "yolov5n.pt")


@pytest.mark.parametrize("name", INSERTED)
def test_an_insertion_keeps_all_pretrained_weights(name: str, official: Weights) -> None:
    report = transfer(build_model(f"yolov5n-{name}"), official)
    assert (report.transferred, report.total) == (349, 349)


@pytest.mark.parametrize("name", TAKEN)
def test_a_replacement_keeps_what_still_exists(name: str, official: Weights) -> None:
    report = transfer(build_model(f"yolov5n-{name}"), official)
    assert (report.transferred, report.total) == (TAKEN[name], 349)


@pytest.mark.parametrize("name", ["gnconv", "sk", "sc", "gc", "nonlocal", "crisscross"])
@torch.no_grad()
def test_gated_and_closed_insertions_start_as_the_base(name: str) -> None:
    image = torch.rand(1, 3, 64, 64)
    base, variant = build_model("yolov5n", nc=3).eval(), copy.deepcopy(small(name)).eval()
    torch.testing.assert_close(variant(image), base(image))


def test_the_size_letter_chooses_the_published_networks() -> None:
    def entries(network: nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if not name.startswith("norm0.")}

    with torch.device("meta"):
        assert entries(build_model("yolov5s-hornet").model[0]) == entries(hornet_tiny())
        assert entries(build_model("yolov5m-catnet").model[0]) == entries(cat_small())


def test_norms_scales_tables_and_positions_do_not_decay() -> None:
    blocks = nn.ModuleDict(
        {
            "hor": HorBlock(16, gf=True),
            "relative": MHSA(16),
            "absolute": MHSA(16, position="absolute"),
            "cab": CAB(16),
            "cat": CAT(3, 8, depths=(1, 1, 1, 1)),
            "criss": CrissCross(16),
            "gate": Gate(CoT(16)),
        }
    )
    _, decayed, _ = parameter_groups(blocks)
    ids = {id(p) for p in decayed}
    kept = {name for name, p in blocks.named_parameters() if id(p) in ids}
    assert {name.rpartition(".")[2] for name in kept} == {"weight"}
    assert not [name for name, p in blocks.named_parameters() if name in kept and ("norm" in name or p.ndim < 2)]
    assert {"hor.pwconv1.weight", "relative.to_qkv.weight", "gate.block.embed.0.weight", "cat.patch_embed.proj.weight"} <= kept
