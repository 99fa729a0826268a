"""Holding a validation part out of the training images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from utils.data.config import load_data
from utils.data.holdout import HoldoutConfig, held_out, write_holdout
from utils.data.scan import load_index
from utils.data.shapes import write_dataset
from utils.errors import UserError


def test_every_training_image_goes_to_one_side(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", {"train": 10, "test": 2}, size=64)
    before = {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    path = write_holdout(HoldoutConfig(data=str(tmp_path / "data"), out=str(tmp_path / "out"), share=0.3))
    data = load_data(path)
    train, val, test = (load_index(data, split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (7, 3, 2)
    assert {p.name for p in (*train.paths, *val.paths)} == {f"{i:05d}.jpg" for i in range(10)}
    whole = load_index(load_data(tmp_path / "data", complete=False), "train")
    assert len(train.annotations) + len(val.annotations) == len(whole.annotations) > 0
    assert data.names == whole.names
    assert before == {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}


def test_the_choice_is_the_seeds_and_stays_when_an_image_goes() -> None:
    paths = [Path(f"{i}.jpg") for i in range(100)]
    chosen = held_out(paths, 0.2, 0)
    assert len(chosen) == 20
    assert held_out(paths[::-1], 0.2, 0) == chosen != held_out(paths, 0.2, 1)
    assert len(held_out(paths[:-10], 0.2, 0) & chosen) >= 15
    assert len(held_out(paths[:2], 0.01, 0)) == len(held_out(paths[:2], 0.99, 0)) == 1


def coco(path: Path, images: Path, names: tuple[str, ...], label: str) -> None:
    """A COCO file with one box an image, as wide as the number in the image's name, and a crowd."""
    write_dataset(images.parent / "drawn", {"train": len(names)}, size=64)
    images.mkdir(parents=True, exist_ok=True)
    for name, picture in zip(names, sorted((images.parent / "drawn").rglob("*.jpg")), strict=True):
        shutil.copy(picture, images / name)
    shutil.rmtree(images.parent / "drawn")
    boxes = [{"id": i, "image_id": f"{i}", "category_id": 7, "bbox": [1, 2, int(n[:2]), 9], "iscrowd": 0} for i, n in enumerate(names)]
    boxes += [{"id": 99, "image_id": "0", "category_id": 7, "bbox": [0, 0, 30, 30], "iscrowd": 1}]
    content = {"images": [{"id": i, "file_name": n, "width": 64, "height": 64} for i, n in enumerate(names)], "annotations": boxes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | {"categories": [{"id": 7, "name": label}, {"id": 9, "name": "none"}]}))


def widths(data: Path, *splits: str) -> dict[str, list[int]]:
    """The width in pixels of each box of each image."""
    index = [load_index(load_data(data), split) for split in splits]
    return {path.name: [round(w * 64) for w in one.annotations_of(i)[:, 3].tolist()] for one in index for i, path in enumerate(one.paths)}


@pytest.mark.parametrize("named", [False, True])
def test_coco_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    """One that finds its images, and two whose image folders a YAML names; with crowds, and ids of two kinds."""
    source, files = tmp_path / "set.json", tuple(f"{i}.jpg" for i in range(10, 20))
    coco(source, tmp_path / "images", files, "disc")
    if named:
        coco(source, tmp_path / "images", files[:6], "disc")
        coco(tmp_path / "more.json", tmp_path / "elsewhere", files[6:], "disc")
        source = tmp_path / "data.yaml"
        entries = ["{images: images, annotations: set.json}", "{images: elsewhere, annotations: more.json}"]
        source.write_text(f"train: [{', '.join(entries)}]\ntest: {entries[0]}\nnames: [other, disc]\n")
    path = write_holdout(HoldoutConfig(data=str(source), out=str(tmp_path / "out"), share=0.3))
    monkeypatch.chdir(tmp_path / "out")
    train, val = widths(path, "train"), widths(path, "val")
    assert (len(train), len(val)) == (7, 3)
    assert train | val == {name: [int(name[:2])] for name in files}
    crowds = [load_index(load_data(path), split).report.crowd for split in ("train", "val")]
    assert sum(crowds) == 1 + named
    assert load_data(path).names == ({0: "other", 1: "disc"} if named else {0: "disc", 1: "none"})
    assert ("test" in load_data(path).splits) == named  # a test split of the same images would not be one
    if named:
        assert len(load_index(load_data(path), "test")) == 6


def test_a_label_folder_that_is_named_and_key_points(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", {"train": 6}, size=64)
    shutil.move(tmp_path / "data/labels/train", tmp_path / "marks")
    for file in (tmp_path / "marks").glob("*.txt"):
        file.write_text("0 0.5 0.5 0.25 0.25 0.4 0.4 2 0.6 0.6 2\n")
    (tmp_path / "d.yaml").write_text("train: {images: data/images/train, annotations: marks}\nnames: [a]\nkpt_shape: [2, 3]\n")
    path = write_holdout(HoldoutConfig(data=str(tmp_path / "d.yaml"), out=str(tmp_path / "out"), share=0.3))
    assert sorted(widths(path, "train", "val").values()) == [[16]] * 6
    assert yaml.safe_load(path.read_text())["kpt_shape"] == [2, 3]


def test_images_that_are_links_keep_the_labels_beside_the_link(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", {"train": 6}, size=64)
    (tmp_path / "store").mkdir()
    for image in [*(tmp_path / "data/images/train").iterdir()]:
        image.symlink_to(image.rename(tmp_path / "store" / image.name))
    whole = load_index(load_data(tmp_path / "data", complete=False), "train")
    path = write_holdout(HoldoutConfig(data=str(tmp_path / "data"), out=str(tmp_path / "out"), share=0.3))
    assert sum(len(load_index(load_data(path), split).annotations) for split in ("train", "val")) == len(whole.annotations) > 0


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path, text: str) -> None:
        if file.suffix == ".yaml":
            raise OSError(28, "No space left on device")
        file.write_text(text)

    write_dataset(tmp_path / "data", {"train": 3, "test": 1}, size=64)
    monkeypatch.setattr("utils.data.holdout.write_text", fail)
    with pytest.raises(UserError, match="out: cannot be written"):
        write_holdout(HoldoutConfig(data=str(tmp_path / "data"), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_refuses_what_it_cannot_do(tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(UserError, match="already has a val split"):
        write_holdout(HoldoutConfig(data=str(tiny_dataset), out=str(tmp_path / "out")))
    with pytest.raises(UserError, match="between 0 and 1"):
        HoldoutConfig(data="x", share=1.0)
    with pytest.raises(UserError, match="name a dataset"):
        HoldoutConfig()
    write_dataset(tmp_path / "data", {"train": 3, "test": 1}, size=64)
    with pytest.raises(UserError, match="already exists"):
        write_holdout(HoldoutConfig(data=str(tmp_path / "data"), out=str(tmp_path)))
