"""AP of whole trainings beside YOLOv5's: by dataset, start, recipe and seed, and with each of Attune's deviations from YOLOv5 undone.

python -m benchmarks.accuracy FOLDER --yolov5 FOLDER      YOLOv5 (AGPL) is installed outside this environment,
                                                          as `python -m benchmarks.yolov5` says, with "numpy<2.4" for its np.trapz

Every finished training is a row of FOLDER/runs.csv and is kept: repeating the command goes on, and other datasets, recipes or seeds
add rows. All validate on the test part of their dataset, or, while a recipe is searched, on another part (--part val); AP is YOLOv5's.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import yaml

from benchmarks.train_step import ROOT
from benchmarks.validation import SHARED
from utils.cli import option, parse, run
from utils.errors import UserError
from utils.log import LOG, start_log

EPOCHS = {"fruits": 20, "shapes": 20, "coco128": 30}
IMGSZ = 320
RECIPES = ("yolov5", "attune", "small", "last-write", "dropped-remainder", "exact-decoding")
LAST, BEST = "last", "best"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyConfig:
    """Flags of ``python -m benchmarks.accuracy``."""

    folder: str = option("runs/accuracy", "folder of the datasets, the runs and the tables", positional=True)
    yolov5: str = option("", "folder that YOLOv5 is installed in")
    datasets: tuple[str, ...] = option(tuple(EPOCHS), "datasets", nargs="+", type=str, choices=tuple(EPOCHS))
    starts: tuple[str, ...] = option(("weights", "scratch"), "starts", nargs="+", type=str, choices=("weights", "scratch"))
    recipes: tuple[str, ...] = option(RECIPES, "recipes", nargs="+", type=str, choices=RECIPES)
    hyp: str = option("data/hyps/hyp.small.yaml", "hyper-parameters of the recipe 'small'")
    seeds: tuple[int, ...] = option((0, 1, 2), "seeds", nargs="+", type=int)
    part: str = option("test", "what the trainings validate on", choices=("test", "val"))
    jobs: int = option(2, "trainings at a time, of one thread each")


@dataclasses.dataclass(frozen=True, slots=True)
class Training:
    """One training; its name is the key of its row."""

    dataset: str
    start: str
    recipe: str
    seed: int
    part: str

    @property
    def name(self) -> str:
        """Also its run folder's."""
        return f"{self.dataset}-{self.start}-{self.recipe}-{self.seed}-{self.part}"


def main() -> None:
    """Train what has no row yet, and write the table after each."""
    cfg, _ = parse(AccuracyConfig, description=__doc__ or "")
    start_log()
    folder = Path(cfg.folder).resolve()
    for dataset in cfg.datasets:
        if not (folder / "data" / dataset / "test.yaml").is_file():
            write_dataset(dataset, folder / "data" / dataset)
    wanted = [
        Training(dataset, start, recipe, seed, cfg.part)
        for seed in cfg.seeds
        for dataset in cfg.datasets
        for start in cfg.starts
        for recipe in cfg.recipes
    ]
    (folder / "font").mkdir(exist_ok=True)  # YOLOv5 downloads a font unless it finds one
    shutil.copyfile(matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf", folder / "font" / "Arial.ttf")
    done = {row["name"] for row in read_rows(folder)}
    with ThreadPoolExecutor(cfg.jobs) as pool:
        for training, aps in pool.map(lambda t: (t, measure(t, folder, cfg)), [t for t in wanted if t.name not in done]):
            add_row(folder, training, aps)
            LOG.info("%s: AP %.3f at the end, %.3f at best", training.name, aps[LAST], aps[BEST])
    write_table(folder, cfg.part)


def write_dataset(name: str, folder: Path) -> None:
    """Copy a dataset in YOLO's form, in three parts; test.yaml and val.yaml name the part that is validated on."""
    from utils.data.config import load_data
    from utils.data.scan import load_index

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name == "shapes":
        subprocess.run([sys.executable, "-m", "utils.data.shapes", str(folder), "--train", "300", "--frames", "0"], check=True, cwd=ROOT)
        names = load_data(folder / "data.yaml").names
    else:
        source = {"fruits": SHARED / "fruits", "coco128": SHARED / "coco128" / "coco128.yaml"}[name]
        data = load_data(source)
        names, test = data.names, load_index(data, "val") if name == "fruits" else None
        train = load_index(data, "train")
        for k, i in enumerate(range(len(train.paths))):
            part = "val" if k % 5 == 4 else "test" if test is None and k % 5 == 2 else "train"
            write_yolo(train, i, folder, part)
        for i in range(len(test.paths) if test else 0):
            write_yolo(test, i, folder, "test")
    for part in ("val", "test"):
        content = {"path": str(folder), "train": "images/train", "val": f"images/{part}", "names": dict(names)}
        (folder / f"{part}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def write_yolo(index: Any, i: int, folder: Path, part: str) -> None:
    """Copy one image and write its label file."""
    path = index.paths[i]
    for kind in ("images", "labels"):
        (folder / kind / part).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / "images" / part / path.name)
    lines = [f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}" for c, x, y, w, h in index.annotations_of(i).tolist()]
    (folder / "labels" / part / f"{path.stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(training: Training, folder: Path, cfg: AccuracyConfig) -> dict[str, float]:
    """Train in a process of its own; return AP of the last and the best epoch.

    Raises:
        UserError: the training or a validation failed.
    """
    flags: dict[str, object] = {
        "--data": folder / "data" / training.dataset / f"{training.part}.yaml",
        "--cfg": "yolov5n.yaml",
        "--weights": SHARED / "yolov5n.pt" if training.start == "weights" else "",
        "--epochs": EPOCHS[training.dataset],
        "--imgsz": IMGSZ,
        "--batch-size": 16,
        "--seed": training.seed,
        "--workers": 0,
        "--project": folder / "runs",
        "--name": training.name,
    }
    if training.recipe == "small":
        flags["--hyp"] = ROOT / cfg.hyp
    runs, log = folder / "runs", folder / "runs" / f"{training.name}.log"
    shutil.rmtree(runs / training.name, ignore_errors=True)
    runs.mkdir(exist_ok=True)
    with log.open("w", encoding="utf-8") as file:

        def start(program: list[str], flags: dict[str, object], cwd: Path = ROOT, **variables: str) -> None:
            command = [sys.executable, *program, "--noplots", *(str(part) for pair in flags.items() for part in pair)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
            if subprocess.run(command, cwd=cwd, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode:
                raise UserError(f"{training.name} failed, see {log}")

        if training.recipe == "yolov5":
            start(
                ["-m", "yolov5.train"],
                flags,
                runs,  # where no module of this repository is in the way of its own
                PYTHONPATH=cfg.yolov5,
                WANDB_MODE="disabled",
                TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1",
                YOLOV5_CONFIG_DIR=str(folder / "font"),
            )
            with (runs / training.name / "results.csv").open(encoding="utf-8") as table:
                aps = [float(row["metrics/mAP_0.5:0.95"]) for row in csv.DictReader(table, skipinitialspace=True)]
            return {LAST: aps[-1], BEST: max(aps)}
        start(["-m", "benchmarks.accuracy.deviations", training.recipe], flags)
        found = {}
        for name in (LAST, BEST):
            trained = runs / training.name
            where = {"--weights": trained / "weights" / f"{name}.pt", "--project": trained, "--name": name}
            start(["val.py"], {key: flags[key] for key in ("--data", "--imgsz", "--workers")} | where)
            found[name] = float(json.loads((trained / name / "metrics.json").read_text(encoding="utf-8"))["yolov5"]["map"])
    return found


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The finished trainings."""
    path = folder / "runs.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add_row(folder: Path, training: Training, aps: dict[str, float]) -> None:
    """Append a finished training to runs.csv."""
    row = {"name": training.name, **dataclasses.asdict(training), **aps}
    with (folder / "runs.csv").open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)


def write_table(folder: Path, part: str) -> None:
    """Write table.md: mean and standard error of AP in points over the seeds, and the paired difference from Attune's default."""
    groups: dict[tuple[str, str, str], dict[int, dict[str, str]]] = {}
    for row in read_rows(folder):
        if row["part"] == part:
            groups.setdefault((row["dataset"], row["start"], row["recipe"]), {})[int(row["seed"])] = row
    lines = [
        "| dataset | start | recipe | seeds | AP, last epoch | difference from Attune's default | AP, best epoch |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for (dataset, start, recipe), rows in sorted(groups.items()):
        default = groups.get((dataset, start, "attune"), {})
        last, best = ([100 * float(row[which]) for row in rows.values()] for which in (LAST, BEST))
        paired = [100 * (float(rows[s][LAST]) - float(default[s][LAST])) for s in rows if s in default and recipe != "attune"]
        cells = [mean_and_error(values) for values in (last, paired, best)]
        lines.append(f"| {dataset} | {start} | {recipe} | {len(rows)} | {' | '.join(cells)} |")
    (folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def mean_and_error(values: list[float]) -> str:
    """Mean and standard error."""
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else ""
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) / len(values) ** 0.5:.2f}"


if __name__ == "__main__":
    run(main)
