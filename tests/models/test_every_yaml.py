"""Every shipped YAML at every size letter: it builds, runs, trains, folds, is saved, exports, and counts its cost; its arguments fit.

By default one file of each kind is tried whole at its smallest size, and the rows of all are built at the smallest, and of those
outside zoo/ at the largest; the slow tests try all files and sizes. (Every file is built, run and counted without memory in
``test_figures.py``.)
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import build, build_model, load_model
from models.check import portability
from models.detector import Detector
from models.flops import count_operations, gflops
from models.heads.detect import Detect
from models.layers import conv
from models.spec.find_yaml import SIZES
from models.spec.model_spec import ModelSpec
from utils.config import ROOT
from utils.training.checkpoint import save_checkpoint

FILES = {path.stem: path for path in sorted([*(ROOT / "models").glob("*.yaml"), *(ROOT / "models" / "zoo").glob("*.yaml")])}
ONE_SIZE = {f"yolov5{letter}{six}" for letter in "smlx" for six in ("", "6")}  # these are the letters of yolov5n and yolov5n6
ONE_SIZE |= {f"{family}{letter}" for family in ("yolov8", "yolo11") for letter in "smlx"}
NAMES = sorted(set(FILES) - ONE_SIZE)
BUILT: dict[tuple[object, ...], nn.Module] = {}
_KINDS = """
    yolov5n yolov5n6 yolov3-tiny yolov5-bifpn yolov5s-ghost yolov5s-transformer yolov5s-mobilenetv2-ca yolov5s-ca-gated
    yolov5s-cot yolov5s-bot yolov5s-gnconv yolov5s-cat yolov5s-horfpn yolov5s-hornet yolov5s-catnet yolov5s-dfl yolov5s-x
"""
SAMPLE = [name if name in _KINDS.split() else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
ALL_SIZES = [(name, letter) for name in NAMES for letter in SIZES]


def sized(name: str, letter: str) -> ModelSpec:
    """A file's model in the size of a letter, those that come in one size too."""
    spec = ModelSpec.from_yaml(FILES[name])
    return dataclasses.replace(spec, scale=dataclasses.replace(spec.scale, depth=SIZES[letter][0], width=SIZES[letter][1]))


@cache
def small(name: str) -> Detector:
    """The smallest size, calibrated."""
    return calibrated(build_model(sized(name, "n"), nc=3))


@torch.no_grad()
def calibrated(model: Detector, images: Tensor | None = None) -> Detector:
    """In evaluation mode, statistics those of images, by default noise: raw maps vary by about one; factors and shifts are random."""
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.weight.uniform_(0.4, 0.8, generator=generator)
        norm.bias.normal_(std=0.1, generator=generator)
        norm.momentum = 1.0
    side = max(2 * model.max_stride, 128)
    model.train()(torch.rand(4, 3, side, side + model.max_stride, generator=generator) if images is None else images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def image(model: Detector, height: int, width: int, **where: Any) -> Tensor:
    """An image of at least this size, whose sides suit the model's stride."""
    sides = [math.ceil(side / model.max_stride) * model.max_stride for side in (height, width)]
    return torch.rand(1, 3, *sides, **where)


def test_all_files_are_here() -> None:
    assert len(NAMES) >= 38
    assert {"yolov5n", "yolov5n6", "yolov3-tiny", "yolov5s-ca", "yolov5s-triplet"} <= set(NAMES)


@pytest.mark.parametrize("name", SAMPLE)
@torch.no_grad()
def test_it_runs_at_a_rectangular_size(name: str) -> None:
    model = small(name)
    x = image(model, 416, 608)
    found = model(x)
    cells = sum(x.shape[2] * x.shape[3] / float(stride) ** 2 for stride in model.stride)
    anchors = model.head.anchors.shape[1] if isinstance(model.head, Detect) else 1
    assert found.shape == (1, cells * anchors, 8)
    assert found.isfinite().all()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", SAMPLE)
def test_a_training_step_is_finite_and_no_parameter_is_dead(name: str, precision: torch.dtype) -> None:
    train_step(copy.deepcopy(small(name)), precision)


def train_step(model: Detector, precision: torch.dtype) -> None:
    """One step of gradient descent with the loss of training."""
    from utils.config import Hyp
    from utils.training.losses.criterion import build_criterion

    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.cat([image(model, 64, 64)] * 2)
    side = x.shape[2]
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.6], [1, 0, 0.25, 0.75, 20 / side, 16 / side]])
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        maps = model(x)
    total, _ = build_criterion(model, Hyp(), side)([m.float() for m in maps], targets)
    (total + torch.stack([m.float().square().mean() for m in maps]).sum()).backward()  # every cell counts, not only those of an object
    assert total.isfinite()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not dead
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", SAMPLE)
def test_it_folds_whole_and_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    folds_and_is_saved(copy.deepcopy(small(name)), tmp_path / "a.pt")


@torch.no_grad()
def folds_and_is_saved(model: Detector, path: Path) -> None:
    """A checkpoint gives the same model, and so does folding, after which no batch norm is left."""
    x = image(model, 64, 96)
    expected = model(x)
    payload = {"attune": 1, "spec": model.spec.to_dict(), "names": dict(model.names), "model": model.state_dict(), "ema": None}
    save_checkpoint(path, {**payload, "config": {}, "hyp": {}, "resume": None, "epoch": 0, "metrics": {}})
    loaded = load_model(path, fuse=False)
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True))
    torch.testing.assert_close(loaded(x), expected, rtol=1e-5, atol=1e-5)
    maps = model.maps(x)
    assert all(float(level.std()) > 0.1 for level in maps), "maps that hardly vary would hide a fault"
    folded = model.fuse().maps(x)
    for found, level in zip(folded, maps, strict=True):
        torch.testing.assert_close(found, level, rtol=0, atol=1e-3 * float(level.std()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_a_factor_that_is_left_out_of_the_weights_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = conv.factor_and_shift
    monkeypatch.setattr(conv, "factor_and_shift", lambda *given: (torch.ones_like(true(*given)[0]), true(*given)[1]))
    with pytest.raises(AssertionError, match="not close"), torch.no_grad():
        folds_and_is_saved(copy.deepcopy(small("yolov5n")), tmp_path / "a.pt")


@pytest.mark.parametrize("name", SAMPLE)
@torch.no_grad()
def test_its_operations_are_counted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the shapes of convolutions, linear layers, batch norms and matrix attention; the rest is small."""
    model = small(name)
    x = image(model, 64, 64)
    with count_operations() as operations:
        model(x)
    counted = operations.giga
    assert not operations.uncounted
    assert counted == gflops(model, (x.shape[2], x.shape[3]))
    total, attend = 0.0, nn.functional.scaled_dot_product_attention

    def attended(q: Tensor, k: Tensor, v: Tensor, **rest: Any) -> Tensor:
        nonlocal total
        total += 2 * q[..., 0].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        return attend(q, k, v, **rest)

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d | nn.Conv1d):
            total += 2 * output.numel() * module.in_channels / module.groups * math.prod(module.kernel_size)
        elif isinstance(module, nn.ConvTranspose2d):
            total += 2 * inputs[0].numel() * module.out_channels / module.groups * math.prod(module.kernel_size)
        elif isinstance(module, nn.Linear):
            total += 2 * output.numel() * module.in_features
        elif isinstance(module, nn.BatchNorm2d):
            total += 2 * output.numel()

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", attended)
    hooks = [module.register_forward_hook(add) for module in model.modules()]
    model(x)
    for hook in hooks:
        hook.remove()
    assert total / 1e9 == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize(
    ("name", "letter"),
    [
        pytest.param(name, size, marks=() if size == "n" or (size == "x" and FILES[name].parent.name != "zoo") else pytest.mark.slow)
        for name, size in ALL_SIZES
    ],
)
def test_rows_build_at_every_size_and_arguments_are_where_they_belong(name: str, letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build._instantiate

    def checked(row: Any, entry: Any, plan: Any) -> nn.Module:
        make = plan.build or entry.build
        hints = typing.get_type_hints(make.__init__ if isinstance(make, type) else make)
        given = inspect.signature(make).bind(*plan.args, **row.keywords).arguments
        for argument, value in given.items():
            assert argument == "anchors" or argument not in hints or fits(value, hints[argument]), (
                f"{row}: {argument}={value!r} is no {hints[argument]}"
            )
        key = (row.name, repr(plan.args), repr(row.keywords), plan.repeats)
        if key not in BUILT:  # most rows are those of the base, and one of each is enough
            BUILT[key] = made(row, entry, plan)
        return BUILT[key]

    monkeypatch.setattr(build, "_instantiate", checked)
    with torch.device("meta"):
        layers, widths = build.build_layers(sized(name, letter))
    assert len(layers) == len(widths)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; a number that happens to be a width is no probability, no flag and no factor."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return any(fits(value, arg) for arg in args)
    if origin is typing.Literal:
        return value in args
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool) and abs(value) < 64
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is not None:
        inner = args[:1] if args[1:] in ((), (...,)) else ()
        return isinstance(value, tuple | list) and all(fits(v, arg) for arg in inner for v in value)
    return hint is Any or value is hint or (isinstance(hint, type) and isinstance(value, hint))


def test_arguments_that_do_not_belong_are_noticed() -> None:
    assert not fits(512, float)
    assert not fits(True, int)
    assert not fits(64, bool)
    assert not fits("a", typing.Literal["b"])
    assert fits((1, 2), typing.Sequence[int])
    assert not fits((1, "a"), tuple[int, ...])
    assert fits(None, int | None)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "letter"), ALL_SIZES)
def test_every_size_runs_folds_and_is_counted(name: str, letter: str) -> None:
    with torch.device("meta"):
        model = build_model(sized(name, letter))
        for size in ((640, 640), (416, 608)):
            x = image(model, *size)
            sizes = [tuple(level.shape[2:4]) for level in model.train()(x)]
            strides = [x.shape[2] // height for height, _ in sizes]
            assert sizes == [(x.shape[2] // stride, x.shape[3] // stride) for stride in strides]
            assert set(strides) <= {4, 8, 16, 32, 64, 128}
    assert gflops(model, image(model, 64, 64).shape[2]) > 0
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.eval().fuse().modules())


@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("name", "letter"), [(name, letter) for name, letter in ALL_SIZES if letter != "n"])
def test_every_size_trains(name: str, letter: str, precision: torch.dtype) -> None:
    train_step(build_model(sized(name, letter), nc=3), precision)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "letter"), [(name, letter) for name, letter in ALL_SIZES if letter != "n"])
@torch.no_grad()
def test_every_size_folds_and_is_saved(name: str, letter: str, tmp_path: Path) -> None:
    folds_and_is_saved(calibrated(build_model(sized(name, letter), nc=3)), tmp_path / "a.pt")


@pytest.mark.parametrize("letter", ["n", pytest.param("s", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [n if n in {"yolov5n", "yolov5s-ca"} else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
@torch.no_grad()
def test_it_exports_to_onnx_with_any_height_and_width(name: str, letter: str, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    model = small(name) if letter == "n" else build_model(sized(name, letter), nc=3).eval()
    stride, reasons = model.max_stride, []
    for export in (portability._export_traced, portability._export_graph):  # some operators only one of the two knows
        path = tmp_path / f"{export.__name__}.onnx"
        try:
            with portability._quiet():
                export(model, image(model, stride, 2 * stride), path)
                session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
                for size in ((stride, 2 * stride), (3 * stride, stride)):
                    x = image(model, *size)
                    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
                    torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=1e-3, atol=1e-3)
        except Exception as error:  # noqa: BLE001 - whatever an exporter raises, the other way is tried
            reasons.append(f"{export.__name__}: {error}")
        else:
            return
    pytest.fail("\n".join(reasons))
