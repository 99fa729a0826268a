"""Why a detection is wrong, by the error types of TIDE.

Bolya et al. (2020), "TIDE: A General Toolbox for Identifying Object Detection Errors", https://arxiv.org/abs/2008.08115, section 2.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ERROR_TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")
"""In the order of the paper. A false positive has one of the first five; an object has the sixth where no detection found it and none would
with another class or box."""
NO_ERROR = len(ERROR_TYPES)
FOREGROUND, BACKGROUND = 0.5, 0.1
"""IoU from which a box is one of an object, and up to which it is none."""


def error_types(
    overlap: NDArray[np.float64], same: NDArray[np.bool_], found: NDArray[np.integer], wrong: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The error type of each false positive of an image, and the object that its box or class is wrong for.

    A box of the right class is badly localised at an IoU of 0.1 to 0.5 with its nearest object; one at 0.5 or more has a wrong class if
    the object is of another class, and is a duplicate if the object has been found already. Up to 0.1 from every object it is background,
    else both class and box are wrong. Where several hold, the first in this order counts.

    Args:
        overlap: (k, m) IoU of the detections with the objects, crowds left out.
        same: (k, m) whether their classes are equal.
        found: (k,) index of the object that a detection has found; -1 for none.
        wrong: (k,) whether it is a false positive at IoU 0.5.

    Returns:
        (k,) indices into `ERROR_TYPES`, `NO_ERROR` where not wrong; and (k,) indices of objects, -1 where there is none.
    """
    kinds, target = np.full(len(wrong), NO_ERROR, np.uint8), found.astype(np.int32)
    if not overlap.shape[1]:
        kinds[wrong] = ERROR_TYPES.index("background")
        return kinds, target
    taken = np.isin(np.arange(overlap.shape[1]), found)
    own, other = np.where(same, overlap, 0), np.where(same, 0, overlap)
    nearest, near = own.argmax(1), own.max(1)
    tests = {
        "localisation": (near >= BACKGROUND) & (near <= FOREGROUND),
        "classification": other.max(1) >= FOREGROUND,
        "duplicate": (own * taken).max(1) >= FOREGROUND,
        "background": overlap.max(1) <= BACKGROUND,
    }
    which = np.select([*tests.values()], [ERROR_TYPES.index(name) for name in tests], ERROR_TYPES.index("both"))
    kinds[wrong] = which[wrong]
    for name, objects in (("localisation", nearest), ("classification", other.argmax(1))):
        mine = kinds == ERROR_TYPES.index(name)
        target[mine] = objects[mine]
    return kinds, target
