"""Broken, odd and vanishing images: each has its verdict, the others go on, and not one byte is written."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from tests.faults.image_files import Case, Verdict, absent, broken, content, encoded, link, png_header, sound
from tests.faults.tally import Tally, bytes_changed, snapshot
from utils.config import Hyp
from utils.data.config import load_data
from utils.data.doctor.diagnosis import diagnose
from utils.data.index import Index
from utils.data.loading.loader import Loader, train_loader, val_loader
from utils.data.scan import load_index
from utils.data.shapes import write_dataset
from utils.errors import UserError
from utils.inference.sources import Files, is_video
from utils.log import LOG

GOOD = 4


def run(folder: Path, *, short: bool) -> Tally:
    """Read a dataset of nothing but odd images, and damage images while they are loaded."""
    tally = Tally("images")
    LOG.setLevel(logging.CRITICAL)
    _data_set(folder / "set", tally, short)
    _twins(folder / "twins", tally)
    for name, damage, patch in _accidents():
        for workers in (0,) if short else (0, 2):
            if workers and patch is not None:
                continue  # a patch of this process does not reach the workers
            _accident(folder / f"{name}-{workers}", name, damage, patch, workers, tally)
    return tally


def write_set(root: Path, cases: list[Case]) -> Path:
    """Write a dataset of one class: good images and the cases, all with a label of one box."""
    images, labels = root / "images", root / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    for number in range(GOOD):
        (images / f"good-{number}.jpg").write_bytes(encoded())
    for name, make, _ in cases:
        make(images / name)
    for path in sorted(images.iterdir()):
        label = labels / f"{path.stem}.txt"
        label.write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [thing]\n")
    return root / "data.yaml"


def _data_set(root: Path, tally: Tally, short: bool) -> None:
    usable, unusable, gone = sound(), broken(), absent()
    cases = [*usable, *unusable, *gone]
    source = write_set(root, cases)
    before = snapshot(root)
    index = load_index(load_data(source), "train", cache_dir=root.parent / "own-cache")
    texts = {Path(finding.path).name: finding.text for finding in index.report.findings}
    sizes = {path.name: tuple(size) for path, size in zip(index.paths, index.sizes.tolist(), strict=True)}
    for name, _, verdict in cases:
        said = sizes.get(name) or texts.get(name, "nothing")
        tally.fault(
            _as_expected(said, verdict) and _detected(root / "images" / name, verdict), f"{name!a}: expected {verdict}, found {said}"
        )
    report = index.report
    counts = report.images, report.labelled, report.corrupt, report.absent, report.boxes, report.dropped, report.kinds
    wanted = GOOD + len(usable)
    loops = len(gone) + 1  # the loop consists of two links
    exact = (wanted, wanted, len(unusable), loops, wanted, 0, {"image": len(unusable) + loops})
    tally.fault(counts == exact, f"counts: expected {exact}, found {counts}")
    for loader in _loaders(index, 0 if short else 2):
        seen = [number for batch in loader.epoch(0) for number in batch.indices]
        tally.fault(sorted(seen) == list(range(wanted)) and not loader.faults, f"loading: {len(seen)} of {wanted}, faults {loader.faults}")
        loader.close()
    found = diagnose(source, imgsz=64, distance=10)
    errors = {group.kind: group.count for group in found.groups if group.severity == "error"}
    tally.fault(errors.get("image") == len(unusable) + loops, f"the doctor's errors: {errors}, expected {len(unusable) + loops}")
    tally.bytes_changed += bytes_changed(before, root)


def _twins(root: Path, tally: Tally) -> None:
    """Put pictures of train into val, too, in several ways: the doctor names each of them, and none besides."""
    data = write_dataset(root, {"train": 8, "val": 4}, size=192, seed=4)
    train, val = sorted((root / "images" / "train").iterdir()), root / "images" / "val"
    (val / "link.jpg").symlink_to(train[0])
    shutil.copyfile(train[1], val / "copy.jpg")
    with Image.open(train[2]) as small, Image.open(train[3]) as grey, Image.open(train[4]) as bright:
        small.resize((96, 96)).save(val / "small.jpg", quality=50)
        grey.convert("L").save(val / "grey.png")
        bright.point(lambda value: min(255, value * 1.1)).save(val / "bright.webp")
    before = snapshot(root)
    groups = diagnose(data, imgsz=64, distance=10).groups
    found = {Path(finding.path).name for group in groups if group.kind == "leak" for finding in group.findings}
    for name in ("link.jpg", "copy.jpg", "small.jpg", "grey.png", "bright.webp"):
        tally.fault(name in found, f"{name} of val is in train too: the doctor names {sorted(found)}")
    tally.fault(len(found) == 5, f"pictures in two splits: {sorted(found)}")
    tally.bytes_changed += bytes_changed(before, root)


def _as_expected(said: object, verdict: Verdict) -> bool:
    return bool(re.search(verdict, said)) if isinstance(verdict, str) and isinstance(said, str) else said == verdict


def _detected(path: Path, verdict: Verdict) -> bool:
    """Whether detection comes to the same verdict; it has no least size."""
    if is_video(path) or verdict == "must be >= 10":
        return True
    source = Files([path])
    found = [frame.image.shape[:2] for frame in source]
    if isinstance(verdict, str):
        return not found and bool(re.search(verdict, source.failures.get(str(path), "")))
    return found == [verdict] and not source.failures


def _loaders(index: Index, workers: int) -> list[Loader]:
    return [
        val_loader(index, imgsz=64, batch_size=4, workers=workers),
        train_loader(index, imgsz=64, batch_size=4, hyp=Hyp(), seed=0, workers=workers),
    ]


Patch = Callable[[Path], AbstractContextManager[object]]


def _accidents() -> list[tuple[str, Callable[[Path], object] | None, Patch | None]]:
    """What may happen to an image between the scan and its use: a name, what is done to the file, what is done to the system."""

    def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
        def replace(path: Path) -> None:
            path.unlink()
            make(path)

        return replace

    def refusing(number: int) -> Patch:
        def patch(path: Path) -> AbstractContextManager[object]:
            real = os.open

            def opened(file: object, *arguments: object, **options: object) -> int:
                if str(file) == str(path):
                    raise OSError(number, os.strerror(number))
                return real(file, *arguments, **options)  # type: ignore[arg-type]

            return mock.patch("os.open", opened)

        return patch

    return [
        ("vanished", Path.unlink, None),
        ("truncated", lambda path: os.truncate(path, 700), None),
        ("emptied", lambda path: os.truncate(path, 0), None),
        ("pipe", instead(os.mkfifo), None),
        ("folder", instead(Path.mkdir), None),
        ("loop", instead(lambda path: path.symlink_to(path)), None),
        ("bomb", instead(content(png_header(30000, 30000))), None),
        ("text", instead(content(b"gone")), None),
        ("device", instead(link("/dev/zero")), None),
        ("EACCES", None, refusing(errno.EACCES)),
        ("EIO", None, refusing(errno.EIO)),
        ("EMFILE", None, refusing(errno.EMFILE)),
        ("smaller", instead(content(encoded(size=(30, 40)))), None),
        ("larger", instead(content(encoded(size=(300, 100)))), None),
    ]


def _accident(root: Path, name: str, damage: Callable[[Path], object] | None, patch: Patch | None, workers: int, tally: Tally) -> None:
    """Load an epoch before and one after something happened to one image: it alone is missing, or of its new content."""
    source = write_set(root, [])
    victim = root / "images" / "good-1.jpg"
    index = load_index(load_data(source), "val", cache_dir=root.parent / "own-cache")
    number = index.paths.index(victim)
    first, second = (val_loader(index, imgsz=64, batch_size=2, workers=workers) for _ in range(2))
    whole = _images(first)
    if damage:
        damage(victim)
    before = snapshot(root)
    with patch(victim) if patch else nullcontext():
        found = _images(second)
        training = train_loader(index, imgsz=64, batch_size=2, hyp=Hyp(), seed=0, workers=workers)
        try:
            batches = sum(1 for _ in training.epoch(0))
        except UserError as error:
            batches, name = -1, f"{name} ({error})"
    lost = [] if name in ("smaller", "larger") else [str(victim)]
    others = all(np.array_equal(whole[i], found[i]) for i in whole if i != number)
    ok = list(second.faults) == lost == list(training.faults) and others and found.keys() == whole.keys() and batches == 2
    tally.fault(ok, f"{name}, {workers} workers: faults {second.faults} and {training.faults}, others equal: {others}, {batches} batches")
    for loader in (first, second, training):
        loader.close()
    tally.bytes_changed += bytes_changed(before, root)


def _images(loader: Loader) -> dict[int, np.ndarray]:
    return {number: image.numpy().copy() for batch in loader.epoch(0) for number, image in zip(batch.indices, batch.images, strict=True)}
