"""Every export format that runs here: size, AP and its loss against torch, latency at batch 1, memory.

python -m benchmarks.formats --weights best.pt --data my.yaml [--imgsz 640] [--include onnx openvino openvino-int8]

All of them compute squares of one size. Latency and peak memory are those of a process that runs one model alone, as detect.py does:
in one process, the threads of one runtime wait for work by spinning while another one computes. The processes run in turn. Writes
formats.md, formats.csv and formats.png into a run folder.
"""

from __future__ import annotations

import csv
import dataclasses
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.validation import SHARED
from utils.cli import option, parse, run
from utils.config import IMGSZ
from utils.errors import UserError
from utils.files.run_folders import new_run_folder
from utils.log import LOG, start_log

VARIANTS: dict[str, dict[str, Any]] = {
    "onnx": {},
    "onnx-half": {"half": True},
    "openvino": {},
    "openvino-half": {"half": True},
    "openvino-int8": {"int8": True},
    "torchscript": {},
    "ncnn": {},
    "litert": {},
    "pt2": {},
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FormatsConfig:
    """Flags of ``python -m benchmarks.formats``."""

    weights: str = option(str(SHARED / "yolov5n.pt"), "checkpoint")
    data: str = option(str(SHARED / "coco128" / "coco128.yaml"), "dataset")
    imgsz: int = option(640, "side of the images in pixels", *IMGSZ)
    include: tuple[str, ...] = option(tuple(VARIANTS), "formats", nargs="+", type=str, choices=tuple(VARIANTS))
    rounds: int = option(5, "processes of each model")
    passes: int = option(20, "timed passes in each process")
    project: str = option("runs/formats", "folder of the runs")
    alone: str = option("", "print the peak memory and the latencies of a file, and exit")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; what could not be exported has a reason alone.

    `difference` is that of the worst box from torch, relative, or with int8 of the median one; None for torch itself.
    """

    format: str
    megabytes: float = 0.0
    difference: float | None = None
    ap: float = 0.0
    ap50: float = 0.0
    median_ms: float = 0.0
    p95_ms: float = 0.0
    memory_mb: float = 0.0
    reason: str = ""


def main() -> None:
    """Export, measure, and write the table."""
    cfg, _ = parse(FormatsConfig, description=__doc__ or "")
    if cfg.alone:
        print_alone(cfg)
        return
    start_log()
    folder = new_run_folder(cfg.project, Path(cfg.weights).stem)
    weights = folder / Path(cfg.weights).name
    shutil.copyfile(cfg.weights, weights)
    files, differences, reasons = {"torch": weights}, {}, {}
    for name in cfg.include:
        try:
            files[name], differences[name] = export_one(name, weights, cfg)
        except UserError as error:
            reasons[name] = str(error)
    rows = measure_all(files, differences, cfg) + [Row(name, reason=reason) for name, reason in reasons.items()]
    write(folder, rows, cfg)


def export_one(name: str, weights: Path, cfg: FormatsConfig) -> tuple[Path, float | None]:
    """Export to a folder of its own: the file, and how much its boxes differ from torch's."""
    from utils.export.config import ExportConfig
    from utils.export.exporter import export

    own = weights.parent / name
    own.mkdir()
    shutil.copyfile(weights, own / weights.name)
    flags = {**VARIANTS[name], "data": cfg.data if "int8" in VARIANTS[name] else ""}
    (done,) = export(ExportConfig(weights=str(own / weights.name), include=(name.partition("-")[0],), imgsz=(cfg.imgsz,), **flags))
    return done.path, done.comparison.difference if done.comparison else None


def measure_all(files: dict[str, Path], differences: dict[str, float | None], cfg: FormatsConfig) -> list[Row]:
    """Run each file in processes of its own, in turn, then evaluate it."""
    from models import load_model

    times: dict[str, list[float]] = {name: [] for name in files}
    memory: dict[str, float] = {}
    for _ in range(cfg.rounds):
        for name, path in files.items():
            memory[name], passes = run_alone(path, cfg)
            times[name] += passes
    rows = []
    for name, path in files.items():
        ap, ap50 = evaluate(load_model(path), cfg)
        median, p95 = statistics.median(times[name]), statistics.quantiles(times[name], n=20)[-1]
        rows.append(Row(name, size(path), differences.get(name), ap, ap50, median, p95, memory[name]))
        LOG.info("%s", line(rows[-1], rows[0]))
    return rows


def evaluate(model: Any, cfg: FormatsConfig) -> tuple[float, float]:
    """AP and AP50 on the validation split, in squares."""
    from utils.config import ValConfig
    from utils.data.config import load_data
    from utils.data.scan import load_index
    from utils.evaluation.evaluate import Settings
    from val import ModelAndData, measure

    data = load_data(cfg.data)
    bench = ModelAndData(ValConfig(data=cfg.data, workers=0), model, data, load_index(data, "val"), "val")
    evaluation, _ = measure(bench, Settings(), imgsz=cfg.imgsz, rect=False)
    return evaluation.metrics.ap, evaluation.metrics.ap50


def run_alone(path: Path, cfg: FormatsConfig) -> tuple[float, list[float]]:
    """Peak memory in 1e6 bytes and latencies in ms of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.formats", "--alone", str(path), "--imgsz", str(cfg.imgsz), "--passes", str(cfg.passes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    memory, *passes = map(float, done.stdout.splitlines()[-1].split())
    return memory, passes


def print_alone(cfg: FormatsConfig) -> None:
    """Load a model, run it, and print this process's peak memory and the latencies."""
    import torch

    from models import load_model
    from utils.device import peak_memory_mb

    model = load_model(cfg.alone)
    image = torch.rand(1, 3, cfg.imgsz, cfg.imgsz).to(memory_format=torch.channels_last)
    passes = []
    with torch.inference_mode():
        for _ in range(cfg.passes + 3):  # the first passes warm up
            start = time.perf_counter()
            model(image)
            passes.append((time.perf_counter() - start) * 1e3)
    print(peak_memory_mb(), *passes[3:])


def size(path: Path) -> float:
    """Of a file or folder in 1e6 bytes."""
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.iterdir())) / 1e6


def line(row: Row, torch_row: Row) -> str:
    """A row of the Markdown table."""
    if row.reason:
        return f"| {row.format} | not here: {row.reason} | | | | | | | | |"
    boxes = "" if row.difference is None else f"{row.difference:.0e}"
    figures = f"{row.megabytes:.1f} | {boxes} | {row.ap:.4f} | {row.ap - torch_row.ap:+.4f} | {row.ap50:.4f} | {row.median_ms:.1f}"
    return f"| {row.format} | {figures} | {row.median_ms / torch_row.median_ms:.2f} | {row.p95_ms:.1f} | {row.memory_mb:.0f} |"


def write(folder: Path, rows: list[Row], cfg: FormatsConfig) -> None:
    """Write formats.md, formats.csv and formats.png."""
    from matplotlib.figure import Figure

    names = ("format", "MB", "boxes", "AP", "loss", "AP50", "median ms", "to torch", "p95 ms", "peak MB")
    header = f"| {' | '.join(names)} |\n|---{'|--:' * (len(names) - 1)}|\n"
    table = header + "\n".join(line(row, rows[0]) for row in rows) + "\n"
    (folder / "formats.md").write_text(table, encoding="utf-8")
    with (folder / "formats.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Row)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        if not row.reason:
            axes.scatter(row.median_ms, row.ap)
            axes.annotate(row.format, (row.median_ms, row.ap), xytext=(4, 4), textcoords="offset points")
    axes.set(xlabel=f"ms per image of {cfg.imgsz} x {cfg.imgsz}, median", ylabel="AP", title=Path(cfg.weights).name)
    figure.savefig(folder / "formats.png", dpi=150)
    print(table + f"\n{folder}")


if __name__ == "__main__":
    run(main)
