"""ncnn models: a folder with model.ncnn.param, model.ncnn.bin and metadata.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import UserError
from utils.files.yaml_file import read_yaml
from utils.inference.runtimes.metadata import parse_metadata
from utils.inference.runtimes.session import check_size, free_unless_fixed, one_error, require

INSTALL = "pip install ncnn"


class NcnnSession:
    """An ncnn model on the CPU, one image at a time: input ``in0``, output ``out0``."""

    def __init__(self, path: Path, device: torch.device) -> None:  # noqa: ARG002 - ncnn knows the CPU, and Vulkan
        ncnn = require("ncnn", f"{path}: reading ncnn", INSTALL)
        files = [path / f"model.ncnn.{ending}" for ending in ("param", "bin")]
        for file in files:
            check_size(file)
        entries = read_yaml(path / "metadata.yaml")
        self.metadata = parse_metadata(entries, str(path))
        self.shape = free_unless_fixed(entries.get("shape"), None, str(path))
        self._path, self._ncnn, self._net = path, ncnn, ncnn.Net()
        options = self._net.opt
        options.use_vulkan_compute, options.num_threads = False, torch.get_num_threads()
        if not self.metadata.half:
            options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = options.use_bf16_storage = False
        with one_error(f"{path}: ncnn cannot load it"):
            if self._net.load_param(str(files[0])) or self._net.load_model(str(files[1])):
                raise UserError(f"{path}: ncnn cannot load it: the files are damaged, or hold an operator that it does not know")

    def __call__(self, images: Tensor) -> Tensor:
        return torch.stack([torch.from_numpy(self._one(image)) for image in images.cpu().contiguous().numpy()])

    def _one(self, image: Any) -> Any:
        with one_error(f"{self._path}: ncnn cannot run it"), self._net.create_extractor() as extractor:
            extractor.input("in0", self._ncnn.Mat(image))
            status, found = extractor.extract("out0")
            if status:
                raise UserError(f"{self._path}: ncnn cannot run it (status {status})")
            return np.array(found, np.float32)
