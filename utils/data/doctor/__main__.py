"""Find problems in a dataset: ``python -m utils.data.doctor DATA``.

Every image is decoded, every label file read, and nothing is written. DATA is what train.py's --data takes: a data YAML,
a COCO .json, or a folder. Exit status 0: no problems; 1: errors or warnings; 2: the dataset cannot be read.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from utils.cli import option, parse, run
from utils.errors import UserError
from utils.log import LOG, start_log


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DoctorConfig:
    """Flags of ``python -m utils.data.doctor``."""

    data: str = option("", "data YAML, COCO .json, or folder", positional=True)
    imgsz: int = option(640, "longest side in pixels at which boxes are called tiny", "--img", "--img-size")
    distance: int = option(10, "maximum number of different bits, of 64, between two files of one image; 0 to 16")
    examples: int = option(5, "findings shown of each kind")
    all: bool = option(False, "show every finding and every class")
    json: str = option("", "write everything as JSON to this file; - is standard output, and then the only thing there")

    def __post_init__(self) -> None:
        if not self.data:
            raise UserError("name a dataset: python -m utils.data.doctor DATA (a data YAML, a COCO .json, or a folder)")
        for name, minimum, maximum in (("imgsz", 32, 16384), ("distance", 0, 16), ("examples", 0, 10**9)):
            if not minimum <= getattr(self, name) <= maximum:
                raise UserError(f"--{name} {getattr(self, name)}: must be from {minimum} to {maximum}")


def main() -> None:
    """Diagnose the dataset that the command line names, and report the findings."""
    config, _ = parse(DoctorConfig, description=__doc__ or "")
    from utils.data.doctor.diagnosis import diagnose
    from utils.data.doctor.report import as_json, as_text

    if config.json != "-":
        start_log()
    found = diagnose(config.data, imgsz=config.imgsz, distance=config.distance)
    if config.json == "-":
        sys.stdout.write(as_json(found))
    else:
        for line in as_text(found, sys.maxsize if config.all else config.examples, everything=config.all):
            LOG.info("%s", line)
        if config.json:
            try:
                Path(config.json).write_text(as_json(found), encoding="utf-8")
            except OSError as error:
                raise UserError(f"--json {config.json}: cannot be written ({error.strerror or error})") from error
    sys.stdout.flush()
    sys.exit(0 if found.clean else 1)


if __name__ == "__main__":
    run(main)
