"""A window that shows images as they come, where there is a display."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.log import printable

_END = {ord("q"), ord("Q"), 27}


class Window:
    """Call it with a title and a (H, W, 3) uint8 BGR image."""

    def __call__(self, title: str, image: NDArray[np.uint8]) -> bool:
        """Show the image; False when q or Escape was pressed.

        Raises:
            UserError: OpenCV cannot open windows here.
        """
        try:
            cv2.imshow(printable(title), image)
            return cv2.waitKey(1) & 0xFF not in _END
        except cv2.error as error:
            raise UserError(f"--view-img: OpenCV cannot open a window here ({error.err}); omit the flag") from error
