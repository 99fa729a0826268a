"""The figures of a run per epoch: results.csv, and TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.errors import StorageError
from utils.evaluation.evaluate import Evaluation
from utils.files.atomic import write_text
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
        before = (origin or folder) / "results.csv"
        rows = before.read_text(encoding="utf-8").splitlines(keepends=True)[1:] if start and before.is_file() else []
        kept = [row for row in rows if row.endswith("\n") and float(row.split(",")[0]) < start]
        write_text(self.path, "".join([",".join(f"{c:>20s}" for c in COLUMNS) + "\n", *kept]))
        self._size = self.path.stat().st_size  # of the complete rows
        self._unwritten: list[str] = []
        self._board = _tensorboard(folder, start)

    def append(self, values: Mapping[str, float]) -> None:
        """Add the row of an epoch, which `flush` writes, and send it to TensorBoard, which is dropped when that fails.

        Args:
            values: of every column.
        """
        self._unwritten.append(",".join(f"{values[c]:>20.5g}" for c in COLUMNS) + "\n")
        try:
            for name in COLUMNS[1:] if self._board else ():
                self._board.add_scalar(name, values[name], int(values["epoch"]))
        except (OSError, RuntimeError) as error:
            LOG.warning("TensorBoard is switched off: cannot write its file (%s)", error)
            self._board = None

    def flush(self) -> None:
        """Write the rows added since, over the remains of a failed write.

        Raises:
            StorageError: they cannot be written.
        """
        try:
            with self.path.open("r+b") as file:
                file.truncate(self._size)
                file.seek(self._size)
                file.write("".join(self._unwritten).encode())
                file.flush()
                os.fsync(file.fileno())
                self._size = file.tell()
        except OSError as error:
            raise StorageError(f"{self.path}: cannot write a row ({error.strerror or error})") from error
        self._unwritten.clear()

    def close(self) -> None:
        """Close TensorBoard's file."""
        try:
            if self._board:
                self._board.close()
        except (OSError, RuntimeError) as error:
            LOG.warning("the last values for TensorBoard are lost: cannot write its file (%s)", error)


def _tensorboard(folder: Path, start: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder), purge_step=start or None)
