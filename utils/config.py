"""Settings of the scripts: frozen dataclasses whose fields are the flags, and the hyper-parameter file.

Precedence: the defaults here, then the hyper-parameter YAML, then the command line; merged once, then read-only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from utils.cli import check_minimum, check_thresholds, option
from utils.errors import UserError, nearest
from utils.files.shadowed import name_shadowed
from utils.files.yaml_file import read_yaml

ROOT = Path(__file__).resolve().parent.parent
"""The repository, with the shipped YAML files in models/ and data/."""

IMGSZ = ("--img", "--img-size")
SUPPRESSIONS = ("hard", "soft-linear", "soft-gaussian", "diou", "cluster", "matrix", "merge", "wbf")
"""Names of `utils.inference.suppression`, repeated here so that ``--help`` loads no torch."""
MAX_IMGSZ = 16384


def hyper(default: float | None, help: str, low: float = 0.0, high: float = math.inf) -> Any:
    """Declare a hyper-parameter with its valid range; it is a flag too, which overrides the file."""
    field = option(default, help, type=float)
    return dataclasses.field(default=default, metadata={**field.metadata, "range": (low, high)})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hyp:
    """Hyper-parameters; names and defaults are those of YOLOv5's hyp.scratch-low.yaml."""

    lr0: float = hyper(0.01, "initial learning rate")
    lrf: float = hyper(0.01, "final learning rate as a fraction of lr0")
    momentum: float = hyper(0.937, "SGD momentum, or Adam's beta1", 0, 0.9999)
    weight_decay: float = hyper(0.0005, "weight decay at the nominal batch size")
    nominal_batch: float = hyper(64.0, "images per optimizer step, up to which smaller batches are accumulated", 1)
    warmup_epochs: float = hyper(3.0, "epochs of warm-up")
    warmup_steps: float = hyper(100.0, "minimum number of batches of warm-up", 1)
    warmup_momentum: float = hyper(0.8, "momentum at the start of the warm-up", 0, 1)
    warmup_bias_lr: float = hyper(0.1, "bias learning rate at the start of the warm-up")
    backbone_lr: float = hyper(1.0, "learning rate of a whole backbone (timm, HorNet ...) relative to that of the rest", 0, 1)
    ema_share: float = hyper(0.0, "updates that the EMA averages over, as a share of the run's; 0 is YOLOv5's, for long runs", 0, 1)
    box: float = hyper(0.05, "gain of the box loss")
    cls: float = hyper(0.5, "gain of the class loss")
    cls_pw: float = hyper(1.0, "positive weight of the class BCE")
    obj: float = hyper(1.0, "gain of the objectness loss")
    obj_pw: float = hyper(1.0, "positive weight of the objectness BCE")
    anchor_t: float = hyper(4.0, "maximum ratio of the sides of a target and its anchor", 1)
    anchors: float | None = hyper(None, "number of anchors per level, fitted to the data", 1)
    fl_gamma: float = hyper(0.0, "gamma of the focal loss; 0 turns it off")
    hsv_h: float = hyper(0.015, "hue gain", 0, 1)
    hsv_s: float = hyper(0.7, "saturation gain", 0, 1)
    hsv_v: float = hyper(0.4, "value gain", 0, 1)
    degrees: float = hyper(0.0, "maximum rotation in degrees", 0, 180)
    translate: float = hyper(0.1, "maximum translation as a fraction of the image", 0, 1)
    scale: float = hyper(0.5, "maximum change of scale", 0, 1)
    shear: float = hyper(0.0, "maximum shear in degrees", 0, 89)
    perspective: float = hyper(0.0, "maximum perspective coefficient", 0, 0.01)
    flipud: float = hyper(0.0, "probability of a vertical flip", 0, 1)
    fliplr: float = hyper(0.5, "probability of a horizontal flip", 0, 1)
    mosaic: float = hyper(1.0, "probability of a mosaic", 0, 1)
    close_mosaic: float = hyper(0.0, "share of the epochs, the last ones, without mosaics", 0, 1)
    mixup: float = hyper(0.0, "probability of mixing two mosaics", 0, 1)
    copy_paste: float = hyper(0.0, "fraction of the objects with polygons that are pasted mirrored", 0, 1)
    box_loss: str = option("ciou", "box loss: ciou, eiou, siou, wiou-v3, nwd:0.5+ciou:0.5, ..., see docs/losses.md")
    cls_loss: str = option("bce", "class loss: bce, focal, quality-focal, varifocal, slide")
    obj_loss: str = option("bce", "objectness loss: bce, focal, quality-focal, varifocal, slide")
    assigner: str = option("", "which cells predict an object: anchor-ratio, lead-guided, simota, task-aligned, atss; '' is the head's own")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, str):
                if not isinstance(value, str):
                    raise UserError(f"hyper-parameter {field.name}: {value!r} is not a name")
                continue
            low, high = field.metadata["range"]
            if value is None and field.default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise UserError(f"hyper-parameter {field.name}: {value!r} is not a number")
            if not low <= value <= high:
                raise UserError(f"hyper-parameter {field.name}: {value} is outside {low} to {high}")


_UNUSED = {"iou_t"}  # in every YOLOv5 file, and read by no code


def load_hyp(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Hyp:
    """Read a hyper-parameter YAML, `overrides` (the command line's) on top.

    Raises:
        UserError: no such file, not a mapping, an unknown key, or a value out of range.
    """
    path = find_yaml(path, ROOT / "data" / "hyps", ROOT)
    values = read_yaml(path)
    known = [f.name for f in dataclasses.fields(Hyp)]
    for key in values:
        if key not in known and key not in _UNUSED:
            raise UserError(f"{path}: unknown hyper-parameter {key!r}{nearest(key, known)}")
        if isinstance(values[key], str):  # YAML 1.1 reads 1e-3 as a string because it has no point
            with contextlib.suppress(ValueError):
                values[key] = float(values[key])
    return Hyp(**{**{k: v for k, v in values.items() if k not in _UNUSED}, **(overrides or {})})


def find_yaml(name: str | Path, *folders: Path, hints: Callable[[str], str] = str) -> Path:
    """Find a YAML file: the path itself, then its name in each of `folders`; `hints` gives the name by which another file is suggested.

    Raises:
        UserError: not found; lists every path tried and the nearest name.
    """
    tried = [Path(name), *(folder / name for folder in folders)]
    for path in tried:
        if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name that is too long
            name_shadowed(path, ROOT, *tried)
            return path
    there = [hints(p.name) for folder in folders for p in folder.glob("*.yaml")]
    raise UserError(f"no file {str(name)!r}{nearest(Path(name).name, there)} (tried {', '.join(map(str, dict.fromkeys(tried)))})")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Flags of train.py."""

    weights: str = option("", "initial weights: an official YOLOv5 .pt or an Attune checkpoint; '' trains from scratch")
    cfg: str = option("", "model YAML; with --weights alone, the model is the weights' own")
    data: str = option("data/coco128.yaml", "dataset: a YAML, a COCO JSON, or a folder of images and labels")
    hyp: str = option("data/hyps/hyp.scratch-low.yaml", "hyper-parameter YAML")
    epochs: int = option(100, "number of epochs")
    batch_size: int = option(16, "images per step over all processes; -1 fits it to the GPU's memory", "--batch")
    imgsz: int = option(640, "side of the training and validation images in pixels", *IMGSZ)
    rect: bool = option(False, "rectangular batches (no mosaic)")
    resume: str = option("", "resume the newest run below --project, or the given checkpoint", nargs="?", const="newest")
    resume_anyway: bool = option(False, "resume although data or settings differ from those of the run")
    nosave: bool = option(False, "save the last epoch's checkpoint only")
    noval: bool = option(False, "validate after the last epoch only")
    noautoanchor: bool = option(False, "keep the model's anchors")
    noplots: bool = option(False, "draw no plots")
    cache: str = option("", "keep decoded images in 'ram' or on 'disk'", nargs="?", const="ram", choices=("ram", "disk"))
    image_weights: bool = option(False, "sample images of badly detected classes more often")
    device: str = option("", "cpu, mps, 0, or 0,1,2,3; '' takes the first GPU, else the CPU")
    multi_scale: bool = option(False, "vary the image size of each batch from half to one and a half")
    single_cls: bool = option(False, "treat all classes as one")
    classes: tuple[int, ...] | None = option(None, "train on these classes only (class ids of the dataset)", nargs="+", type=int)
    optimizer: str = option("SGD", "optimizer", choices=("SGD", "Adam", "AdamW"))
    sync_bn: bool = option(False, "synchronised batch norm over several GPUs")
    workers: int = option(8, "maximum number of dataloader workers per rank; 0 loads in the training process")
    project: str = option("runs/train", "folder of the runs")
    name: str = option("exp", "name of the run")
    exist_ok: bool = option(False, "write into an existing run folder")
    cos_lr: bool = option(False, "cosine in place of linear learning-rate schedule")
    label_smoothing: float = option(0.0, "label smoothing epsilon")
    nms: str = option("hard", f"suppression in validations: {', '.join(SUPPRESSIONS)}", choices=SUPPRESSIONS)
    patience: int = option(100, "early stopping after so many epochs without improvement; 0 turns it off")
    freeze: tuple[int, ...] = option((0,), "N freezes rows 0 to N-1; several numbers freeze those rows", nargs="+", type=int)
    save_period: int = option(-1, "also keep a checkpoint every N epochs")
    keep_resume: bool = option(False, "keep what resuming needs when the run is finished, to train for more epochs later")
    save_interval: float = option(10.0, "save within an epoch every N minutes; 0 saves after epochs only")
    rank_timeout: float = option(30.0, "with torchrun: minutes until an unresponsive process counts as hanging")
    seed: int = option(0, "seed of weights, order and augmentation")
    local_rank: int = option(-1, "GPU of this process, set by old launchers; torchrun needs no flag")
    amp: str = option(
        "auto", "mixed precision: auto takes fp16 on CUDA, bf16 on CPUs that have it", choices=("auto", "off", "bf16", "fp16")
    )
    compile: bool = option(False, "compile the model with torch.compile")
    deterministic: bool = option(False, "deterministic kernels on CUDA (CPU runs repeat to the bit anyway)")
    plugins: tuple[str, ...] = option((), "Python files of your own that register modules", nargs="+", type=str)
    augment: str = option("", "file.py:function, an augmentation of your own, see docs/train-on-your-data.md")

    def __post_init__(self) -> None:
        check_minimum(self, epochs=1, imgsz=32, workers=0, patience=0, seed=0)
        if not 0 < self.rank_timeout < 1e6:
            raise UserError(f"--rank-timeout must be a number of minutes above 0, got {self.rank_timeout}")
        if not 0 <= self.save_interval < math.inf:
            raise UserError(f"--save-interval must be a number of minutes >= 0, got {self.save_interval}")
        if self.imgsz > MAX_IMGSZ:
            raise UserError(f"--imgsz must be <= {MAX_IMGSZ}, got {self.imgsz}")
        if self.batch_size < 1 and self.batch_size != -1:
            raise UserError(f"--batch-size must be >= 1, or -1 to fit it to the GPU, got {self.batch_size}")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"--label-smoothing must be in 0..1 and below 1, got {self.label_smoothing}")
        if self.rect and self.image_weights:
            raise UserError("--rect and --image-weights exclude each other")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ValConfig:
    """Flags of val.py."""

    data: str = option("data/coco128.yaml", "dataset: a YAML, a COCO JSON, or a folder of images and labels")
    weights: tuple[str, ...] = option(("yolov5s.pt",), "one or more checkpoints; several are an ensemble", nargs="+", type=str)
    batch_size: int = option(32, "images per batch", "--batch")
    imgsz: int = option(640, "side of the images in pixels", *IMGSZ)
    conf_thres: float = option(0.001, "minimum confidence of a detection")
    iou_thres: float = option(0.6, "IoU above which NMS drops the weaker of two boxes")
    nms: str = option("hard", "suppression: hard, soft-linear, soft-gaussian, diou, cluster, matrix, merge, wbf", choices=SUPPRESSIONS)
    max_det: int = option(300, "maximum number of detections per image")
    task: str = option("val", "split to evaluate, or speed, or study", choices=("val", "train", "test", "speed", "study"))
    device: str = option("", "cpu, mps, 0, ...; '' takes the first GPU, else the CPU")
    workers: int = option(8, "maximum number of dataloader workers")
    single_cls: bool = option(False, "treat all classes as one")
    classes: tuple[int, ...] | None = option(None, "evaluate these classes only (class ids of the dataset)", nargs="+", type=int)
    augment: bool = option(False, "test-time augmentation")
    verbose: bool = option(False, "print every class, however many")
    save_txt: bool = option(False, "write the detections as labels/*.txt")
    save_hybrid: bool = option(False, "add the ground truth to NMS and save both; inflates the metrics")
    save_conf: bool = option(False, "append the confidence to --save-txt lines")
    save_json: bool = option(False, "write the detections as COCO JSON")
    project: str = option("runs/val", "folder of the runs")
    name: str = option("exp", "name of the run")
    exist_ok: bool = option(False, "write into an existing run folder")
    half: bool = option(False, "half precision: fp16 on CUDA, bf16 on a CPU that has it")
    metric: str = option("coco", "'yolov5' also prints AP as YOLOv5 computes it", choices=("coco", "yolov5"))
    noplots: bool = option(False, "draw no plots")
    plugins: tuple[str, ...] = option((), "Python files of your own that register modules", nargs="+", type=str)

    def __post_init__(self) -> None:
        check_thresholds(self)
        check_minimum(self, batch_size=1, imgsz=1, max_det=1, workers=0)
        if self.imgsz > MAX_IMGSZ:
            raise UserError(f"--imgsz must be <= {MAX_IMGSZ}, got {self.imgsz}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DetectConfig:
    """Flags of detect.py."""

    weights: tuple[str, ...] = option(("yolov5s.pt",), "one or more checkpoints; several are an ensemble", nargs="+", type=str)
    source: str = option("data/images", "image, video, folder, glob, .txt or .streams list, URL, webcam number, 'screen [n] [l t w h]'")
    data: str = option("", "data YAML whose class names are used where the weights have none")
    imgsz: tuple[int, ...] = option((640,), "height and width in pixels, or one number for both", *IMGSZ, nargs="+", type=int)
    tile: int = option(0, "side in pixels of overlapping tiles to detect in besides the whole image, for small objects; 0 does without")
    overlap: float = option(0.2, "fraction of a tile that its neighbour covers too")
    track: bool = option(False, "number the objects of a video or stream through its frames (ByteTrack)")
    conf_thres: float = option(0.25, "minimum confidence of a detection")
    iou_thres: float = option(0.45, "IoU above which NMS drops the weaker of two boxes")
    nms: str = option("hard", "suppression: hard, soft-linear, soft-gaussian, diou, cluster, matrix, merge, wbf", choices=SUPPRESSIONS)
    max_det: int = option(1000, "maximum number of detections per image")
    device: str = option("", "cpu, mps, 0, ...; '' takes the first GPU, else the CPU")
    runtime: str = option("torch", "what computes a .pt; auto: openvino or onnx on a CPU", choices=("auto", "torch", "onnx", "openvino"))
    view_img: bool = option(False, "show the images in a window")
    save_txt: bool = option(False, "write the detections as labels/*.txt")
    save_format: int = option(0, "--save-txt boxes: 0 is normalized xywh, 1 is normalized xyxy", choices=(0, 1), type=int)
    save_csv: bool = option(False, "write predictions.csv")
    save_json: bool = option(False, "write predictions.json in COCO format")
    save_conf: bool = option(False, "append the confidence to --save-txt lines")
    save_crop: bool = option(False, "write a crop of each box below crops/")
    attention: int = option(0, "explain the N-th most confident detection of each image below attention/", nargs="?", const=1, type=int)
    nosave: bool = option(False, "save no annotated images or videos")
    classes: tuple[int, ...] | None = option(None, "keep these classes only", nargs="+", type=int)
    agnostic_nms: bool = option(False, "let boxes of different classes suppress each other")
    augment: bool = option(False, "test-time augmentation")
    project: str = option("runs/detect", "folder of the runs")
    name: str = option("exp", "name of the run")
    exist_ok: bool = option(False, "write into an existing run folder")
    line_thickness: int = option(3, "line width of the boxes in pixels")
    hide_labels: bool = option(False, "draw no class names")
    hide_conf: bool = option(False, "draw no confidences")
    half: bool = option(False, "half precision: fp16 on CUDA, bf16 on a CPU that has it")
    vid_stride: int = option(1, "use every k-th frame of a video")
    plugins: tuple[str, ...] = option((), "Python files of your own that register modules", nargs="+", type=str)

    def __post_init__(self) -> None:
        check_thresholds(self)
        if self.attention < 0:
            raise UserError(f"--attention must be >= 1, got {self.attention}")
        if self.attention and len(self.weights) > 1:
            raise UserError(f"--attention explains one model, not an ensemble of {len(self.weights)}; give one file to --weights")
        check_minimum(self, max_det=1, vid_stride=1, line_thickness=1)
        if len(self.imgsz) > 2 or not all(1 <= side <= MAX_IMGSZ for side in self.imgsz):
            shown = " ".join(map(str, self.imgsz))
            raise UserError(f"--imgsz must be height and width, or one number for both, of 1 to {MAX_IMGSZ} pixels, got {shown}")
