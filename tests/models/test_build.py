"""Networks from specs: counts, names, initial weights, messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models import build_model
from models.build import build_layers
from models.detector import Detector
from models.flops import parameters
from models.layers.conv import Conv
from models.spec.model_spec import ModelSpec
from utils.errors import UserError

# Parameters and state_dict entries of YOLOv5, with 80 classes.
FUSED = {"yolov5n": 1_867_405, "yolov5s": 7_225_885, "yolov5m": 21_172_173, "yolov5l": 46_533_693, "yolov5x": 86_705_005}
CLASSES = {("yolov5n", 1): 1_765_270, ("yolov5s", 1): 7_022_326, ("yolov5s", 3): 7_027_720, ("yolov5s", 20): 7_073_569}


def on_meta(name: str, nc: int | None = None) -> Detector:
    with torch.device("meta"):
        return build_model(name, nc)


@pytest.mark.parametrize("name", FUSED)
def test_parameters_once_folded(name: str) -> None:
    assert parameters(on_meta(name).fuse()) == FUSED[name]


@pytest.mark.parametrize(("name", "nc"), CLASSES)
def test_parameters_with_other_class_counts(name: str, nc: int) -> None:
    assert parameters(on_meta(name, nc)) == CLASSES[name, nc]


def test_names_and_shapes_are_those_of_the_official_weights(shared: Path) -> None:
    from models.weights.load import read_weights

    official = read_weights(shared / "yolov5n.pt").state
    own = build_model("yolov5n").state_dict()
    assert {k: tuple(v.shape) for k, v in own.items()} == {k: tuple(v.shape) for k, v in official.items()}
    for name, tensor in own.items():
        if name.endswith("anchors"):
            torch.testing.assert_close(tensor, official[name], rtol=1e-3, atol=0)


def test_some_names_and_shapes() -> None:
    state = {k: tuple(v.shape) for k, v in build_model("yolov5n").state_dict().items()}
    assert state["model.0.conv.weight"] == (16, 3, 6, 6)
    assert state["model.0.bn.running_mean"] == (16,)
    assert state["model.2.m.0.cv1.conv.weight"] == (16, 16, 1, 1)
    assert state["model.6.m.2.cv2.conv.weight"] == (64, 64, 3, 3)
    assert state["model.9.cv2.conv.weight"] == (256, 512, 1, 1)
    assert state["model.24.anchors"] == (3, 3, 2)
    assert state["model.24.m.0.bias"] == (255,)


def test_a_variant_adds_its_rows_and_nothing_else() -> None:
    base, variant = build_model("yolov5n"), build_model("yolov5n-ca")
    assert len(variant.state_dict()) == 349 + 3 * 11
    assert parameters(variant) - parameters(base) == 1688 + 3352 + 6680


def test_initial_weights_depend_on_seed_and_identity_alone() -> None:
    base, variant, other = build_model("yolov5n"), build_model("yolov5n-ca", nc=3), build_model("yolov5n", seed=1)
    rows = {row.origin: row.index for row in variant.spec.rows}
    for row in base.spec.rows[:-1]:
        own, theirs = base.model[row.index].state_dict(), variant.model[rows[row.origin]].state_dict()
        assert all(torch.equal(own[key], theirs[key]) for key in own)
    assert torch.equal(build_model("yolov5n").model[0].conv.weight, base.model[0].conv.weight)
    assert not torch.equal(base.model[0].conv.weight, other.model[0].conv.weight)


def test_building_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_model("yolov5n-ca")
    assert torch.equal(torch.rand(3), expected)
    with pytest.raises(UserError):
        build_model("yolov5s-ac")


def test_yolo_norms_have_yolo_settings_and_plug_ins_keep_theirs() -> None:
    model = build_model("yolov5n-ca")
    settings = {name: (m.eps, m.momentum) for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {v for k, v in settings.items() if not k.endswith("bn1")} == {(1e-3, 0.03)}
    assert {v for k, v in settings.items() if k.endswith("bn1")} == {(1e-5, 0.1)}
    layers, _ = build_layers(ModelSpec.from_dict({"backbone": [[-1, 1, "nn.BatchNorm2d", []]]}, "x"))
    assert isinstance(layers[0], nn.BatchNorm2d)
    assert (layers[0].eps, layers[0].momentum) == (1e-3, 0.03)


def test_the_activation_belongs_to_the_model() -> None:
    leaky, plain = build_model("yolov5s-LeakyReLU"), build_model("yolov5s")
    acts = {type(m.act) for m in leaky.modules() if isinstance(m, Conv)}
    assert acts == {nn.LeakyReLU}
    assert leaky.model[0].act.negative_slope == 0.1
    assert {type(m.act) for m in plain.modules() if isinstance(m, Conv)} == {nn.SiLU}


def table(*rows: list[Any], **settings: Any) -> ModelSpec:
    head = [[len(rows) - 1], 1, "Detect", ["nc", [[10, 13]]]]
    return ModelSpec.from_dict({"nc": 2, "anchors": [[10, 13]], "backbone": list(rows), "head": [head], **settings}, "t.yaml")


def test_repeats_are_copies_of_which_later_ones_keep_the_width() -> None:
    model = Detector(table([-1, 3, "Conv", [32, 3, 2]]))
    assert isinstance(model.model[0], nn.Sequential)
    assert [layer.conv.in_channels for layer in model.model[0]] == [3, 32, 32]
    assert model.stride.tolist() == [8]
    csp = Detector(table([-1, 1, "Conv", [16]], [-1, 9, "C3", [32]], depth_multiple=0.33))
    assert len(csp.model[1].m) == 3


def test_an_activation_among_the_arguments_and_words_as_text() -> None:
    model = Detector(table([-1, 2, "Conv", [16, 3, 2, "None", 1, 1, "nn.LeakyReLU(0.2)"]], [-1, 1, "nn.Upsample", ["None", 2, "nearest"]]))
    first, second = model.model[0]
    assert first.act.negative_slope == second.act.negative_slope == 0.2
    assert first.act is not second.act
    assert isinstance(model.model[1], nn.Upsample)


def test_a_row_of_exactly_the_output_width_is_not_scaled() -> None:
    layers, widths = build_layers(table([-1, 1, "Conv", [7]], [-1, 1, "Conv", [8]], width_multiple=0.25))
    assert widths == [7, 8, 0]
    assert len(layers) == 3


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([-1, 1, "Cnov", [64]], r"t.yaml: row 0 \(Cnov\): unknown module 'Cnov'; did you mean 'Conv'\?"),
        ([-1, 1, "Conv", [64, 3, 2, 1, 1, 1, True, 9]], r"row 0 \(Conv\): too many positional arguments; it is Conv\(c1, c2, k=1, s=1"),
        ([-1, 1, "Conv", ["x"]], r"row 0 \(Conv\): its first argument is the output width, a positive integer, not 'x'"),
        (
            [-1, 1, "Conv", [64, "three"]],
            r"row 0 \(Conv\): k must be an integer or \[an integer, an integer\], not 'three'; it is Conv\(c1, c2, k=1, .*, "
            r"called with \(3, 64, 'three'\)",
        ),
        (
            [-1, 1, "Conv", [64, {"k": 3}, 1]],  # only the last argument may be a mapping, of keywords
            r"row 0 \(Conv\): k must be .*, not \{'k': 3\}; it is Conv\(.*, called with \(3, 64, \{'k': 3\}, 1\)",
        ),
        ([-1, 1, "Conv", []], r"row 0 \(Conv\): its first argument, the output width, is missing; it is Conv\(c1, c2, k=1"),
        ([-1, 1, "C3", [64, 2]], r"row 0 \(C3\): shortcut must be true or false, not 2; it is C3\(c1, c2, n=1, shortcut=True, "),
        ([-1, 1, "MHSA", [4.0]], r"row 0 \(MHSA\): heads must be an integer, not 4.0 \(4 would fit\); it is MHSA\(channels, heads=4"),
        ([-1, 1, "MHSA", ["x", None]], r"row 0 \(MHSA\): heads must be an integer, not 'x'; it is MHSA\("),
        ([-1, 1, "MHSA", [4, 8, [6]]], r"fmap_size must be \[an integer, an integer\] or an integer, not \(6,\); it is MHSA\("),
        ([-1, 1, "MHSA", [4, 8, [6, 0]]], r"both at least 1, not \(6, 0\); it is MHSA\("),
        (
            [-1, 1, "C3CAT", [8, True, None, 7, 0.1]],
            r"C3CAT: e = 0.1 of 8 channels gives the inner blocks none; e must be >= 0.125; it is C3CAT\(",
        ),
        ([-1, 1, "CPSA", [0]], r"row 0 \(CPSA\): CPSA: patch_size must be at least 1, not 0; it is CPSA\(channels, patch_size=7"),
        ([-1, 1, "SE", [0]], r"row 0 \(SE\): SE: reduction must be at least 1, not 0; it is SE\(channels, reduction=16"),
        ([-1, 1, "CBAM", [16, 4]], r"CBAM: kernel_size must be odd, not 4; 3 or 5 would fit; it is CBAM\("),
        ([-1, 1, "CoT", []], r"row 0 \(CoT\): CoT: channels must be a multiple of 2, not 3; 2 or 4 would fit; it is CoT\("),
        ([-1, 1, "CoTNet", [64, [1, 1]]], r"CoTNet: depths must be four numbers of blocks, each at least 1, not \[1, 1\]; it is CoTNet\("),
        ([-1, 1, "HorNet", [64, [9]]], r"HorNet: normed must be outputs from 0 to 3, not \[9\]; it is HorNet\("),
        ([-1, 1, "Conv", [10**9]], r"row 0 \(Conv\): .*positive integer, not 1000000000 \(at most 65536\)"),
        ([-1, 1, "Detect", ["nc", [[1, -2]]]], r"row 0 \(Detect\): Detect: 'anchors' is a number"),
        ([-1, 1, "Conv", [64, 3, 0]], r"row 0 \(Conv\): .*stride"),
        ([-1, 1, "Conv", [64, 3, 2, None, 5]], r"row 0 \(Conv\): in_channels must be divisible by groups"),
        (
            [-1, 1, "CoordAtt", {"reductoin": 4}],
            r"row 0 \(CoordAtt\): .*unexpected keyword argument 'reductoin'; it is CoordAtt\(channels, ",
        ),
        ([-1, 1, "CoordAtt", [0]], r"row 0 \(CoordAtt\): CoordAtt: reduction must be at least 1, not 0"),
        ([-1, 1, "Conv", [64, 3, 2, None, 1, 1, "nn.Silu()"]], r"row 0 \(Conv\): unknown activation 'Silu'; did you mean 'SiLU'\?"),
        ([-1, 1, "nn.Linear", [64]], "unknown module 'nn.Linear'"),
        ([-1, 1, "Expand", [2]], "its input has 3 channels, which 2\\^2 does not divide"),
        ([[-1, -1], 1, "Conv", [64]], "takes one input, but 'from' gives 2"),
        ([[-1, -1], 2, "Concat", [1]], r"row 0 \(Concat\): repeats is 2, but Concat cannot be repeated; write 1"),
        ([-1, 3, "hornet_tiny", []], r"row 0 \(hornet_tiny\): repeats is 3"),
        ([-1, 1, "Feature", [0]], "must read one row with several outputs"),
        ([-1, 1, "__import__('os').system('x')", []], "unknown module"),
    ],
)
def test_messages_name_the_row(row: list[Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        Detector(table(row))
    assert "\n" not in str(error.value)


def test_sizes_that_do_not_fit_name_the_row_and_the_shapes() -> None:
    rows = ([-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [[0, 1], 1, "Concat", [1]])
    shapes = (
        r"shapes \(1, 16, 128, 128\), \(1, 16, 64, 64\); sizes have to be equal: read \[1, 1, nn.Upsample, \[null, 2, nearest\]\] instead"
    )
    with pytest.raises(UserError, match=rf"t.yaml: row 2 \(Concat\): .*{shapes}"):
        Detector(table(*rows))


def test_a_head_that_is_not_last_or_not_there() -> None:
    with pytest.raises(UserError, match=r"row 0 \(Conv\): a model has one head, such as Detect, as its last row"):
        Detector(ModelSpec.from_dict({"backbone": [[-1, 1, "Conv", [64]]]}, "x"))
    with pytest.raises(UserError, match=r"row 1 \(Detect\): reads 1 levels, but there are anchors for 2"):
        Detector(ModelSpec.from_dict({"backbone": [[-1, 1, "Conv", [64]], [-1, 1, "Detect", ["nc", [[1, 2], [3, 4]]]]]}, "x"))


def test_build_model_takes_names_classes_channels_and_anchors() -> None:
    model = build_model("yolov5n", names=["cat", "dog"], ch=1, anchors=2)
    assert (model.nc, model.names) == (2, {0: "cat", 1: "dog"})
    assert model.model[0].conv.in_channels == 1
    assert model.head.anchors.shape == (3, 2, 2)
    assert build_model("yolov5n", 2).names == {0: "class0", 1: "class1"}
    with pytest.raises(UserError, match="2 class names for 3 classes"):
        build_model("yolov5n", 3, names=["a", "b"])
    for wrong in ({"nc": 0}, {"nc": 10**9}, {"nc": True}, {"nc": 3.0}, {"ch": 0}, {"ch": "3"}, {"names": 5}, {"names": []}):
        with pytest.raises(UserError, match=r"'nc' is a positive integer|'ch' is a positive integer|'names' is a list"):
            build_model("yolov5n", **wrong)


@pytest.mark.parametrize("args", [[80, "anchors"], [], [-2, "anchors"]])
def test_a_head_of_other_classes_than_the_model_is_an_error(args: list[Any]) -> None:
    with pytest.raises(UserError, match=r"t.yaml: row 1 \(Detect\).* classes, but the model 3; write its first argument as nc"):
        Detector(
            ModelSpec.from_dict({"nc": 3, "head": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Detect", args]], "anchors": [[1, 2]]}, "t.yaml")
        )


def test_an_unknown_activation_names_the_file() -> None:
    with pytest.raises(UserError, match=r"t.yaml: unknown activation 'Silu'; did you mean 'SiLU'"):
        Detector(table([-1, 1, "Conv", [8]], activation="nn.Silu()"))
