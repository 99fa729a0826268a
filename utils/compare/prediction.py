"""Another program's predictions in a study's plan."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Predictions in COCO's results format as an arm.

    Attributes:
        name: unique in the study.
        file: absolute path of the JSON.
        digest: SHA-256 of that file.
    """

    name: str
    file: str
    digest: str
