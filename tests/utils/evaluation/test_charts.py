"""Charts with settings of their own."""

from __future__ import annotations

import logging
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from utils.evaluation import charts
from utils.evaluation.charts import plain, plot_confusion
from utils.files.atomic import atomic_write
from utils.images.drawing import text_mask
from utils.images.writing import optional_output


def test_a_matplotlibrc_of_the_user_does_not_count(tmp_path: Path) -> None:
    with mpl.rc_context({"text.usetex": True, "savefig.format": "svg"}):
        plot_confusion(tmp_path / "a.png", np.eye(3, dtype=np.int64), ["\ud800", "a\nb", "$\\frac{$"][:2])
        assert mpl.rcParams["text.usetex"], "the caller's settings have changed"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "error", [RuntimeError("latex"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), MemoryError(), OSError(28, "full")]
)
def test_no_picture_costs_a_result(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "attune"), optional_output():
        raise error
    assert "continuing without" in caplog.text


@pytest.mark.parametrize("name", ["\ud800", "\x1b[2J", "a\r\nb", "x" * 5000, "\u202e", ""])
def test_any_name_can_be_drawn(name: str) -> None:
    assert plain(name).isprintable()
    assert text_mask(name, 12).shape[1] < 10_000


def test_a_failed_picture_leaves_the_file_before_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"before")
    with optional_output(), atomic_write(tmp_path / "a.png", durable=False):
        raise ValueError("a name that cannot be drawn")
    assert (tmp_path / "a.png").read_bytes() == b"before"


def test_a_confusion_matrix_of_more_classes_than_a_picture_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn cell by cell, 5000 classes took 40 seconds and 3.5 GB."""
    drawn: list[Figure] = []
    monkeypatch.setattr(charts, "save", lambda figure, _: drawn.append(figure))
    plot_confusion(tmp_path / "a.png", np.eye(2002, dtype=np.int64), [str(number) for number in range(2001)])
    (picture,) = drawn[0].axes[0].images
    shares = np.asarray(picture.get_array())
    assert shares.shape == (668, 668)
    assert (shares.diagonal() == 1).all()
    assert tuple(picture.get_extent()) == (-0.5, 2001.5, 2001.5, -0.5)
    assert len(drawn[0].axes[0].get_xticks(minor=True)) < 10
