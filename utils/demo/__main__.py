"""Try models in the browser: ``python -m utils.demo --weights best.pt other.pt``.

A picture, a video or the webcam; what each model finds, side by side; where it looks. Needs ``pip install gradio``. Only this machine
can open the page, unless --host says otherwise. The browser sends pictures and videos, and can name no file of this machine.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from utils.cli import option, parse, run
from utils.config import IMGSZ, MAX_IMGSZ
from utils.errors import UserError
from utils.log import LOG, start_log

LOCAL = "127.0.0.1"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """Flags of ``python -m utils.demo``."""

    weights: tuple[str, ...] = option(("yolov5s.pt",), "one or more checkpoints or exported files, shown side by side", nargs="+", type=str)
    imgsz: int = option(640, "side in pixels of the square that an image is fitted into", *IMGSZ)
    device: str = option("", "cpu, mps, 0, ...; '' takes the first GPU, else the CPU")
    half: bool = option(False, "half precision: fp16 on CUDA, bf16 on a CPU that has it")
    host: str = option(LOCAL, "address to listen on; 0.0.0.0 lets other machines in")
    port: int = option(7860, "port to listen on")
    plugins: tuple[str, ...] = option((), "Python files of your own that register modules", nargs="+", type=str)

    def __post_init__(self) -> None:
        if not 1 <= self.imgsz <= MAX_IMGSZ:
            raise UserError(f"--imgsz must be 1 to {MAX_IMGSZ}, got {self.imgsz}")
        if not 1 <= self.port <= 65535:
            raise UserError(f"--port must be 1 to 65535, got {self.port}")


def main(argv: Sequence[str] | None = None) -> None:
    """Load the models and serve the page until Ctrl-C."""
    cfg, _ = parse(DemoConfig, argv, description=__doc__ or "")
    start_log()
    from models import load_model
    from models.plugins import load_plugins
    from utils.demo.page import serve
    from utils.demo.viewer import Viewer
    from utils.device import select_device

    load_plugins(cfg.plugins)
    device = select_device(cfg.device)
    models = {name: load_model(path, device=device) for name, path in zip(names(cfg.weights), cfg.weights, strict=True)}
    if cfg.host != LOCAL:
        LOG.warning("--host %s: everyone who reaches this machine can use the page; there is no password", cfg.host)
    serve(Viewer(models=models, imgsz=(cfg.imgsz, cfg.imgsz), half=cfg.half), cfg.host, cfg.port)


def names(paths: Sequence[str]) -> list[str]:
    """A name for each file: its stem, or where stems repeat its path below the folder that all are in.

    Raises:
        UserError: a file is given twice.
    """
    whole = [os.path.abspath(path) for path in paths]  # noqa: PTH100  resolve() would follow links
    if len(set(whole)) < len(whole):
        raise UserError("--weights: a file is given twice")
    stems = [Path(path).stem for path in whole]
    if len(set(stems)) == len(stems):
        return stems
    return [os.path.relpath(path, os.path.commonpath([os.path.dirname(p) for p in whole])) for path in whole]  # noqa: PTH120


if __name__ == "__main__":
    run(main)
