"""What `python -m benchmarks.yolov5` measures of YOLOv5: the same works as in `attune`, under the same names.

Its checkpoints are pickles of its own modules, so the weights come from Attune's reader: the names and shapes are the same.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.nms import CONF, IOU
from benchmarks.train_step import Repeated
from benchmarks.yolov5.attune import BATCH, COCO128, STEPS, WEIGHTS, Work, passes, photographs, suppress_all


def package() -> Path:
    """The folder of the package yolov5."""
    import yolov5

    return Path(yolov5.__file__).parent


def hyperparameters() -> dict[str, Any]:
    """YOLOv5's for training from scratch; Attune's defaults are the same."""
    import yaml

    hyp: dict[str, Any] = yaml.safe_load((package() / "data" / "hyps" / "hyp.scratch-low.yaml").read_text())
    return hyp


def copied_images(folder: str) -> str:
    """The images in a copy of coco128: YOLOv5 writes a cache beside the labels."""
    return str(shutil.copytree(COCO128, Path(folder) / "coco128") / "images" / "train2017")


def network(name: str) -> Any:
    """The model as its YAML describes it, with random weights."""
    from yolov5.models.yolo import DetectionModel

    return DetectionModel(str(package() / "models" / f"{name}.yaml"), ch=3, nc=80)


def trained() -> Any:
    """yolov5n with its official weights, fused."""
    from models import load_model

    official, model = load_model(WEIGHTS, fuse=False), network("yolov5n")
    model.load_state_dict(official.state_dict())
    model.names = official.names
    return model.fuse().eval()


def loading(folder: str, imgsz: int) -> Work:
    """One epoch over coco128 in this process."""
    from yolov5.utils.dataloaders import LoadImagesAndLabels

    dataset = LoadImagesAndLabels(copied_images(folder), imgsz, BATCH, augment=True, hyp=hyperparameters(), stride=32)
    return lambda: sum(len(dataset[i]) > 0 for i in range(len(dataset)))


def step(_: str) -> Work:
    """Some training steps on one batch."""
    batch = Repeated(BATCH, 320, STEPS).batch
    return _epochs([(batch.images, batch.targets)] * STEPS)


def epoch(folder: str) -> Work:
    """An epoch over coco128, workers included."""
    from yolov5.utils.dataloaders import create_dataloader

    loader, _ = create_dataloader(copied_images(folder), 320, BATCH, 32, hyp=hyperparameters(), augment=True, workers=2, shuffle=True)
    return _epochs(loader)


def _epochs(batches: Any) -> Work:
    import torch
    from yolov5.utils.loss import ComputeLoss
    from yolov5.utils.torch_utils import ModelEMA, smart_optimizer

    hyp, model = hyperparameters(), network("yolov5n")
    model.hyp = hyp | {"obj": hyp["obj"] * (320 / 640) ** 2, "label_smoothing": 0.0}
    optimizer = smart_optimizer(model, "SGD", hyp["lr0"], hyp["momentum"], hyp["weight_decay"])
    ema, loss = ModelEMA(model), ComputeLoss(model)
    model.train()

    def work() -> int:
        seen = 0
        for images, targets, *_ in batches:
            loss(model(images.float() / 255), targets)[0].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.update(model)
            seen += len(images)
        return seen

    return work


def validation(folder: str) -> Work:
    """Validation of yolov5n on coco128 at 640 pixels, from image files to AP."""
    import numpy as np
    from yolov5 import val
    from yolov5.utils.dataloaders import create_dataloader

    vars(np).setdefault("trapz", np.trapezoid)  # NumPy has renamed it since that release of YOLOv5
    model = trained()
    loader, dataset = create_dataloader(copied_images(folder), 640, 32, 32, pad=0.5, rect=True, workers=2)
    data = {"val": "", "nc": 80}

    def work() -> int:
        val.run(data, imgsz=640, batch_size=32, model=model, dataloader=loader, plots=False, save_dir=Path(folder))
        return len(dataset)

    return work


def nms(_: str, conf: float) -> Work:
    """NMS as val.py or, at a confidence above its own, as detect.py does it; on a copy, because it modifies its input."""
    from yolov5.utils.general import non_max_suppression

    if conf > CONF:
        return suppress_all(lambda pred: non_max_suppression(pred.clone(), conf, 0.45, max_det=1000), single=True)
    return suppress_all(lambda pred: non_max_suppression(pred.clone(), CONF, IOU, multi_label=True), single=False)


def file_to_boxes(_: str, imgsz: int) -> Work:
    """Detection in one file after another with yolov5n, as detect.py does it."""
    import torch
    from yolov5.utils.dataloaders import LoadImages
    from yolov5.utils.general import non_max_suppression, scale_boxes

    model, paths = trained(), [str(path) for path in photographs()]

    def work() -> int:
        seen = 0
        with torch.inference_mode():
            for path in paths:
                for _, image, original, *_ in LoadImages(path, img_size=imgsz, stride=32, auto=True):
                    x = torch.from_numpy(image).float()[None] / 255
                    found = non_max_suppression(model(x), 0.25, 0.45, max_det=1000)[0]
                    found[:, :4] = scale_boxes(x.shape[2:], found[:, :4], original.shape).round()
                    seen += 1
        return seen

    return work


def forward(_: str, name: str, imgsz: int) -> Work:
    """The fused network on one square image."""
    import torch

    return passes(network(name).fuse().eval(), torch.rand(1, 3, imgsz, imgsz))
