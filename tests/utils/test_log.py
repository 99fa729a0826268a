import logging

from utils.log import printable, start_log


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
