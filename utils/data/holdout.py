"""Hold a validation split out of a dataset's training images.

    python -m utils.data.holdout DATA --share 0.2 --out datasets/mine

For a dataset with training and test images only: choosing an epoch or a variant by its test score invalidates the test. Writes a data
YAML and, for each split, a list of its images or a COCO file; the dataset itself is not modified.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from utils.cli import option, parse, run
from utils.errors import UserError
from utils.files.atomic import write_text
from utils.log import LOG, start_log

if TYPE_CHECKING:
    from utils.data.config import DataConfig

Kept = Mapping[str, Collection[Path]]
"""The images of each split."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutConfig:
    """Flags of ``python -m utils.data.holdout``."""

    data: str = option("", "dataset: a YAML, a COCO JSON, or a folder of images and labels", positional=True)
    out: str = option("datasets/holdout", "new folder for data.yaml and the lists or COCO files of both splits")
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
    """Write the lists, or COCO files, and the YAML, and return the YAML's path.

    Raises:
        UserError: no such dataset, one with a val split of its own, or an existing output folder.
    """
    from utils.data.config import load_data
    from utils.data.scan import load_index

    data = load_data(config.data, complete=False)
    trained = data.entries("train")
    if "val" in data.splits and data.splits["val"] != trained:
        raise UserError(f"{data.yaml}: already has a val split; there is no need to hold one out")
    paths = load_index(data, "train").paths
    if len(paths) < 2:
        raise UserError(f"{data.yaml}: {len(paths)} training image(s); at least two are needed")
    chosen, out = held_out(paths, config.share, config.seed), Path(config.out)
    content: dict[str, Any] = {"train": [], "val": []}
    try:
        out.mkdir(parents=True)
    except OSError as error:
        exists = isinstance(error, FileExistsError)
        reason = "already exists; name another folder, or remove it first" if exists else f"cannot be created ({error.strerror})"
        raise UserError(f"--out {out}: {reason}") from error
    try:
        kept = {"train": frozenset(paths) - chosen, "val": chosen}
        for number, entry in enumerate(trained):
            write = write_coco if entry.suffix.lower() == ".json" else write_lists
            for split, part in write(out, str(number or ""), data, entry, kept):
                content[split].append(part)
        if data.splits.get("test", trained) != trained:
            content["test"] = [data_entry(entry.absolute(), data.partners.get(entry)) for entry in data.splits["test"]]
        content["names"] = data.names
        if data.keypoints:
            values = 2 if data.keypoints % 3 else 3
            content["kpt_shape"] = [data.keypoints // values, values]
        write_text(out / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"--out {out}: cannot be written ({error.strerror or error})") from error
        raise
    return out / "data.yaml"


def write_lists(out: Path, number: str, data: DataConfig, entry: Path, kept: Kept) -> Iterator[tuple[str, str | dict[str, str]]]:
    """Write those of an entry's images that are `kept` in each split as a list, and yield split and entry."""
    from utils.data.labels.find_files import entry_images

    images = entry_images(entry)[0]
    for split, some in kept.items():
        file, own = out / f"{split}{number}.txt", [path for path in images if path in some]
        if not own:
            continue
        write_text(file, "".join(f"{path.absolute()}\n" for path in own))
        yield split, data_entry(Path(file.name), data.partners.get(entry))


def write_coco(out: Path, number: str, data: DataConfig, entry: Path, kept: Kept) -> Iterator[tuple[str, str]]:
    """Write those of a COCO file's images that are `kept` in each split, with full paths and annotations; yield split and file."""
    from utils.data.labels.coco import read_coco
    from utils.data.labels.image_lists import read_source
    from utils.data.sources import MAX_JSON_BYTES

    coco = read_coco(entry, read_source(entry, MAX_JSON_BYTES), data.partners.get(entry), data.root)
    for split, some in kept.items():
        images = [image for image in coco.images if image.path in some]
        content = {
            "images": [{"id": i.image_id, "file_name": str(i.path.absolute()), "height": i.size[0], "width": i.size[1]} for i in images],
            "annotations": [annotation | {"image_id": i.image_id} for i in images for annotation in i.annotations],
            "categories": [{"id": key, "name": name} for key, name in coco.categories.items()],
        }
        write_text(out / f"{split}{number}.json", json.dumps(content))
        yield split, f"{split}{number}.json"


def data_entry(path: Path, partner: Path | None) -> str | dict[str, str]:
    """Return an entry of a split in a data YAML."""
    if partner is None:
        return str(path)
    labels, images = (path, partner.absolute()) if path.suffix.lower() == ".json" else (partner.absolute(), path)
    return {"images": str(images), "annotations": str(labels)}


def main() -> None:
    """Run the command line."""
    config, _ = parse(HoldoutConfig, description=__doc__ or "")
    start_log()
    from utils.data.config import load_data
    from utils.data.scan import load_index

    path = write_holdout(config)
    data = load_data(path)
    LOG.info("%s: %d training and %d validation images", path, *(len(load_index(data, split)) for split in ("train", "val")))


if __name__ == "__main__":
    run(main)
