"""CoreML packages, converted from TorchScript."""

from __future__ import annotations

import json
import platform
import warnings
from pathlib import Path

import numpy as np
import torch

from utils.export.fixed_size import fixed_size
from utils.export.format import Format, Job
from utils.inference.runtimes.session import one_error, require

INSTALL = "pip install coremltools"


def write(job: Job, path: Path) -> None:
    """Write a package: input ``images`` of float32 in 0..1, output ``output0``; the metadata as JSON under ``attune``.

    Raises:
        UserError: coremltools cannot convert the model.
    """
    ct = require("coremltools", "coreml", INSTALL)
    precision = ct.precision.FLOAT16 if job.cfg.half else ct.precision.FLOAT32
    versions = f"coremltools {ct.__version__} with numpy {np.__version__} (9.0 needs numpy<2.4)"
    with one_error(f"{versions} cannot convert it"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(fixed_size(job), (job.example,), strict=False, check_trace=False)
        package = ct.convert(
            traced,
            inputs=[ct.TensorType("images", shape=job.cfg.shape)],
            outputs=[ct.TensorType("output0")],
            convert_to="mlprogram",
            compute_precision=precision,
            minimum_deployment_target=ct.target.iOS16,
        )
        package.user_defined_metadata["attune"] = json.dumps(job.metadata)
        package.save(str(path))


FORMAT = Format(
    name="coreml",
    ending=".mlpackage",
    packages=("coremltools",),
    install=INSTALL,
    write=write,
    options=frozenset({"half"}),
    runs_here=lambda: platform.system() == "Darwin",
)
