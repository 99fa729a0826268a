"""Run folders: ``runs/train/exp``, ``exp2``, ``exp3``, ..."""

from __future__ import annotations

import os
from pathlib import Path

from utils.errors import UserError


def new_run_folder(project: str | Path, name: str, *, exist_ok: bool = False) -> Path:
    """Create and return ``project/name``, or ``project/name2``, ``name3``, ... when it exists and `exist_ok` is off.

    Raises:
        UserError: the folder cannot be created, or the existing one contains links.
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
            refuse_links(folder)
            return folder


def refuse_links(folder: Path) -> None:
    """Check that what is written below a folder stays there: the folder may have come from someone else.

    Raises:
        UserError: something in it is a symbolic link that leads out of it, or a pipe, socket or device.
    """
    root = os.path.realpath(folder)
    waiting = [root]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:  # removed meanwhile, or unreadable: writing there reports it
            continue
        for entry in entries:
            target = os.path.realpath(entry.path) if entry.is_symlink() else ""
            if target and not target.startswith(f"{root}{os.sep}"):
                raise UserError(f"{entry.path}: is a link to {target}, outside the folder; remove the link, or give another folder")
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif not target and not entry.is_file():
                raise UserError(f"{entry.path}: is neither a file nor a folder; remove it, or give another folder")
