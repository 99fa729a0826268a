"""Detect objects in images, videos, folders, lists, streams, cameras and the screen.

python detect.py --weights yolov5s.pt --source street.mp4
python detect.py --weights runs/train/exp/weights/best.pt --source 'photos/*.jpg' --save-txt --save-crop
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from utils.cli import parse, run
from utils.config import ROOT, DetectConfig, find_yaml
from utils.device import has_display
from utils.errors import UserError
from utils.files.run_folders import new_run_folder
from utils.files.yaml_file import read_yaml
from utils.log import LOG, printable, start_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from utils.explain.attention_sheets import AttentionSheets
    from utils.inference.frame import Frame, Source
    from utils.inference.outputs import OutputOptions
    from utils.inference.predictor import Predictor
    from utils.inference.results import Results
    from utils.inference.tracking import Tracks


def main() -> None:
    """Parse the flags, open the source, load the weights, detect, and report."""
    cfg, given = parse(DetectConfig, description=__doc__ or "")
    if cfg.view_img and not has_display():
        raise UserError("--view-img: this machine has no display (DISPLAY is not set); omit the flag, the images are saved anyway")
    from utils.inference.sources import open_source

    start_log()
    place = cfg.source if "source" in given else str(ROOT / cfg.source)  # the pictures shipped with the repository
    source = open_source(place, vid_stride=cfg.vid_stride)
    try:
        tracks = start_tracks(source, cfg.conf_thres) if cfg.track else None
        predictor = load_predictor(cfg)
        folder = new_run_folder(cfg.project, cfg.name, exist_ok=cfg.exist_ok)
        report(source, folder, detect(source, predictor, folder, cfg, tracks))
    finally:
        source.close()


def start_tracks(source: Source, conf: float) -> Tracks:
    """What tracks the objects of the source's videos or streams.

    Raises:
        UserError: there are separate images, or a package is missing.
    """
    from utils.inference.sources import Files, is_video
    from utils.inference.tracking import Tracks

    if image := next((file for file in source.files if not is_video(file)), None) if isinstance(source, Files) else None:
        raise UserError(f"--track: {image} is a single image; give a video, a stream or a webcam to --source")
    return Tracks(conf)


def load_predictor(cfg: DetectConfig) -> Predictor:
    """Load the weights, several as an ensemble."""
    from models import load_model
    from models.ensemble import join
    from models.plugins import load_plugins
    from utils.device import select_device
    from utils.inference.predictor import Predictor
    from utils.inference.tracking import LOW

    load_plugins(cfg.plugins)
    device = select_device(cfg.device)
    model = join([load_model(path, device=device) for path in in_runtime(cfg, device)])
    model.names = names_from(cfg.data, model.names) if cfg.data else model.names
    predictor = Predictor(
        model=model,
        imgsz=(cfg.imgsz[0], cfg.imgsz[-1]),
        conf=min(cfg.conf_thres, LOW) if cfg.track else cfg.conf_thres,
        iou=cfg.iou_thres,
        nms=cfg.nms,
        classes=cfg.classes,
        agnostic=cfg.agnostic_nms,
        max_det=cfg.max_det,
        augment=cfg.augment,
        half=cfg.half,
    )
    if model.fixed_shape and predictor.shape != predictor.imgsz:
        LOG.info("--imgsz %s is not used: the exported file takes images of %s only", predictor.imgsz, predictor.shape)
    elif predictor.shape != predictor.imgsz:
        LOG.info("--imgsz %s is rounded up to %s, multiples of the model's stride %d", predictor.imgsz, predictor.shape, model.max_stride)
    return predictor


def in_runtime(cfg: DetectConfig, device: torch.device) -> Sequence[str | Path]:
    """The weights, or what they are in the runtime of ``--runtime``.

    Raises:
        UserError: a flag looks into the network, which torch alone can, or the weights cannot be exported.
    """
    if cfg.runtime == "torch":
        return cfg.weights
    from utils.export.runtime_cache import choose_runtime, exported_weights

    inside = [flag for flag in ("attention", "augment") if getattr(cfg, flag)]
    if inside and cfg.runtime != "auto":
        raise UserError(f"--runtime {cfg.runtime}: --{inside[0]} needs --runtime torch")
    runtime = "torch" if inside else choose_runtime(cfg.runtime, device)
    LOG.info("runtime: %s", runtime)
    return cfg.weights if runtime == "torch" else [exported_weights(path, runtime, cfg.plugins) for path in cfg.weights]


def names_from(data: str, names: dict[int, str]) -> dict[int, str]:
    """Class names of a data YAML in place of class0, class1, ...; names that the weights have are kept.

    Raises:
        UserError: no such YAML, or another number of classes.
    """
    from models.spec.model_spec import parse_names

    path = find_yaml(data, ROOT / "data", ROOT)
    given = dict(enumerate(parse_names(read_yaml(path).get("names"), str(path)) or ()))
    if any(name != f"class{cls}" for cls, name in names.items()):
        return names
    if len(given) != len(names):
        raise UserError(f"--data {path}: {len(given)} class names, but the weights have {len(names)} classes")
    return given


def detect(source: Source, predictor: Predictor, folder: Path, cfg: DetectConfig, tracks: Tracks | None) -> Tally:
    """Detect in every frame of the source, number what is tracked, and write the requested files; return the counts."""
    from utils.inference.outputs import Outputs
    from utils.inference.results import count_by_class
    from utils.inference.tiles import TiledPredictor

    tally = Tally()
    look = TiledPredictor(predictor=predictor, tile=cfg.tile, overlap=cfg.overlap) if cfg.tile else predictor
    explain = explainer(predictor, folder, cfg)
    show = cfg.view_img or (source.live and has_display())
    with Outputs(folder, output_options(cfg)) as outputs:
        try:
            for frame in source:
                results = look(frame.image, frame.path)
                if tracks:
                    results = tracks.add(frame, results)
                tally.add(frame, results)
                drawn = None
                if show or not cfg.nosave:
                    drawn = results.plot(line_width=cfg.line_thickness, labels=not cfg.hide_labels, conf=not cfg.hide_conf)
                outputs.add(frame, results, drawn)
                if explain:
                    explain.add(frame, results)
                if show and drawn is not None and not show_image(frame.key, drawn):
                    break
        except KeyboardInterrupt:
            if not source.live:  # Ctrl-C is how a live source ends, and cuts short a file
                raise
        tally.labels = outputs.labels
        tally.tracks = {key: count_by_class(classes, predictor.model.names) for key, classes in tracks.found.items()} if tracks else {}
    return tally


def show_image(title: str, image: NDArray[np.uint8]) -> bool:
    """Show a (H, W, 3) uint8 BGR image in the window of its title; False when q or Escape was pressed.

    Raises:
        UserError: OpenCV cannot open windows here.
    """
    import cv2

    try:
        cv2.imshow(printable(title), image)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), ord("Q"), 27)
    except cv2.error as error:
        raise UserError(f"--view-img: OpenCV cannot open a window here ({error.err}); omit the flag") from error


def explainer(predictor: Predictor, folder: Path, cfg: DetectConfig) -> AttentionSheets | None:
    """The writer of --attention's sheets."""
    if not cfg.attention:
        return None
    from models.detector import Detector
    from utils.explain.attention_sheets import AttentionSheets

    if not isinstance(predictor.model, Detector):
        raise UserError(f"--attention: looks into the network, so it needs the .pt that {cfg.weights[0]} was exported from")
    return AttentionSheets(folder, predictor.model, predictor.shape, cfg.attention)


def output_options(cfg: DetectConfig) -> OutputOptions:
    """The flags for output."""
    from utils.inference.outputs import OutputOptions

    return OutputOptions(
        images=not cfg.nosave,
        txt=cfg.save_txt,
        corners=cfg.save_format == 1,
        conf=cfg.save_conf,
        csv=cfg.save_csv,
        json=cfg.save_json,
        crops=cfg.save_crop,
        tracks=cfg.track,
    )


class Tally:
    """Counts and times of a run."""

    def __init__(self) -> None:
        self.frames = self.labels = 0
        self.shape = (0, 0)
        self.ms: dict[str, float] = {}
        self.tracks: dict[str, str] = {}

    def add(self, frame: Frame, results: Results) -> None:
        """Count and log a frame."""
        self.frames, self.shape = self.frames + 1, results.shape
        for part, ms in results.speed.items():
            self.ms[part] = self.ms.get(part, 0.0) + ms
        LOG.info("%s: %dx%d %s, %.1fms", printable(frame.title), *results.shape, results.summary(), results.speed["inference"])

    def speed(self) -> str:
        """Mean milliseconds per frame of each part."""
        parts = ", ".join(f"{ms / self.frames:.1f}ms {part}" for part, ms in self.ms.items())
        return f"Speed: {parts} per image at shape (1, 3, {self.shape[0]}, {self.shape[1]})"


def report(source: Source, folder: Path, tally: Tally) -> None:
    """Log what was done and what failed.

    Raises:
        UserError: no source could be read.
    """
    if tally.frames:
        LOG.info(tally.speed())
    for key, counts in tally.tracks.items():
        LOG.info("%s: tracked %s", printable(key), counts)
    if tally.labels:
        LOG.info("%d label files saved to %s", tally.labels, folder / "labels")
    for note in source.notes:
        LOG.warning(printable(note))
    if source.failures:
        LOG.warning("%d of %d sources could not be read:", len(source.failures), len(source))
        for name, reason in source.failures.items():
            LOG.warning("  %s: %s", printable(name), printable(reason))
    if not tally.frames:
        raise UserError("no source could be read")
    LOG.info("Results saved to %s", folder)


if __name__ == "__main__":
    # The report names every file and stream that cannot be read; the libraries' own messages would bury it.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    run(main)
