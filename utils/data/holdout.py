"""Hold a validation split out of a dataset's training images.

    python -m utils.data.holdout DATA --share 0.2 --out datasets/mine

For a dataset with training and test images only: choosing an epoch or a variant by its test score invalidates the test. Writes a data
YAML and two lists of images; the dataset itself is not modified.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import yaml

from utils.cli import option, parse, run
from utils.errors import UserError
from utils.log import LOG, start_log


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutConfig:
    """Flags of ``python -m utils.data.holdout``."""

    data: str = option("", "dataset: a YAML or a folder of images and labels", positional=True)
    out: str = option("datasets/holdout", "new folder for data.yaml, train.txt and val.txt")
    share: float = option(0.2, "fraction of the training images to hold out, between 0 and 1")
    seed: int = option(0, "random seed of the selection")

    def __post_init__(self) -> None:
        if not self.data:
            raise UserError("name a dataset: python -m utils.data.holdout DATA --out FOLDER")
        if not 0 < self.share < 1:
            raise UserError(f"--share {self.share}: must be between 0 and 1")


def held_out(paths: Sequence[Path], share: float, seed: int) -> frozenset[Path]:
    """Choose a `share` of the images, at least one and not all, by a hash of their names.

    When images are added or removed, nearly all others stay in their split.
    """
    count = min(max(round(len(paths) * share), 1), len(paths) - 1)
    return frozenset(sorted(paths, key=lambda p: hashlib.sha256(f"{seed}/{p.name}".encode(errors="surrogateescape")).digest())[:count])


def write_holdout(config: HoldoutConfig) -> Path:
    """Write the lists and the YAML, and return the YAML's path.

    Raises:
        UserError: no such dataset, one that cannot be written as lists of images, or an existing output folder.
    """
    from utils.data.config import load_data
    from utils.data.scan import load_index

    data = load_data(config.data, complete=False)
    if "val" in data.splits and data.splits["val"] != data.entries("train"):
        raise UserError(f"{data.yaml}: already has a val split; there is no need to hold one out")
    if data.partners or any(entry.suffix.lower() == ".json" for entry in data.entries("train")):
        raise UserError(f"{data.yaml}: its label folder is given explicitly; holding out needs YOLO or VOC labels in the default places")
    paths = load_index(data, "train").paths
    if len(paths) < 2:
        raise UserError(f"{data.yaml}: {len(paths)} training image(s); at least two are needed")
    chosen, out = held_out(paths, config.share, config.seed), Path(config.out)
    try:
        out.mkdir(parents=True)
        for split, some in (("train", [p for p in paths if p not in chosen]), ("val", [p for p in paths if p in chosen])):
            (out / f"{split}.txt").write_text("".join(f"{p.resolve()}\n" for p in some), encoding="utf-8", errors="surrogateescape")
        tests = {"test": [str(p.resolve()) for p in data.splits["test"]]} if "test" in data.splits else {}
        content = {"train": "train.txt", "val": "val.txt", **tests, "names": data.names}
        (out / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    except FileExistsError as error:
        raise UserError(f"--out {out}: already exists; name another folder, or remove it first") from error
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    return out / "data.yaml"


def main() -> None:
    """Run the command line."""
    config, _ = parse(HoldoutConfig, description=__doc__ or "")
    start_log()
    path = write_holdout(config)
    LOG.info(
        "%s: %d training and %d validation images", path, *(sum(1 for _ in path.with_name(f"{s}.txt").open()) for s in ("train", "val"))
    )


if __name__ == "__main__":
    run(main)
