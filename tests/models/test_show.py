"""The table that ``python -m models.show`` prints."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models import show
from utils.config import ROOT
from utils.errors import UserError


def shown(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *argv: str) -> list[str]:
    monkeypatch.setattr(show, "start_log", lambda: None)
    with caplog.at_level(logging.INFO, "attune"):
        monkeypatch.setattr(logging.getLogger("attune"), "propagate", True)
        show.main(argv)
    return "\n".join(record.getMessage() for record in caplog.records).splitlines()


def test_the_table(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.split() for line in shown(caplog, monkeypatch, "yolov5n-ca", "--nc", "3")]
    assert lines[0] == ["row", "base", "from", "number", "module", "args", "output", "parameters", "GFLOPs"]
    assert lines[1] == ["0", "0", "-1", "1", "Conv", "[64,", "6,", "2,", "2]", "16x320x320", "1,760", "0.357"]
    assert lines[6] == ["5", "4+CoordAtt", "-1", "1", "CoordAtt", "[32]", "64x80x80", "1,688", "0.000"]
    assert lines[20][:4] == ["19", "16", "[-1,", "5]"]
    assert " ".join(lines[29]) == "yolov5n-ca: 28 rows, 1,779,696 parameters, 4.2 GFLOPs at 640x640, 3 classes, strides 8, 16, 32"


def test_the_list_of_modules_and_of_a_plug_in(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"CoordAtt", "C3", "nn.Upsample"} <= set(shown(caplog, monkeypatch, "--modules"))
    with pytest.raises(UserError, match="no such file"):
        show.main(["yolov5n", "--plugins", "nowhere.py"])
    with pytest.raises(UserError, match="name a model YAML"):
        show.main([])
    with pytest.raises(UserError, match="are positive"):
        show.main(["yolov5n", "--nc", "-1"])


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "models.show", *argv], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_bad_table_is_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("base: yolov5n.yaml\nedits: [{after: 9, insert: [1, CordAtt, []]}]")
    result = run(str(tmp_path / "bad.yaml"))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "row 10 (CordAtt): unknown module 'CordAtt'; did you mean 'CoordAtt'?" in result.stderr


def test_help_loads_no_torch() -> None:
    start = time.perf_counter()
    assert run("--help").returncode == 0
    assert time.perf_counter() - start < 2  # 0.13 s on a free machine
    code = "import sys, models, models.spec, models.show; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
