"""The commands of YOLOv5's and YOLOAir's documents: each works, or is refused with what to do instead."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from utils.cli import parse, parse_with
from utils.config import DetectConfig, Hyp, TrainConfig, ValConfig
from utils.errors import UserError
from utils.export.config import ExportConfig
from utils.export.registry import find_format

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
    found = parse_with(TrainConfig, Hyp, argv)[0] if script == "train.py" else parse(CONFIGS[script], argv)[0]
    if isinstance(found, ExportConfig):
        assert all(find_format(name) for name in found.include)
    return found


def has_script(command: str) -> bool:
    return (ROOT / next(word for word in shlex.split(command) if word.endswith(".py"))).is_file()


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
    if not has_script(theirs):
        return
    import train

    with pytest.raises(UserError, match=r"not supported: use|not supported: feature maps|nothing to train: give --weights"):
        train.main(shlex.split(theirs)[2:]) if " train.py" in theirs else settings(theirs)


@pytest.mark.parametrize(("command", "reason"), REFUSED)
def test_a_command_that_is_refused(command: str, reason: str) -> None:
    assert reason
    if has_script(command):
        with pytest.raises(UserError, match=r"is not supported: |invalid choice: 'val'"):
            settings(command)
