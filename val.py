"""Evaluate a detector on a dataset.

python val.py --weights yolov5s.pt --data data/coco128.yaml
python val.py --weights runs/train/exp/weights/best.pt --data my.yaml --task test --save-json
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.cli import parse, run
from utils.config import ValConfig
from utils.errors import UserError
from utils.files.atomic import write_text
from utils.files.run_folders import new_run_folder
from utils.log import LOG, abbreviated, start_log

if TYPE_CHECKING:
    from models.detector import Detector
    from models.ensemble import Ensemble
    from utils.data.config import DataConfig
    from utils.data.index import Index
    from utils.evaluation.evaluate import Evaluation, Settings
    from utils.evaluation.metrics import Evaluator, Metrics
    from utils.inference.runtimes.exported import ExportedModel

STUDY_SIZES = range(256, 1537, 128)
MANY_CLASSES = 50


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags and run the task."""
    cfg, _ = parse(ValConfig, argv, description=__doc__ or "")
    start_log()
    tasks = {"speed": speed, "study": study}
    tasks.get(cfg.task, validate)(cfg)


@dataclasses.dataclass(frozen=True, slots=True)
class ModelAndData:
    """A model and the split it is evaluated on."""

    cfg: ValConfig
    model: Detector | Ensemble | ExportedModel
    data: DataConfig
    index: Index
    split: str


def set_up(cfg: ValConfig, weights: Sequence[str]) -> ModelAndData:
    """Load the weights, several as an ensemble, and the split.

    Raises:
        UserError: something cannot be read, or the weights and the data have different numbers of classes.
    """
    import torch

    from models import load_model
    from models.ensemble import join
    from models.plugins import load_plugins
    from utils.data.config import load_data
    from utils.data.preflight import check
    from utils.data.scan import load_index
    from utils.device import keep_freed_memory, select_device

    load_plugins(cfg.plugins)
    device = select_device(cfg.device)
    keep_freed_memory()
    model = join([load_model(path, device=device) for path in weights])
    data = load_data(cfg.data)
    if model.nc != data.nc and not cfg.single_cls:
        raise UserError(
            f"{weights[0]} has {model.nc} classes ({abbreviated(model.names.values())}), "
            f"{cfg.data} has {data.nc} ({abbreviated(data.names.values())}); give weights trained on this dataset, or --single-cls"
        )
    if model.names != data.names and not cfg.single_cls:
        given, expected = (abbreviated(names.values()) for names in (model.names, data.names))
        LOG.warning("the weights have the class names %s, the dataset %s; classes are matched by id", given, expected)
    split = cfg.task if cfg.task in ("train", "val", "test") else "val"
    index = load_index(data, split, single_cls=cfg.single_cls, classes=cfg.classes)
    index.report.log()
    check(data, {split: index})
    return ModelAndData(cfg, model.to(memory_format=torch.channels_last), data, index, split)


def measure(
    bench: ModelAndData, settings: Settings, *, imgsz: int, rect: bool = True, plots: Path | None = None
) -> tuple[Evaluation, Evaluator]:
    """Evaluate at an image size, rounded up to the model's stride; at its own and in squares where an exported file has a fixed one."""
    from utils.data.loading.loader import val_loader
    from utils.evaluation.evaluate import evaluate
    from utils.evaluation.metrics import Evaluator
    from utils.geometry import ceil_to_stride

    cfg, stride, fixed = bench.cfg, bench.model.max_stride, bench.model.fixed_shape
    size = fixed[0] if fixed else ceil_to_stride(imgsz, stride)
    if fixed and (fixed[1] != size or cfg.task == "study"):
        found = f"{cfg.weights[0]}: takes images of {fixed[0]} x {fixed[1]} only"
        raise UserError(f"{found}, --task {cfg.task} needs {'any size' if cfg.task == 'study' else 'squares'}; export with --dynamic")
    if fixed and size != imgsz:
        LOG.info("--imgsz %d is not used: the exported file takes images of %d x %d only", imgsz, size, size)
    elif size != imgsz:
        LOG.info("--imgsz %d is not a multiple of the model's stride %d; using %d", imgsz, stride, size)
    evaluator = Evaluator(bench.index.names)
    device = bench.model.device
    loader = val_loader(bench.index, imgsz=size, batch_size=cfg.batch_size, workers=cfg.workers, rect=rect and not fixed, stride=stride)
    with contextlib.closing(loader):
        return evaluate(bench.model, loader, bench.index, settings, device=device, plots=plots, evaluator=evaluator), evaluator


def _settings(cfg: ValConfig) -> Settings:
    from utils.evaluation.evaluate import Settings

    return Settings(
        conf=cfg.conf_thres,
        iou=cfg.iou_thres,
        nms=cfg.nms,
        max_det=cfg.max_det,
        classes=cfg.classes,
        single_cls=cfg.single_cls,
        half=cfg.half,
        augment=cfg.augment,
        hybrid=cfg.save_hybrid,
    )


def validate(cfg: ValConfig) -> Metrics:
    """Evaluate a split, and write metrics, plots and, if requested, detections into a new run folder."""
    if cfg.conf_thres > 0.001:
        LOG.warning("--conf-thres %g: AP is too low above 0.001", cfg.conf_thres)
    if cfg.save_hybrid:
        LOG.warning("--save-hybrid adds the ground truth to NMS: the metrics are inflated")
    bench = set_up(cfg, cfg.weights)
    folder = new_run_folder(cfg.project, cfg.name, exist_ok=cfg.exist_ok)
    evaluation, evaluator = measure(bench, _settings(cfg), imgsz=cfg.imgsz, plots=None if cfg.noplots else folder)
    report(cfg, evaluation)
    write_metrics(folder, bench, evaluation)
    write_detections(folder, bench, evaluator)
    LOG.info("Results in %s", folder)
    return evaluation.metrics


def report(cfg: ValConfig, evaluation: Evaluation) -> None:
    """Log what the evaluation's table does not include."""
    from utils.evaluation.evaluate import log_classes

    m, speeds = evaluation.metrics, evaluation.speeds
    if cfg.verbose or 1 < len(m.ap_per_class) < MANY_CLASSES:
        log_classes(m)
    areas = (f"{name} {value:.4f}" for name, value in (("small", m.ap_small), ("medium", m.ap_medium), ("large", m.ap_large)))
    LOG.info("AP %.4f, AP50 %.4f, AP75 %.4f, AP %s (COCO)", m.ap, m.ap50, m.ap75, ", ".join(areas))
    if cfg.metric == "yolov5":
        y = m.yolov5
        LOG.info("P %.4f, R %.4f, mAP50 %.4f, mAP50-95 %.4f (as YOLOv5 computes them)", y.precision, y.recall, y.map50, y.map)
    LOG.info("Speed: %s", ", ".join(f"{name} {ms:.1f} ms" for name, ms in speeds.items()) + " per image")


def write_metrics(folder: Path, bench: ModelAndData, evaluation: Evaluation) -> None:
    """Write metrics.json, per_class.csv, confusion_matrix.csv, and their charts."""
    from utils.evaluation.metrics import plain_numbers, write_tables
    from utils.images.writing import optional_output

    m, cfg, names = evaluation.metrics, bench.cfg, bench.index.names
    more = {"yolov5": plain_numbers(dataclasses.asdict(m.yolov5)), "speed_ms": evaluation.speeds, "split": bench.split}
    write_tables(folder, m, names, **more, settings=dataclasses.asdict(cfg))
    if not cfg.noplots:
        with optional_output():
            from utils.evaluation.charts import plot_confusion, plot_curves

            plot_curves(folder, m)
            plot_confusion(folder / "confusion_matrix.png", m.confusion, list(names.values()))


def write_detections(folder: Path, bench: ModelAndData, evaluator: Evaluator) -> None:
    """Write the detections as text and JSON, if requested."""
    from utils.evaluation.predictions import category_ids, write_json, write_txt

    cfg = bench.cfg
    if cfg.save_txt or cfg.save_hybrid:
        write_txt(folder / "labels", evaluator.detections(), bench.index, confidence=cfg.save_conf)
    if cfg.save_json or Path(cfg.data).name == "coco.yaml":
        ids = category_ids(bench.index.names, bench.data.splits[bench.split])
        write_json(folder / f"{Path(cfg.weights[0]).stem}_predictions.json", evaluator.detections(), bench.index, ids)


def speed(cfg: ValConfig) -> None:
    """Time square images at detect.py's thresholds, with half precision on CUDA, for each of the weights."""
    for weights in cfg.weights:
        bench = set_up(cfg, [weights])
        half = cfg.half or bench.model.device.type == "cuda"
        settings = dataclasses.replace(_settings(cfg), conf=0.25, iou=0.45, half=half)
        evaluation, _ = measure(bench, settings, imgsz=cfg.imgsz, rect=False)
        times = ", ".join(f"{name} {ms:.1f} ms" for name, ms in evaluation.speeds.items())
        LOG.info("%s: %s per image of %d x %d, batch %d", weights, times, cfg.imgsz, cfg.imgsz, cfg.batch_size)


def study(cfg: ValConfig) -> None:
    """Evaluate at image sizes from 256 to 1536; write a table and a chart for each of the weights."""
    from utils.images.writing import optional_output

    folder = new_run_folder(cfg.project, cfg.name, exist_ok=cfg.exist_ok)
    for weights in cfg.weights:
        bench = set_up(cfg, [weights])
        rows, lines = [], []
        for size in STUDY_SIZES:
            LOG.info("%s at %d pixels:", weights, size)
            (m, _, speeds), _ = measure(bench, _settings(cfg), imgsz=size)
            rows.append({"imgsz": size, "ap": m.ap, "ap50": m.ap50, "inference": speeds["inference"]})
            figures = (m.precision, m.recall, m.ap50, m.ap, 0, 0, 0, *speeds.values())  # YOLOv5's columns, in which the losses are 0
            lines.append(" ".join(f"{v:10.4g}" for v in figures) + "\n")
        stem = f"study_{Path(cfg.data).stem}_{Path(weights).stem}"
        write_text(folder / f"{stem}.txt", "".join(lines))
        with optional_output():
            from utils.evaluation.charts import plot_study

            plot_study(folder / f"{stem}.png", rows)
    LOG.info("Results in %s", folder)


if __name__ == "__main__":
    run(main)
