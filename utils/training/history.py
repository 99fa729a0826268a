"""The figures of a run per epoch: results.csv, and TensorBoard where it is installed."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.errors import StorageError
from utils.evaluation.evaluate import Evaluation
from utils.files.atomic import write_text
from utils.files.safe_open import read_regular
from utils.log import LOG
from utils.training.state import TERMS

COLUMNS = (
    "epoch",
    *(f"train/{term}_loss" for term in TERMS),
    *("metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95"),
    *(f"val/{term}_loss" for term in TERMS),
    *("x/lr0", "x/lr1", "x/lr2"),
)
"""YOLOv5's; lr0 is that of the biases, lr1 of decayed, lr2 of undecayed weights."""
_MAX_BYTES = 1 << 28


def row_values(epoch: int, terms: Mapping[str, float], result: Evaluation | None, lr: Sequence[float]) -> dict[str, float]:
    """The row of an epoch; zeros where nothing was validated."""
    metrics, loss = (result.metrics, result.loss) if result else (None, None)
    figures = (metrics.precision, metrics.recall, metrics.ap50, metrics.ap) if metrics else (0.0,) * 4
    values = (epoch, *(terms[t] for t in TERMS), *figures, *((loss or {}).get(t, 0.0) for t in TERMS), *lr)
    return dict(zip(COLUMNS, values, strict=True))


class History:
    """Appends a row per epoch to results.csv and to TensorBoard's event file.

    Args:
        folder: the run folder.
        start: first epoch of this process.
        origin: folder of the run that is resumed here; its rows before `start` are kept, later ones dropped.
    """

    def __init__(self, folder: Path, *, start: int = 0, origin: Path | None = None) -> None:
        self.path = folder / "results.csv"
        self._lines = [",".join(f"{c:>20s}" for c in COLUMNS) + "\n"]
        for row in _rows_before(start, origin or folder) if start else ():
            self._add(row)
        write_text(self.path, "".join(self._lines))
        self._board = _tensorboard(folder, start)

    def append(self, values: Mapping[str, float]) -> None:
        """Add the row of an epoch, which `flush` writes, and send it to TensorBoard, which is dropped when that fails.

        Args:
            values: of every column.
        """
        self._add(values)
        try:
            for name in COLUMNS[1:] if self._board else ():
                self._board.add_scalar(name, values[name], int(values["epoch"]))
        except (OSError, RuntimeError) as error:
            LOG.warning("TensorBoard is switched off: cannot write its file (%s)", error)
            self._board = None

    def flush(self) -> None:
        """Write all rows, as one file in the place of that before.

        Raises:
            StorageError: they cannot be written.
        """
        try:
            write_text(self.path, "".join(self._lines))
        except OSError as error:
            raise StorageError(f"{self.path}: cannot write a row ({error.strerror or error})") from error

    def _add(self, values: Mapping[str, float]) -> None:
        self._lines.append(",".join(f"{values[c]:>20.5g}" for c in COLUMNS) + "\n")

    def close(self) -> None:
        """Close TensorBoard's file."""
        try:
            if self._board:
                self._board.close()
        except (OSError, RuntimeError) as error:
            LOG.warning("the last values for TensorBoard are lost: cannot write its file (%s)", error)


def read_curve(folder: Path) -> tuple[dict[str, float], ...]:
    """The complete rows of the results.csv in a run folder; of a file that something else has changed, those that are still rows.

    A spreadsheet quotes cells, writes a byte order mark and other line ends, or other separators.
    """
    rows: list[dict[str, float]] = []
    with contextlib.suppress(OSError, csv.Error):
        text = read_regular(folder / "results.csv", _MAX_BYTES).decode("utf-8-sig", errors="replace")
        for cells in csv.reader(text.splitlines()[1:]):
            with contextlib.suppress(ValueError):  # as for a row truncated by a kill
                rows.append(dict(zip(COLUMNS, map(float, cells), strict=True)))
    return tuple(rows)


def _rows_before(start: int, folder: Path) -> list[dict[str, float]]:
    """The rows of the results.csv in a run folder before epoch `start`; a file that lacks some of them is kept under another name."""
    path = folder / "results.csv"
    if not path.is_file():
        LOG.warning("%s is missing; it begins with epoch %d", path, start)
        return []
    kept = [row for row in read_curve(folder) if row["epoch"] < start]
    if [row["epoch"] for row in kept] != list(range(start)):
        aside = path.with_name("results.damaged.csv")
        LOG.warning("%s: %d of %d epochs can be read; the file as it was is kept as %s", path, len(kept), start, aside.name)
        path.replace(aside)
    return kept


def _tensorboard(folder: Path, start: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard.writer import SummaryWriter

    try:
        return SummaryWriter(str(folder), purge_step=start or None)
    except (OSError, ValueError) as error:  # ValueError: a folder whose name is no text
        LOG.warning("TensorBoard is switched off: cannot write its file (%s)", error)
        return None
