"""Export a detector to ONNX, OpenVINO, TorchScript and other formats.

python export.py --weights yolov5s.pt --include onnx openvino
python export.py --weights runs/train/exp/weights/best.pt --include onnx --dynamic --nms
"""

from __future__ import annotations

from collections.abc import Sequence

from utils.cli import parse, run
from utils.export.config import ExportConfig
from utils.log import LOG, start_log


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags and export."""
    cfg, _ = parse(ExportConfig, argv, description=__doc__ or "")
    from utils.export.exporter import export

    start_log()
    done = export(cfg)
    LOG.info("use a file as weights: python detect.py --weights %s", done[0].path)


if __name__ == "__main__":
    run(main)
