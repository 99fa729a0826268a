import logging

import pytest

from utils.errors import UserError
from utils.runs import new_run_folder, printable, start_log


def test_each_run_gets_a_folder_of_its_own(tmp_path):
    made = [new_run_folder(tmp_path / "runs", "exp").name for _ in range(3)]
    assert made == ["exp", "exp2", "exp3"]
    assert new_run_folder(tmp_path / "runs", "exp", exist_ok=True).name == "exp"


def test_a_place_where_no_folder_can_be_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        new_run_folder(tmp_path / "file", "exp")


def test_the_log_takes_any_file_name(capsys):
    start_log()
    start_log()
    logging.getLogger("attune").info("a\udcffb")
    logging.getLogger("attune").debug("too much")
    out, err = capsys.readouterr()
    assert out == "a\\udcffb\n"
    assert err == ""


def test_a_quiet_log_keeps_warnings(capsys):
    start_log(quiet=True)
    logging.getLogger("attune").info("no")
    logging.getLogger("attune").warning("yes")
    assert capsys.readouterr().out == "yes\n"


def test_printable():
    assert printable("a\x1b[2J\nü\udcff") == "a?[2J?ü?"
