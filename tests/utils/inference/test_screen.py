import sys
from types import ModuleType

import numpy as np
import pytest

from utils.errors import UserError
from utils.inference.sources import open_source


class Fake:
    monitors = ({"left": 0, "top": 0, "width": 8, "height": 4}, {"left": 2, "top": 1, "width": 6, "height": 3})
    closed = False

    def grab(self, area):
        image = np.zeros((area["height"], area["width"], 4), np.uint8)
        image[..., 0] = area["left"]
        image[..., 1] = area["top"]
        image[..., 3] = 255
        return image

    def close(self):
        Fake.closed = True


@pytest.fixture
def mss(monkeypatch):
    module = ModuleType("mss")
    module.mss = Fake
    module.ScreenShotError = RuntimeError
    module.__spec__ = type("Spec", (), {})()
    monkeypatch.setitem(sys.modules, "mss", module)


@pytest.mark.parametrize(
    ("text", "shape", "corner"),
    [("screen", (4, 8), (0, 0)), ("screen 1", (3, 6), (2, 1)), ("screen 1 1 0 3 2", (2, 3), (3, 1)), ("screen 5 6 3 2", (2, 3), (5, 6))],
)
def test_screen_and_rectangle(mss, text, shape, corner):
    source = open_source(text)
    frame = next(iter(source))
    assert frame.image.shape == (*shape, 3)
    assert tuple(frame.image[0, 0, :2]) == corner, "the blue and green that the fake puts there"
    assert source.live
    assert (frame.number, frame.key) == (1, "screen")
    source.close()
    assert Fake.closed


@pytest.mark.parametrize(
    ("text", "message"), [("screen 2", "there are 0 .all. to 1"), ("screen 1 2", "expected"), ("screen 0 0 0 5", "empty")]
)
def test_screens_that_are_not_there(mss, text, message):
    with pytest.raises(UserError, match=message):
        open_source(text)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(UserError, match="pip install mss"):
        open_source("screen")
