"""The table that ``python -m models.show`` prints."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from models import show
from models.profiling import RowCost, compared
from models.spec.model_spec import ModelSpec, base_of
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
    assert lines[0] == ["row", "base", "from", "repeats", "module", "args", "output", "parameters", "GFLOPs"]
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
    with pytest.raises(UserError, match="--nc must be >= 0"):
        show.main(["yolov5n", "--nc", "-1"])


def test_cost_of_rows_and_of_the_edit(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(caplog, monkeypatch, "yolov5n-ca", "--nc", "3", "--cost", "--imgsz", "128")
    assert lines[0].split() == ["row", "base", "from", "repeats", "module", "args", "parameters", "GFLOPs", "ms", "MiB"]
    # Batch norm and SiLU keep a map each: 2 x 16 x 64 x 64 floats; the convolution's input is the image, which is there anyway.
    assert lines[1].split()[-1] == "0.5"
    assert [line.split()[-4] for line in lines if "CoordAtt" in line] == ["1,688", "3,352", "6,680"]
    assert lines[-3].startswith("yolov5n-ca: 28 rows, 1,779,696 parameters, 0.2 GFLOPs at 128x128")
    assert lines[-1].startswith("against yolov5n.yaml: +11,720 parameters (+0.7 %), +0.000 GFLOPs (+0.1 %), ")


def test_a_classic_file_has_no_base(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(caplog, monkeypatch, "yolov5n", "--cost", "--imgsz", "64")
    assert lines[-1].startswith("one image: ")
    assert base_of("yolov5n") is None
    base = base_of("yolov5m-ca")
    assert base is not None
    assert base == ModelSpec.from_yaml("yolov5m")
    assert base.where.endswith("yolov5m.yaml")


def test_an_edit_costs_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    assert compared(RowCost(110, 2.0, 5.0, 30.0), RowCost(100, 4.0, 5.0, 20.0)) == (
        "+10 parameters (+10.0 %), -2.000 GFLOPs (-50.0 %), +0.0 ms (+0.0 %), +10.0 MiB (+50.0 %)"
    )


def test_what_differs_from_yoloairs_copies_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bot.yaml").write_text("base: yolov5n.yaml\nedits: [{after: 9, insert: [3, BoT3, [1024]]}]")
    assert shown(caplog, monkeypatch, str(tmp_path / "bot.yaml"))[-1].startswith("BoT3 (row 10) is not YOLOAir's copy: logits over sqrt(d)")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "models.show", *argv], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_bad_table_is_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("base: yolov5n.yaml\nedits: [{after: 9, insert: [1, CordAtt, []]}]")
    result = run(str(tmp_path / "bad.yaml"))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "row 10 (CordAtt): unknown module 'CordAtt'; did you mean 'CoordAtt'?" in result.stderr


def test_a_spec_needs_no_torch() -> None:
    code = "import sys, models, models.spec.model_spec, models.show; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_row_that_nothing_reads_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "models" / "yolov5n.yaml").read_text()
    cfg = tmp_path / "inserted.yaml"
    line = next(line for line in text.splitlines() if "SPPF" in line)
    cfg.write_text(text.replace(line, f"{line.replace('SPPF, [1024, 5]', 'CBAM, [1024]')}\n{line}"))
    assert "row 24 (C3) is read by no row" in shown(caplog, monkeypatch, str(cfg), "--nc", "3", "--imgsz", "64")[-1]
