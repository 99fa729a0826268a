"""The short form of every group of injected faults, and the counting itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.isolation import groups
from tests.faults.tally import Tally, bytes_changed, header, line, snapshot, total

ROOT = Path(__file__).resolve().parent.parent


# Of the others the short form runs in CI, by `make faults-short`: the tests of what they harm inject the like.
DEFAULT = {"hostile", "images", "kill", "streams"}


@pytest.mark.parametrize("group", [g if g in DEFAULT else pytest.param(g, marks=pytest.mark.slow) for g in groups()])
def test_everything_is_as_specified(group: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--short", "--group", group],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert group in done.stdout


def test_one_failure_is_enough() -> None:
    tally = Tally("flips")
    tally.fault(True, "a bit of the header")
    assert tally.as_specified
    tally.fault(False, "a bit of the data: not noticed")
    assert (tally.injected, tally.survived, tally.failures) == (2, 1, ["a bit of the data: not noticed"])
    assert not tally.as_specified
    assert not Tally("kill", injected=1, survived=1, steps_lost=1).as_specified


def test_the_total_is_the_sum() -> None:
    everything = total([Tally("a", 3, 2, bytes_changed=7, failures=["x"], seconds=1.0), Tally("b", 4, 4, seconds=0.5)])
    assert line(everything).split() == ["total", "7", "6", "0", "0", "7", "0", "1.5"]
    assert everything.failures == ["x"]
    assert len(header()) == len(line(everything))


def test_every_changed_byte_is_counted(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"abc")
    (tmp_path / "gone").write_bytes(b"12345")
    (tmp_path / "grown").write_bytes(b"12")
    (tmp_path / "empty").touch()
    before = snapshot(tmp_path)
    assert bytes_changed(before, tmp_path) == 0
    (tmp_path / "gone").unlink()
    (tmp_path / "grown").write_bytes(b"1234")
    (tmp_path / "empty").unlink()
    assert bytes_changed(before, tmp_path) == 5 + 4 + 1
