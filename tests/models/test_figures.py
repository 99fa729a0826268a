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
    "yolov5s-cot-gated": (8_742_637, 18_547_954_304),
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
MECHANISMS = {
    "yolov5s-a2c2f": (7_282_749, 16_655_564_800),
    "yolov5s-acmix": (8_065_708, 17_155_072_000),
    "yolov5s-acnet": (8_283_709, 19_009_740_800),
    "yolov5s-afpn": (4_907_762, 12_453_030_400),
    "yolov5s-aft": (8_286_830, 17_359_872_000),
    "yolov5s-bam": (7_322_419, 16_536_740_256),
    "yolov5s-bra": (8_299_326, 17_451_976_704),
    "yolov5s-c2f": (8_474_429, 20_150_886_400),
    "yolov5s-c2psa": (8_226_365, 17_394_278_400),
    "yolov5s-c3k2": (7_358_493, 16_845_516_800),
    "yolov5s-caa": (7_912_253, 17_349_222_400),
    "yolov5s-carafe": (7_375_493, 16_750_592_000),
    "yolov5s-coatnet": (10_412_109, 19_325_132_800),
    "yolov5s-condconv": (17_560_397, 16_504_469_504),
    "yolov5s-convmixer": (7_542_077, 16_724_582_400),
    "yolov5s-cpca": (7_813_117, 17_027_522_560),
    "yolov5s-crossformer": (15_210_989, 27_983_367_680),
    "yolov5s-csra": (7_498_045, 16_690_585_600),
    "yolov5s-dat": (8_312_270, 17_089_843_200),
    "yolov5s-dbb": (9_245_949, 23_247_052_800),
    "yolov5s-dcnv2": (7_328_755, 16_630_169_600),
    "yolov5s-dynamicconv": (11_957_925, 16_493_448_640),
    "yolov5s-dysample": (7_247_741, 16_500_531_200),
    "yolov5s-ela": (7_251_517, 16_481_730_560),
    "yolov5s-ema": (7_286_973, 16_959_119_360),
    "yolov5s-emsa": (8_293_254, 17_093_120_000),
    "yolov5s-external": (7_826_749, 16_953_139_200),
    "yolov5s-fasterblock": (6_561_661, 14_485_299_200),
    "yolov5s-fasternet": (5_628_337, 11_707_468_800),
    "yolov5s-fca": (7_276_349, 16_491_560_960),
    "yolov5s-gelan": (7_148_093, 18_722_611_200),
    "yolov5s-gmlp": (8_818_045, 18_368_307_200),
    "yolov5s-gsconv": (6_400_381, 15_128_576_000),
    "yolov5s-halo": (8_022_494, 17_357_742_080),
    "yolov5s-involution": (7_503_454, 16_693_964_800),
    "yolov5s-irmb": (10_552_125, 21_056_240_640),
    "yolov5s-lsk": (7_787_209, 17_201_731_200),
    "yolov5s-lska": (7_512_381, 16_700_416_000),
    "yolov5s-lsknet": (7_317_547, 20_729_158_400),
    "yolov5s-mbconv": (10_342_349, 23_281_393_664),
    "yolov5s-mixer": (9_341_341, 18_934_538_240),
    "yolov5s-mlca": (7_235_419, 16_512_847_360),
    "yolov5s-mobilevit": (19_047_229, 26_083_123_200),
    "yolov5s-mobilevitv2": (11_448_637, 19_841_638_400),
    "yolov5s-muse": (9_619_264, 18_710_323_200),
    "yolov5s-outlook": (8_425_038, 17_464_320_000),
    "yolov5s-parnet": (10_845_245, 20_679_516_160),
    "yolov5s-pconv": (7_428_925, 16_834_764_800),
    "yolov5s-polarized": (7_893_821, 17_112_801_280),
    "yolov5s-psa": (9_403_915, 19_253_063_680),
    "yolov5s-repmlp": (9_564_606, 16_659_046_400),
    "yolov5s-resmlp": (9_342_333, 18_934_538_240),
    "yolov5s-rfaconv": (7_287_229, 16_784_998_400),
    "yolov5s-s2": (9_335_613, 17_321_828_352),
    "yolov5s-scsa": (7_247_677, 16_483_804_160),
    "yolov5s-sge": (7_235_645, 16_480_870_400),
    "yolov5s-smlp": (8_022_478, 17_396_277_248),
    "yolov5s-spd": (14_147_389, 30_636_646_400),
    "yolov5s-star": (11_254_333, 21_636_915_200),
    "yolov5s-ufo": (8_546_903, 18_237_235_200),
    "yolov5s-vip": (8_548_286, 17_693_548_544),
    "yolov5s-weighted-bifpn": (4_336_536, 11_132_620_800),
}
"""Of the files in zoo/ with one mechanism each."""
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
    assert FIGURES.keys() | MECHANISMS.keys() == FILES.keys()


@pytest.mark.parametrize("name", [*FIGURES, *(pytest.param(name, marks=pytest.mark.slow) for name in MECHANISMS)])
def test_figures(name: str) -> None:
    spec = ModelSpec.from_yaml(FILES[name])
    with torch.device("meta"):
        layers, _ = build_layers(spec)
        with count_operations() as operations:
            for _ in run_rows(layers, spec, torch.empty(1, 3, 640, 640)):
                pass
    assert (parameters(layers), operations.total) == (FIGURES | MECHANISMS)[name]
    assert name not in ENTRIES or len(layers.state_dict()) == ENTRIES[name]


MILLIONS = {"yolov8": (3.2, 11.2, 25.9, 43.7, 68.2), "yolo11": (2.6, 9.5, 20.1, 25.4, 57.0)}
"""Published parameters of the sizes n, s, m, l, x before folding, 16 constants of the head among them."""


@pytest.mark.parametrize("family", MILLIONS)
def test_parameters_are_the_published_ones(family: str) -> None:
    assert tuple(round((FIGURES[family + size][0] + 16) / 1e6, 1) for size in "nsmlx") == MILLIONS[family]


@pytest.mark.parametrize("name", PUBLISHED)
def test_operations_are_the_published_ones(name: str) -> None:
    assert round(FIGURES[name][1] / 1e9, 1) == PUBLISHED[name]
