"""The nearest-name hint."""

import pytest

from utils.errors import nearest


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("yolov5s.pt", ["yolov5n.pt", "yolov5m.pt"], ""),
        ("yolov5s.pt", ["yolov5s6.pt", "yolov5n.pt"], ""),
        ("yolov5s.pt", ["yolov5ss.pt", "yolov5n.pt"], "yolov5ss.pt"),
        ("yolov5n-cbma.yaml", ["yolov5s-cbam.yaml", "yolov5n-cbam.yaml", "yolov5n-ca.yaml"], "yolov5n-cbam.yaml"),
        ("Yolov5n-CBAN.yaml", ["yolov5s-cbam.yaml"], ""),
        ("--evolve", ["--nosave", "--device", "--resume"], ""),
        ("--epoch-count", ["--epochs", "--cache"], "--epochs"),
        ("--iou-thresh", ["--conf-thres", "--iou-thres"], "--iou-thres"),
        ("x" * 101, ["x" * 100], ""),
    ],
)
def test_a_hint_is_close_and_of_the_same_size(name, known, expected):
    assert nearest(name, known) == (f"; did you mean '{expected}'?" if expected else "")
