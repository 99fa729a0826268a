"""TorchScript archives."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

from utils.export.format import Format, Job
from utils.inference.runtimes.session import one_error
from utils.inference.runtimes.torchscript import CONFIG


def write(job: Job, path: Path) -> None:
    """Trace the model; the metadata is a JSON text in the archive, as in YOLOv5's.

    Raises:
        UserError: the model cannot be traced.
    """
    with one_error("PyTorch cannot trace it"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each Python number of a traced size is one
        traced = torch.jit.trace(job.network, (job.example,), strict=False, check_trace=False)
        traced.save(str(path), _extra_files={CONFIG: json.dumps(job.metadata)})


FORMAT = Format(
    name="torchscript",
    ending=".torchscript",
    packages=(),
    install="",
    write=write,
    options=frozenset({"half", "dynamic"}),
)
