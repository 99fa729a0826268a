"""The status a script ends with."""

from __future__ import annotations

import signal

import pytest

from utils.cli import run
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
