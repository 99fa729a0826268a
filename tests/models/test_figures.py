"""Parameters and operations of every shipped model, to the last digit: the same under every PyTorch and on every device."""

from __future__ import annotations

import pytest
import torch

from models.build import build_layers
from models.flops import count_operations, parameters
from models.probe import run_rows
from models.spec.model_spec import ModelSpec
from tests.models.test_every_yaml import FILES

# Parameters, and operations of one image of 640 x 640 pixels; equal under PyTorch 2.10.0, 2.14.1 and 2.15.0.
FIGURES = {
    "yolo11l": (25_372_144, 87_328_665_600),
    "yolo11m": (20_114_672, 68_238_028_800),
    "yolo11n": (2_624_064, 6_574_131_200),
    "yolo11s": (9_458_736, 21_650_329_600),
    "yolo11x": (56_966_160, 195_532_032_000),
    "yolov3": (61_949_149, 156_072_550_400),
    "yolov3-spp": (62_998_749, 156_911_820_800),
    "yolov3-tiny": (8_852_366, 13_199_667_200),
    "yolov5-bifpn": (46_825_853, 109_979_648_000),
    "yolov5-fpn": (41_117_565, 99_907_584_000),
    "yolov5-p2": (47_493_372, 125_741_056_000),
    "yolov5-p34": (5_331_518, 14_959_411_200),
    "yolov5-p6": (76_770_172, 111_384_576_000),
    "yolov5-p7": (144_281_723, 116_017_888_000),
    "yolov5-panet": (46_563_709, 109_140_787_200),
    "yolov5l": (46_563_709, 109_140_787_200),
    "yolov5l6": (76_770_172, 111_384_576_000),
    "yolov5m": (21_190_557, 48_963_072_000),
    "yolov5m6": (35_731_932, 50_004_019_200),
    "yolov5n": (1_872_157, 4_491_776_000),
    "yolov5n6": (3_246_940, 4_583_014_400),
    "yolov5s": (7_235_389, 16_480_870_400),
    "yolov5s-LeakyReLU": (7_235_389, 16_480_870_400),
    "yolov5s-a2": (7_581_021, 17_188_659_200),
    "yolov5s-asff": (12_674_838, 24_910_694_400),
    "yolov5s-bot": (6_847_165, 16_338_329_600),
    "yolov5s-botnet": (26_336_701, 81_790_976_000),
    "yolov5s-ca": (7_271_069, 16_483_496_960),
    "yolov5s-ca-gated": (7_271_072, 16_483_496_960),
    "yolov5s-cat": (8_697_621, 17_769_460_736),
    "yolov5s-catnet": (20_079_593, 56_659_434_752),
    "yolov5s-cbam": (7_279_649, 16_482_705_632),
    "yolov5s-cbam-gated": (7_279_652, 16_482_705_632),
    "yolov5s-cot": (6_934_765, 15_606_616_704),
    "yolov5s-cotnet": (27_680_485, 63_625_510_592),
    "yolov5s-crisscross": (7_645_951, 17_713_766_400),
    "yolov5s-decoupled": (8_992_829, 26_584_883_200),
    "yolov5s-dfl": (9_153_136, 24_048_128_000),
    "yolov5s-dyhead": (8_211_509, 28_563_193_344),
    "yolov5s-eca": (7_235_404, 16_480_879_360),
    "yolov5s-gc": (7_280_357, 16_486_690_816),
    "yolov5s-ge": (7_308_917, 16_491_715_584),
    "yolov5s-ghost": (3_897_605, 8_749_670_400),
    "yolov5s-gnconv": (8_584_000, 19_030_912_000),
    "yolov5s-horblock": (11_142_717, 21_485_644_800),
    "yolov5s-horfpn": (7_720_509, 20_123_136_000),
    "yolov5s-hornet": (25_618_109, 71_397_734_400),
    "yolov5s-mobilenetv2-ca": (5_648_397, 10_810_184_000),
    "yolov5s-nonlocal": (7_892_669, 18_794_291_200),
    "yolov5s-sc": (10_516_799, 19_793_548_800),
    "yolov5s-se": (7_278_397, 16_480_956_416),
    "yolov5s-simam": (7_235_389, 16_480_870_400),
    "yolov5s-sk": (7_498_175, 16_719_405_184),
    "yolov5s-timm": (6_787_317, 15_168_332_800),
    "yolov5s-transformer": (7_235_645, 16_644_300_800),
    "yolov5s-triplet": (7_236_289, 16_494_698_720),
    "yolov5s-x": (8_927_039, 26_219_315_200),
    "yolov5s6": (12_626_620, 16_845_209_600),
    "yolov5x": (86_749_405, 205_664_768_000),
    "yolov5x6": (140_794_780, 209_785_088_000),
    "yolov8l": (43_691_504, 165_293_977_600),
    "yolov8m": (25_902_624, 79_029_888_000),
    "yolov8n": (3_157_184, 8_770_688_000),
    "yolov8s": (11_166_544, 28_653_875_200),
    "yolov8x": (68_229_632, 257_986_432_000),
}
ENTRIES = {
    "yolov5n": 349,
    "yolov5s": 349,
    "yolov5m": 481,
    "yolov5l": 613,
    "yolov5x": 745,
    "yolov5n6": 459,
    "yolov5s6": 459,
    "yolov5m6": 627,
    "yolov5l6": 795,
    "yolov5x6": 963,
}
"""Of YOLOv5's state_dicts."""
PUBLISHED = {"yolov5n": 4.5, "yolov5s": 16.5, "yolov5m": 49.0, "yolov5l": 109.1, "yolov5x": 205.7}


def test_every_file_is_here() -> None:
    assert FIGURES.keys() == FILES.keys()


@pytest.mark.parametrize("name", FIGURES)
def test_figures(name: str) -> None:
    spec = ModelSpec.from_yaml(FILES[name])
    with torch.device("meta"):
        layers, _ = build_layers(spec)
        with count_operations() as operations:
            for _ in run_rows(layers, spec, torch.empty(1, 3, 640, 640)):
                pass
    assert (parameters(layers), operations.total) == FIGURES[name]
    assert name not in ENTRIES or len(layers.state_dict()) == ENTRIES[name]


MILLIONS = {"yolov8": (3.2, 11.2, 25.9, 43.7, 68.2), "yolo11": (2.6, 9.5, 20.1, 25.4, 57.0)}
"""Published parameters of the sizes n, s, m, l, x before folding, 16 constants of the head among them."""


@pytest.mark.parametrize("family", MILLIONS)
def test_parameters_are_the_published_ones(family: str) -> None:
    assert tuple(round((FIGURES[family + size][0] + 16) / 1e6, 1) for size in "nsmlx") == MILLIONS[family]


@pytest.mark.parametrize("name", PUBLISHED)
def test_operations_are_the_published_ones(name: str) -> None:
    assert round(FIGURES[name][1] / 1e9, 1) == PUBLISHED[name]
