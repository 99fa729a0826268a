"""The status a script ends with."""

from __future__ import annotations

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

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == status
    assert capsys.readouterr().err == message
