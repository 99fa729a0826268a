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
from models.transfer import transfer
from models.weights import Weights, read_weights
from utils.cost import gflops, parameters
from utils.optim import parameter_groups

INSERTED = ("ca", "se", "cbam", "gnconv", "horblock", "eca", "simam", "triplet", "gc", "ge", "nonlocal", "crisscross", "a2", "sk", "sc")
# Parameters of the n and the s model with 80 classes, GFLOPs at 640.
FIGURES = {
    "ca": (1_883_877, 4.5, 7_271_069, 16.5),
    "cot": (1_798_901, 4.3, 6_934_765, 15.6),
    "bot": (1_776_349, 4.5, 6_847_165, 16.3),
    "gnconv": (2_231_584, 5.2, 8_584_000, 19.0),
    "horblock": (2_870_429, 5.8, 11_142_717, 21.5),
    "cat": (2_247_725, 4.8, 8_697_621, 17.8),
    "se": (1_882_909, 4.5, 7_278_397, 16.5),
    "cbam": (1_883_685, 4.5, 7_279_649, 16.5),
    "horfpn": (2_008_221, 5.5, 7_720_509, 20.1),
    "hornet": (6_634_205, 18.7, 25_618_109, 71.4),
    "cotnet": (7_012_289, 16.6, 27_680_485, 63.6),
    "botnet": (6_670_429, 22.7, 26_336_701, 81.8),
    "catnet": (5_193_291, 16.3, 20_079_593, 56.7),
}
# Tensors of yolov5n.pt that have a place in a variant with a replaced row, of 349.
TAKEN = {"cot": 325, "bot": 343, "cat": 337, "horfpn": 305, "hornet": 163, "cotnet": 153, "botnet": 153, "catnet": 163}


@cache
def small(name: str) -> Detector:
    return build_model(f"yolov5n-{name}", nc=3)


def on_meta(name: str) -> Detector:
    with torch.device("meta"):
        return build_model(name)


@pytest.mark.parametrize("name", FIGURES)
def test_parameters_and_operations(name: str) -> None:
    for letter, count, giga in (("n", *FIGURES[name][:2]), ("s", *FIGURES[name][2:])):
        model = on_meta(f"yolov5{letter}-{name}")
        assert parameters(model) == count
        assert gflops(model) == pytest.approx(giga, abs=0.05)


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
