"""The status a script ends with."""

from __future__ import annotations

import logging
import signal

import pytest

from utils.cli import parse, run
from utils.config import DetectConfig, TrainConfig
from utils.errors import StopError, UserError


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (None, 0, ""),
        (UserError("no such file"), 2, "error: no such file\n"),
        (StopError("stopped by SIGTERM"), 75, "stopped by SIGTERM\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_status(error, status, message, capsys):
    def main() -> None:
        if error:
            raise error

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        with pytest.raises(SystemExit) as ended:
            run(main)
        found = {signal.getsignal(number) for number in before}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended.value.code == status
    assert capsys.readouterr().err == message
    assert found == ({signal.SIG_IGN} if status == 75 else set(before.values()))  # what comes on the way out does not change the status


def test_a_deleted_working_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(SystemExit):
        run(lambda: None)
    assert capsys.readouterr().err == "error: the working folder has been deleted; change to another one\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evolve_population=data/hyps"], "--evolve-population is not supported: --evolve N begins with the given hyper-parameters"),
        (["--resume_evolve", "x.yaml"], "--resume-evolve is not supported: .*--resume FOLDER goes on with it"),
        (["--entity", "me", "--quad"], "--quad is not supported: .*--multi-scale"),
        (["--nosav-e"], "unknown argument '--nosav-e'; did you mean '--nosave'"),
        (["--zzz"], r"unknown argument '--zzz' \(--help lists every flag\)"),
        (["--entity", "me", "you"], "unknown argument 'you'"),
    ],
)
def test_flags_of_yolov5_are_answered_with_what_to_do(arguments, message):
    with pytest.raises(UserError, match=message):
        parse(TrainConfig, arguments)


def test_flags_of_loggers_are_ignored_with_a_line(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("attune"), "propagate", True)
    flags = [
        "--entity",
        "me",
        "--upload_dataset",
        "--bbox_interval",
        "-1",
        "--artifact_alias=latest",
        "--upload_dataset",
        "val",
        "--epochs",
        "3",
    ]
    config, given = parse(TrainConfig, flags)
    assert (config.epochs, given) == (3, {"epochs"})
    named = [record.message.partition(" is ignored: ")[0] for record in caplog.records]
    assert named == ["--entity", "--upload-dataset", "--bbox-interval", "--artifact-alias", "--upload-dataset"]
    assert parse(DetectConfig, ["--update"])[0] == DetectConfig()
