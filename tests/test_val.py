"""val.py end to end: the files it writes, the figures it must reproduce, and what it answers to bad input."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from utils.errors import UserError
from val import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """An untrained checkpoint for the classes of the drawn dataset."""
    from models import build_model
    from utils.data.config import load_data
    from utils.training.checkpoint import save_checkpoint

    model = build_model("yolov5n.yaml", names=load_data(tiny_dataset).names)
    state = {"model": model.state_dict(), "ema": None, "resume": None}
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    rest = {"spec": model.spec.to_dict(), "names": dict(model.names), "config": {}, "hyp": {}, "epoch": 0, "metrics": {}}
    save_checkpoint(path, {"attune": 1, **state, **rest})
    return path


def flags(weights: Path, data: Path, project: Path, *more: str) -> list[str]:
    return ["--weights", str(weights), "--data", str(data), "--img", "128", "--project", str(project), "--workers", "0", *more]


def test_a_run_folder_holds_everything(weights: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    main(
        flags(weights, tiny_dataset, tmp_path, "--save-txt", "--save-conf", "--save-json", "--metric", "yolov5", "--conf-thres", "0.00001")
    )
    folder = tmp_path / "exp"
    wanted = {"metrics.json", "per_class.csv", "confusion_matrix.csv", "confusion_matrix.png", "tiny_predictions.json", "labels"}
    wanted |= {f"{curve}_curve.png" for curve in ("PR", "F1", "P", "R")} | {"val_batch0_labels.jpg", "val_batch0_pred.jpg"}
    assert {p.name for p in folder.iterdir()} == wanted
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["images"] == 4
    assert set(figures["yolov5"]) == {"precision", "recall", "map50", "map"}
    with (folder / "confusion_matrix.csv").open(newline="") as file:
        matrix = list(csv.reader(file))
    assert len(matrix) == len(matrix[0])
    assert sum(int(v) for row in matrix[1:] for v in row[1:]) >= figures["instances"]
    for row in json.loads((folder / "tiny_predictions.json").read_text()):
        assert set(row) == {"image_id", "category_id", "bbox", "score", "file_name"}


def test_a_split_without_objects_is_not_measured(
    weights: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(tiny_dataset.parent / "images" / "val", images)
    content = yaml.safe_load(tiny_dataset.read_text())
    (tmp_path / "bare.yaml").write_text(yaml.safe_dump({"train": "images", "val": "images", "names": content["names"]}))
    main(flags(weights, tmp_path / "bare.yaml", tmp_path / "runs"))
    out = capsys.readouterr().out
    assert "'val' has no box to measure, so AP will be NaN" in out
    assert "AP nan, AP50 nan" in out
    metrics = json.loads((tmp_path / "runs" / "exp" / "metrics.json").read_text())
    assert (metrics["ap"], metrics["precision"], metrics["yolov5"]["map50"]) == (None, None, None)


def test_the_table_is_printed(weights: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(flags(weights, tiny_dataset, tmp_path, "--noplots"))
    out = capsys.readouterr().out
    assert "Class     Images  Instances          P          R      mAP50   mAP50-95" in out
    assert "AP small" in out
    assert "NMS" in out
    assert not list((tmp_path / "exp").glob("*.png"))


def test_an_ensemble_of_equals_measures_as_one(weights: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    main(flags(weights, tiny_dataset, tmp_path, "--noplots"))
    main([*flags(weights, tiny_dataset, tmp_path, "--noplots"), "--weights", str(weights), str(weights)])
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("exp", "exp2"))
    assert one["ap"] == two["ap"]


def test_speed_task_writes_nothing(weights: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(flags(weights, tiny_dataset, tmp_path, "--task", "speed"))
    assert "per image of 128 x 128" in capsys.readouterr().out
    assert not (tmp_path / "exp").exists()


def test_study_stays_in_the_run_folder(weights: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("val.STUDY_SIZES", (64, 96))
    main(flags(weights, tiny_dataset, tmp_path, "--task", "study"))
    (table,) = (tmp_path / "exp").glob("study_*_tiny.txt")
    assert [len(line.split()) for line in table.read_text().splitlines()] == [10, 10]
    assert table.with_suffix(".png").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--conf-thres", "2"], "--conf-thres"),
        (["--iou-thres", "-1"], "--iou-thres"),
        (["--batch-size", "0"], "--batch-size"),
        (["--imgsz", "0"], "--imgsz"),
        (["--max-det", "0"], "--max-det"),
        (["--iou-thresh", "0.5"], "iou-thres"),
        (["--classes", "99"], "class"),
        (["--device", "9"], "--device"),
        (["--weights", "absent.pt"], "absent.pt"),
        (["--data", "absent.yaml"], "absent.yaml"),
        (["--plugins", "absent.py"], "absent.py"),
        (["--task", "tset"], "test"),
    ],
)
def test_bad_flags_are_named_before_any_work(more: list[str], message: str, weights: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        main(flags(weights, tiny_dataset, tmp_path, *more))
    assert not list(tmp_path.iterdir())


def test_other_class_counts_are_refused(weights: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(tiny_dataset.read_text())
    content.update(path=str(tiny_dataset.parent), names=dict(enumerate([*dict(enumerate(content["names"])).values(), "one more"])), nc=None)
    content = {k: v for k, v in content.items() if v is not None}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="classes"):
        main(flags(weights, tmp_path / "more.yaml", tmp_path / "runs"))
    main(flags(weights, tmp_path / "more.yaml", tmp_path / "runs", "--single-cls", "--noplots"))


def test_errors_have_no_traceback() -> None:
    done = subprocess.run([sys.executable, "val.py", "--wieghts", "x"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--weights" in done.stderr
    assert "Traceback" not in done.stderr


COCO128 = {
    "coco128.yaml": {"ap": 0.3622, "ap50": 0.5632, "ap75": 0.3593, "ap_small": 0.175, "ap_medium": 0.404, "ap_large": 0.536},
    "annotations/instances_train2017.json": {
        **{"ap": 0.3654, "ap50": 0.5673, "ap75": 0.3627, "ap_small": 0.202, "ap_medium": 0.491, "ap_large": 0.529}
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("data", list(COCO128))
def test_yolov5n_on_coco128(data: str, shared: Path, tmp_path: Path) -> None:
    """The figures of YOLOv5's own val.py on the same files; those with the JSON are pycocotools'."""
    source = shared / "coco128" / data
    main(["--weights", str(shared / "yolov5n.pt"), "--data", str(source), "--iou-thres", "0.6", "--project", str(tmp_path), "--noplots"])
    figures = json.loads((tmp_path / "exp" / "metrics.json").read_text())
    assert {k: figures[k] for k in COCO128[data]} == pytest.approx(COCO128[data], abs=0.002)
    if data == "coco128.yaml":
        assert figures["yolov5"] == pytest.approx({"precision": 0.572, "recall": 0.508, "map50": 0.560, "map": 0.361}, abs=0.003)
