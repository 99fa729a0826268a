"""Run folders: ``runs/train/exp``, ``exp2``, ``exp3``, ..."""

from __future__ import annotations

from pathlib import Path

from utils.errors import UserError


def new_run_folder(project: str | Path, name: str, *, exist_ok: bool = False) -> Path:
    """Create and return ``project/name``, or ``project/name2``, ``name3``, ... when it exists and `exist_ok` is off.

    Raises:
        UserError: the folder cannot be created.
    """
    folder = Path(project) / name
    number = 1
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            number += 1
            folder = Path(project) / f"{name}{number}"
        except OSError as error:
            raise UserError(f"--project {project}: the folder {folder} cannot be created ({error.strerror or error})") from error
        else:
            return folder
