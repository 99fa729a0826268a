"""One detection of each error type, told by hand."""

import numpy as np

from utils.evaluation.error_types import ERROR_TYPES, NO_ERROR, error_types
from utils.geometry import iou


def test_each_false_positive_has_the_type_that_tide_gives_it() -> None:
    objects = np.array([(0, 0, 100, 100), (200, 0, 300, 100), (400, 0, 500, 100)], float)
    classes = np.array([0, 1, 0])
    told = [
        ((0, 0, 100, 100), "right", 0),
        ((0, 0, 100, 90), "duplicate", -1),
        ((200, 0, 300, 100), "classification", 1),
        ((400, 0, 500, 40), "localisation", 2),  # IoU 0.4 with an object of its class
        ((200, 0, 300, 40), "both", -1),  # the same with one of another class
        ((450, 0, 1450, 100), "background", -1),  # IoU 50 / 1050
        ((600, 0, 700, 100), "background", -1),
    ]
    boxes = np.array([box for box, _, _ in told], float)
    found, wrong = np.array([0] + [-1] * 6), np.array([False] + [True] * 6)
    kinds, target = error_types(iou(boxes[:, None], objects[None]), np.zeros((7, 1)) == classes, found, wrong)
    assert [(*ERROR_TYPES, "right")[kind] for kind in kinds] == [name for _, name, _ in told]
    assert target.tolist() == [number for _, _, number in told]


def test_in_an_image_without_objects_all_is_background() -> None:
    kinds, target = error_types(np.zeros((2, 0)), np.zeros((2, 0), bool), np.array([-1, -1]), np.array([True, False]))
    assert kinds.tolist() == [ERROR_TYPES.index("background"), NO_ERROR]
    assert target.tolist() == [-1, -1]
