"""ncnn models, converted from TorchScript by pnnx."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import subprocess
import warnings
from pathlib import Path

import torch
import yaml

from utils.errors import UserError
from utils.export.fixed_size import fixed_size
from utils.export.format import Format, Job
from utils.inference.runtimes.exported import ExportedModel
from utils.inference.runtimes.session import one_error, require

INSTALL = "pip install ncnn pnnx"
_TIMEOUT = 1800


def write(job: Job, path: Path) -> None:
    """Write a folder with model.ncnn.param, model.ncnn.bin and metadata.yaml: input ``in0`` (3, H, W), output ``out0`` (N, 5 + K).

    Raises:
        UserError: pnnx fails, or ncnn crashes on what it has written.
    """
    if job.cfg.batch_size > 1:
        raise UserError("ncnn computes one image at a time: --batch-size 1")
    pnnx = require("pnnx", "ncnn", INSTALL)
    source, shape = job.folder / "model.pt", job.cfg.shape
    with one_error("PyTorch cannot trace it"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = fixed_size(job)
        torch.jit.trace(network, (job.example,), strict=False, check_trace=False).save(str(source))
    command = [pnnx.EXEC_PATH, source.name, f"inputshape=[{','.join(map(str, shape))}]", f"fp16={int(job.cfg.half)}"]
    with one_error("pnnx cannot convert it", subprocess.SubprocessError):
        subprocess.run(command, cwd=job.folder, capture_output=True, check=True, timeout=_TIMEOUT)  # noqa: S603
        if lacking := _not_expressed((job.folder / "model.ncnn.param").read_text()):
            raise UserError(f"ncnn cannot express it: it has no {', '.join(lacking)}")
        path.mkdir()
        for ending in ("param", "bin"):
            (job.folder / f"model.ncnn.{ending}").rename(path / f"model.ncnn.{ending}")
    (path / "metadata.yaml").write_text(yaml.safe_dump(job.metadata, sort_keys=False), encoding="utf-8")
    first = multiprocessing.get_context("spawn").Process(target=_run_once, args=(path,))  # a crash is that of its process
    first.start()
    first.join()
    if first.exitcode is not None and first.exitcode < 0:
        raise UserError(f"ncnn crashes on what pnnx has made of it ({signal.Signals(-first.exitcode).name})")


def _run_once(path: Path) -> None:
    with contextlib.suppress(UserError):  # which the check of the export reports
        ExportedModel(path, torch.device("cpu"))


def _not_expressed(param: str) -> list[str]:
    """Operators that pnnx kept as they were, and those along the batch axis, which is -233 and which ncnn crashes on."""
    layers = [line.split() for line in param.splitlines()[2:]]
    kept = {kind for kind, *_ in layers if "." in kind or "::" in kind}
    return sorted(kept | {f"{kind} along the batch" for kind, *rest in layers if "0=-233" in rest})


FORMAT = Format(
    name="ncnn",
    ending="_ncnn_model",
    packages=("ncnn", "pnnx"),
    install=INSTALL,
    write=write,
    options=frozenset({"half"}),
)
