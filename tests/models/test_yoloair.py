"""Rows as YOLOAir's YAMLs write them, here in tables of our own: each builds the faithful module at every size."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models import build_model
from models.attention.acmix import ACmix
from models.attention.axial import AxialTransformer
from models.attention.bot import C3BoT
from models.attention.cbam import CBAM
from models.attention.coord import CoordAtt
from models.attention.cot import C3CoT
from models.attention.criss_cross import CrissCross
from models.attention.double_attention import DoubleAttention
from models.attention.dual import DualAttention
from models.attention.effective_se import EffectiveSE
from models.attention.gam import GAM
from models.attention.global_context import C3GC, GCBlock
from models.attention.gnconv import C3Hor, GnConv, HorBlock
from models.attention.nam import NAM
from models.attention.parnet import ParNetBlock
from models.attention.polarized import PolarizedAttention
from models.attention.s2 import S2Attention
from models.attention.se import SE
from models.attention.seam import SEAM, MultiSEAM
from models.attention.second_order import SOCA
from models.attention.selective_kernel import SKConv
from models.attention.shuffle import ShuffleAttention
from models.attention.simam import SimAM
from models.attention.spatial_group import SGE
from models.attention.swin import C3Swin, C3SwinV2
from models.attention.triplet import TripletAttention
from models.backbones.hornet import HorNet
from models.build import build_layers
from models.registry import Row, Scale, lookup
from models.spec.model_spec import ModelSpec
from models.yoloair import differences
from utils.config import ROOT
from utils.errors import UserError
from utils.files.yaml_file import read_yaml

SIZES = {"n": (0.33, 0.25), "s": (0.33, 0.50), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
INSERTED = {  # a row after the last C3 of the neck, whose nominal width is 1024
    "CA": CoordAtt,
    "SEAttention": SE,
    "SKAttention": SKConv,
    "CrissCrossAttention": CrissCross,
    "GlobalContextBlock": GCBlock,
    "TripletAttention": TripletAttention,
    "DoubleAttention": DoubleAttention,
    "CBAM": CBAM,
    "SimAM": SimAM,
}
FORMS: list[tuple[str, list[Any], Any]] = [  # rows as in YOLOAir's files, and what they stand for at a width
    ("DoubleAttention", [512, 128, 128, 8], lambda c: DoubleAttention(c, 128, 128)),
    ("GlobalContextBlock", [512, 0.25, 2, 16], lambda c: GCBlock(c, 4)),
    ("TripletAttention", [2], TripletAttention),
    ("NAMAttention", [1024], NAM),
    ("GAMAttention", [1024, 1024], GAM),
    ("ShuffleAttention", [1024], ShuffleAttention),
    ("SOCA", [1024], SOCA),
    ("PSA_s", [512, 512, False], PolarizedAttention),
    ("ParNetAttention", [512, 0.5, 2], ParNetBlock),
    ("SpatialGroupEnhance", [8, 0.5], lambda c: SGE(c, 8)),
    ("DANet", [512, 512, False], DualAttention),
    ("AxialImageTransformer", [512, 2, False], lambda c: AxialTransformer(c, 2)),
    ("S2Attention", [1024], S2Attention),
    ("ACmix", [1024], ACmix),
    ("ACmix", [1024, 1024], ACmix),
    ("EffectiveSELayer", [1024], EffectiveSE),
    ("SEAM", [1024, 1, 16], lambda c: SEAM(c, 1, 16)),
    ("MultiSEAM", [1024, 1, 3, [6, 7, 8], 16], lambda c: MultiSEAM(c, 1, 3, (6, 7, 8), 16)),
    ("Swin_Transformer_A", [256, 256], lambda c: C3Swin(c, c, 1)),
    ("Swin_v2_A", [512, 512], lambda c: C3SwinV2(c, c, 1)),
    ("SwinV2_CSPB", [1024, 1024], lambda c: C3SwinV2(c, c, 1)),
]


def table(changes: dict[int, list[Any]] | None = None, after: list[Any] | None = None, size: str = "s") -> dict[str, Any]:
    """YOLOv5's rows, some replaced, and one inserted before the head, which then reads it for P5."""
    content = read_yaml(ROOT / "models" / "yolov5s.yaml")
    rows = [*content["backbone"], *content["head"]]
    for index, row in (changes or {}).items():
        rows[index] = row
    if after:
        rows[-1:] = [after, [[17, 20, 24], 1, "Detect", ["nc", "anchors"]]]
    depth, width = SIZES[size]
    return {**content, "backbone": rows[:10], "head": rows[10:], "depth_multiple": depth, "width_multiple": width}


def built(content: dict[str, Any]) -> Any:
    """The layers, without memory, and without the pass of a whole model that finds its strides."""
    with torch.device("meta"):
        return build_layers(ModelSpec.from_dict(content, "table"))[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", INSERTED)
def test_a_row_that_repeats_its_width(name: str, size: str) -> None:
    layer = built(table(after=[-1, 1, name, [1024]], size=size))[24]
    assert type(layer) is INSERTED[name]
    with torch.device("meta"):
        width = int(1024 * SIZES[size][1])
        plain = INSERTED[name](width)  # the number was no reduction, lambda or width of a bottleneck
    assert {n: p.shape for n, p in layer.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    assert layer.energy_lambda == 1e-4 if name == "SimAM" else True


@pytest.mark.parametrize(("name", "args", "build"), FORMS, ids=[f"{name}-{args}" for name, args, _ in FORMS])
def test_the_forms_of_their_files_load_at_every_size(name: str, args: list[Any], build: Any) -> None:
    entry = lookup(name)
    for depth, width in SIZES.values():
        c = int(1024 * width)
        plan = entry.rule(Row(1, (0,), 1, name, tuple(args), "1"), [c], Scale(depth, width))
        with torch.device("meta"):
            layer, plain = entry.build(*plan.args), build(c)
        assert type(layer) is type(plain)
        assert plan.out == c
        assert {n: p.shape for n, p in layer.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}


def test_a_model_of_their_rows_trains_and_predicts() -> None:
    chain = [[-1, 1, name, args] for name, args, _ in FORMS if "MultiSEAM" not in name]
    content = table({6: [-1, 9, "C3STR", [512]], 13: [-1, 3, "C3GC", [512, False]]}, size="n")
    rows = [*content["head"][:-1], *chain, [[17, 20, 23 + len(chain)], 1, "Detect", ["nc", "anchors"]]]
    model = build_model({**content, "head": rows}, nc=2)
    maps = model.train()(torch.rand(2, 3, 64, 96))
    sum(m.square().mean() for m in maps).backward()
    last = [p for p in model.parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not last
    assert all(m.isfinite().all() for m in model.eval()(torch.rand(1, 3, 64, 96)))


@pytest.mark.parametrize("size", SIZES)
def test_horblock_in_place_of_the_backbones_c3(size: str) -> None:
    changes = {2: [-1, 3, "HorBlock", [128]], 4: [-1, 6, "HorBlock", [256]], 6: [-1, 9, "HorBlock", [512]], 8: [-1, 3, "HorBlock", [1024]]}
    layers = built(table(changes, size=size))
    blocks = [[m for m in layers[i].modules() if type(m) is HorBlock] for i in changes]
    assert [len(b) for b in blocks] == [max(round(n * SIZES[size][0]), 1) for n in (3, 6, 9, 3)]
    real = build_model(table(changes))
    assert all(m.gamma1.eq(1e-6).all() for m in real.modules() if isinstance(m, HorBlock))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "inner"), [("CoT3", C3CoT), ("BoT3", C3BoT), ("C3HB", C3Hor), ("C3STR", C3Swin), ("C3GC", C3GC)])
def test_csp_rows(name: str, inner: type, size: str) -> None:
    changes = {8: [-1, 3, name, [1024]], 13: [-1, 3, name, [512, False]], 23: [-1, 3, name, [1024, False]]}
    layers = built(table(changes, size=size))
    assert all(type(layers[i]) is inner for i in changes)
    assert len(layers[8].m) == max(round(3 * SIZES[size][0]), 1)


@pytest.mark.parametrize("size", SIZES)
def test_gnconv_takes_its_inputs_width(size: str) -> None:
    """Row 13 is 512 wide at l; the unscaled 256 that the row gives fits s only."""
    layer = built(table({14: [-1, 3, "gnconv", [256]]}, size=size))[14]
    copies = [m for m in layer.modules() if type(m) is GnConv]
    assert len(copies) == max(round(3 * SIZES[size][0]), 1)
    assert copies[0].proj_out.out_channels == int(512 * SIZES[size][1])


def test_the_models_run() -> None:
    changes = {2: [-1, 3, "HorBlock", [128]], 8: [-1, 3, "CoT3", [1024]], 9: [-1, 3, "BoT3", [1024]], 14: [-1, 3, "gnconv", [256]]}
    model = build_model(table(changes, after=[-1, 1, "CBAM", [1024]], size="n"), nc=3)
    assert all(m.isfinite().all() for m in model(torch.rand(1, 3, 64, 96)))
    assert model.max_stride == 32


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([-1, 1, "CA", [512]], r"row 24 \(CA\): its first argument repeats the width of its input: 512 is 256 here, not 512"),
        ([-1, 1, "CBAM", [512]], r"row 24 \(CBAM\): its first argument repeats the width of its input: 512 is 256 here, not 512"),
        ([-1, 1, "HorBlock", [256]], r"row 24 \(HorBlock\): .* 256 is 128 here, not 512"),
        ([-1, 1, "SE", [512]], r"512 is 256 here, not 512; if it is reduction, write \{reduction: 512\}"),
        ([-1, 1, "NonLocal", [256]], r"row 24 \(NonLocal\): .* 256 is 128 here, not 512; if it is inner, write \{inner: 256\}"),
        ([-1, 1, "CBAM", [1024, 512, 3]], r"its second argument repeats .* 512 is 256 here, not 512; if it is reduction"),
        (
            [-1, 1, "CBAM", [1024, 1024, 3]],
            r"given twice, so 3 and .* if it is reduction, write \{reduction: 3\}; it is CBAM\(channels, reduc",
        ),
        ([-1, 1, "ECA", [512]], r"row 24 \(ECA\): .* if it is kernel_size, write \{kernel_size: 512\}"),
        ([-1, 1, "gnconv", ["a"]], r"row 24 \(gnconv\): order must be an integer, not 'a'"),
        ([-1, 1, "SEAttentoin", [1024]], r"did you mean 'SEAttention'\?"),
    ],
)
def test_a_wrong_number_is_refused_at_build_time(row: list[Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_model(table(after=row))


@pytest.mark.parametrize(("args", "reduction"), [([16], 16), ([1024], 16), ([1024, 8], 8), ([], 16), ([4], 4)])
def test_one_rule_tells_a_repeated_width_from_an_argument(args: list[int], reduction: int) -> None:
    layer = built(table(after=[-1, 1, "CBAM", args]))[24]
    assert layer.ChannelGate.mlp[1].out_features == 512 // reduction


def test_the_report_names_what_differs_once_a_module_and_only_for_rows_written_their_way() -> None:
    spec = ModelSpec.from_dict(table({4: [-1, 6, "CoT3", [256]], 6: [-1, 9, "CoT3", [512]]}, after=[-1, 1, "CBAM", [1024]]), "x.yaml")
    lines = list(differences(spec.rows))
    assert [line.split(" is not YOLOAir's copy: ")[0] for line in lines] == ["CoT3 (row 4, 6)", "CBAM (row 24)"]
    assert "takes a softmax over the whole map" in lines[0]
    assert not list(differences(ModelSpec.from_yaml("yolov5s-cbam").rows))


def four_rows(base: int, depths: list[int]) -> dict[str, Any]:
    """A network in which each stage of HorNet is a row, whose outputs of stride 8, 16 and 32 the head reads."""
    rows = [[-1, 1, "HorNet", [base << stage, stage, 3, depths, base]] for stage in range(4)]
    return {"nc": 2, "anchors": 3, "width_multiple": 0.5, "backbone": rows, "head": [[[1, 2, 3], 1, "Detect", ["nc", "anchors"]]]}


def test_a_row_a_stage_is_the_network() -> None:
    depths = [1, 2, 3, 1]
    model, whole = build_model(four_rows(16, depths)).eval(), HorNet(3, 16, normed=(), depths=depths).eval()
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.normal_(std=0.1)
    for stage in range(4):
        model.model[stage].downsample.load_state_dict(whole.downsample_layers[stage].state_dict())
        model.model[stage].blocks.load_state_dict(whole.stages[stage].state_dict())
    x = image = torch.randn(1, 3, 64, 96)
    for row, expected in zip(model.model[:4], whole(image), strict=True):
        x = row(x)
        torch.testing.assert_close(x, expected)
    assert [int(s) for s in model.stride] == [8, 16, 32]
    assert [line.split(" is not")[0] for line in differences(model.spec.rows)] == ["HorNet (row 0, 1, 2, 3)"]
    assert list(differences(build_model("yolov5n-hornet", nc=1).spec.rows)) == []


@pytest.mark.parametrize("args", [[64, 1, 3, [1, 1, 1, 1], 64], [64, 4, 3, [1, 1, 1, 1], 4], [64, 0, 3, [1, 1, 1], 64]])
def test_a_stage_that_does_not_fit_is_told_what_to_write(args: list[Any]) -> None:
    content = four_rows(16, [1, 1, 1, 1])
    content["backbone"][0][3] = args
    with pytest.raises(UserError, match=r"row 0 \(HorNet\): a row a stage is .* the whole network is one row, \[1, HorNet, \[base\]\]"):
        build_model(content)
