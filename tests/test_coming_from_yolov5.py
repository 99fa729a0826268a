"""The commands of YOLOv5's and YOLOAir's documents: each works, or is refused with what to do instead."""

from __future__ import annotations

import functools
import importlib.util
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import export
from utils.cli import parse, parse_with
from utils.config import DetectConfig, Hyp, TrainConfig, ValConfig
from utils.errors import UserError
from utils.export.config import ExportConfig
from utils.export.registry import find_format
from utils.training.search_space import SearchConfig

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "coming-from-yolov5.md"
CONFIGS = {"val.py": ValConfig, "detect.py": DetectConfig, "export.py": ExportConfig}


def rows(title: str) -> list[tuple[str, str]]:
    """The two cells of each row of the table under a heading."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `((?:python|torchrun) [^`]*)` \| ?(.*?) ?\|$", section, re.MULTILINE)


def settings(command: str) -> TrainConfig | ValConfig | DetectConfig | ExportConfig:
    """Parse a command of one of our scripts."""
    words = shlex.split(command)
    script = next(word for word in words if word.endswith(".py"))
    argv = words[words.index(script) + 1 :]
    found = parse_with(SearchConfig, Hyp, argv)[0] if script == "train.py" else parse(CONFIGS[script], argv)[0]
    if isinstance(found, ExportConfig):
        assert all(find_format(name) for name in found.include)
    return found


def refuses(command: str) -> bool:
    """Whether the command's script only tells what to use in its place, and does so."""
    script = next(word for word in shlex.split(command) if word.endswith(".py"))
    if script == "train.py" or script in CONFIGS:
        return False
    with pytest.raises(SystemExit, match=f"error: {script} is (not supported: |no command: )"):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return True


WORKING, OTHERWISE, REFUSED = (rows(t) for t in ("These work unchanged", "These are written another way", "These are not supported"))


def test_there_are_ninety() -> None:
    assert len(WORKING) + len(OTHERWISE) + len(REFUSED) >= 90


@pytest.mark.parametrize("command", [command for command, _ in WORKING])
def test_a_command_that_works(command: str) -> None:
    found = settings(command)
    if isinstance(found, TrainConfig):
        assert found.weights or found.cfg or found.resume
        assert (ROOT / "data" / "hyps" / Path(found.hyp).name).is_file()


@pytest.mark.parametrize(("theirs", "ours"), OTHERWISE)
def test_a_command_that_is_written_another_way(theirs: str, ours: str) -> None:
    if not ours.startswith("`python -m"):
        assert settings(ours.strip("`"))
    if refuses(theirs):
        return
    import train

    with pytest.raises(UserError, match=r"not supported: use|not supported: feature maps|nothing to train: give --weights"):
        train.main(shlex.split(theirs)[2:]) if " train.py" in theirs else settings(theirs)


@pytest.mark.parametrize(("command", "reason"), REFUSED)
def test_a_command_that_is_refused(command: str, reason: str) -> None:
    assert reason
    if not refuses(command):
        with pytest.raises(UserError, match=r"is not supported: |invalid choice: 'val'"):
            settings(command)


ELSEWHERE = re.compile(r"--source (0|screen|'rtsp)|--view-img|--device 0|torchrun|torch\.distributed|--task study")
"""Needs a camera, a screen, a network, GPUs, more processes; or evaluates eleven sizes."""
EXTRAS = {"onnx": "onnxruntime", "openvino": "openvino", "simplify": "onnxslim", "coreml": "coremltools", "tflite": "litert_torch"}
EXPORTED = {"yolov5s.onnx": "onnx", "yolov5s.torchscript": "torchscript", "yolov5s_openvino_model": "openvino"}
PARTS = {"train.py": "--imgsz 64 --epochs 1 --batch-size 4 --workers 0 --noplots", "val.py": "--imgsz 64 --batch-size 4 --workers 0"}


@pytest.fixture(scope="module")
def checkout(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands name: weights (YOLOv5n's under every name), 8 images in four layouts, a video, YOLOAir's files."""
    import cv2

    from models.spec.find_yaml import find_model
    from utils.files.yaml_file import read_yaml

    if not (shared / "yolov5n.pt").is_file():
        pytest.skip("no weights")
    root = tmp_path_factory.mktemp("checkout")
    names = read_yaml(ROOT / "data" / "coco128.yaml")["names"]
    pictures = sorted((shared / "coco128/images/train2017").glob("*.jpg"))[:8]
    for layout in ("my", "coco", "coco128", "VOC"):
        for split in ("train", "val", "test"):
            for kind in ("images", "labels"):
                (root / layout / kind / split).mkdir(parents=True)
            for picture in pictures:
                label = shared / "coco128/labels/train2017" / f"{picture.stem}.txt"
                shutil.copy(picture, root / layout / "images" / split)
                shutil.copy(label, root / layout / "labels" / split)
        content = {"path": layout, **{split: f"images/{split}" for split in ("train", "val", "test")}, "names": names}
        for folder in (root, root / "data"):
            folder.mkdir(exist_ok=True)
            (folder / f"{layout}.yaml").write_text(yaml.safe_dump(content))
    for folder in ("path", "data/images"):
        (root / folder).mkdir(parents=True)
        shutil.copy(pictures[0], root / folder / "img.jpg")
    shutil.copy(pictures[0], root / "img.jpg")
    (root / "list.txt").write_text("path/img.jpg\n")
    video = cv2.VideoWriter(str(root / "vid.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    for picture in pictures:
        video.write(cv2.resize(cv2.imread(str(picture)), (64, 64)))
    video.release()
    for name in (*(f"yolov5{size}" for size in "nsmlx"), "yolov5s6", "yolov5l6", "best", "a", "b"):
        shutil.copy(shared / "yolov5n.pt", root / f"{name}.pt")
    (root / "runs/train/exp/weights").mkdir(parents=True)
    shutil.copy(shared / "yolov5n.pt", root / "runs/train/exp/weights/last.pt")
    for name, model in (("yolov5/yolov5s", "yolov5n"), ("attention/yolov5s_CA", "yolov5n-ca")):
        (root / "configs" / name).parent.mkdir(parents=True)
        file = find_model(Path(model))[0]
        base = find_model(Path("yolov5n"))[0]
        (root / "configs" / f"{name}.yaml").write_text(file.read_text().replace("base: yolov5s.yaml", f"base: {base}"))
    return root


def can_run(command: str) -> bool:
    missing = [word for word, package in EXTRAS.items() if word in command and importlib.util.find_spec(package) is None]
    if "coreml" in command and np.lib.NumpyVersion(np.__version__) >= "2.4.0":  # coremltools 9.0 fails with it
        return False
    return not (missing or ELSEWHERE.search(command) or "--resume" in command or ".streams" in command)


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in (*(c for c, _ in WORKING), *(ours.strip("`") for _, ours in OTHERWISE)) if can_run(c)])
def test_a_command_runs(command: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One epoch at 64 pixels, where the command says more."""
    words = shlex.split(command)
    module = words[1] == "-m"
    script, rest = (words[2], words[3:]) if module else (words[1], words[2:])
    for name, form in EXPORTED.items():
        if name in rest and not (checkout / name).exists():
            export.main(["--weights", str(checkout / "yolov5s.pt"), "--include", form, "--img", "64"])
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(sys, "argv", [script, *rest, *PARTS.get(script, "" if module else "--imgsz 64").split()])
    start = functools.partial(runpy.run_module, script, alter_sys=True) if module else functools.partial(runpy.run_path, str(ROOT / script))
    with pytest.raises(SystemExit) as left:
        start(run_name="__main__")
    assert left.value.code == 0
