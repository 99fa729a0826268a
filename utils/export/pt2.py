"""Programs of torch.export."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

from utils.export.format import Format, Job
from utils.inference.runtimes.pt2 import METADATA
from utils.inference.runtimes.session import one_error


def write(job: Job, path: Path) -> None:
    """Export the model as a graph of ATen operators; the metadata is a JSON text in the archive.

    Raises:
        UserError: torch.export cannot express the model.
    """
    example, shapes = job.graph_inputs()
    with one_error("torch.export cannot express it"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(job.network, (example,), dynamic_shapes=shapes, strict=False)
        program.example_inputs = None  # they would be stored, and read back as a pickle
        torch.export.save(program, str(path), extra_files={METADATA: json.dumps(job.metadata)})


FORMAT = Format(
    name="pt2",
    ending=".pt2",
    packages=(),
    install="",
    write=write,
    options=frozenset({"half", "dynamic"}),
)
