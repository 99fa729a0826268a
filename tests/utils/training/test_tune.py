"""train.py --tune and --evolve: the trials of a search, killed and continued."""

from __future__ import annotations

import csv
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

import train
from tests.tiny_model import TINY
from utils.config import Hyp, TrainConfig, load_hyp
from utils.errors import DivergedError, StopError, UserError
from utils.training import session, tune
from utils.training.history import COLUMNS

FAST = ("--imgsz", "64", "--batch-size", "4", "--workers", "0", "--device", "cpu", "--epochs", "1")


class Trainings:
    """In the place of train(): a run whose AP is best at lr0 = 0.02, which diverges above 0.05; `stop` ends the trial of that number."""

    def __init__(self, stop: int = -1) -> None:
        self.stop, self.done = stop, [""]

    def __call__(self, config: TrainConfig, hyp: Hyp, given: frozenset[str], flags: Mapping[str, float]) -> None:
        folder = Path(config.project) / config.name
        (folder / "weights").mkdir(parents=True)
        self.done.append(config.name)
        if hyp.lr0 > 0.05:
            raise DivergedError("NaN")
        if int(config.name) == self.stop:
            raise StopError("SIGTERM: saved")
        row = dict.fromkeys(COLUMNS, 0.0) | {"metrics/mAP_0.5:0.95": 0.5 - abs(hyp.lr0 - 0.02)}
        (folder / "results.csv").write_text("\n".join([",".join(COLUMNS), ",".join(map(str, row.values()))]) + "\n")
        (folder / "metrics.json").touch()


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    found = Trainings()
    monkeypatch.setattr(tune, "train", found)
    return found


def search(folder: Path, *flags: str, plots: bool = False) -> Path:
    train.main(["--cfg", "tiny.yaml", "--project", str(folder), *flags, *([] if plots else ["--noplots"])])
    return folder / "exp"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "evolve.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_search_writes_its_trials_and_the_best_hyper_parameters(tmp_path: Path, trainings: Trainings) -> None:
    folder = search(tmp_path, "--tune", "12", "--space", "lr0=0.001:0.1", "--momentum", "0.9", plots=True)
    found = rows(folder)
    assert [row["trial"] for row in found] == [str(n) for n in range(12)]
    assert float(found[0]["lr0"]) == 0.01
    diverged = [row for row in found if row["fitness"] == "nan"]
    assert 0 < len(diverged) < 12
    assert all(float(row["lr0"]) > 0.05 for row in diverged)
    best = min((row for row in found if row not in diverged), key=lambda row: abs(float(row["lr0"]) - 0.02))
    hyp = load_hyp(folder / "hyp_evolve.yaml")
    assert (hyp.lr0, hyp.momentum, hyp.box_loss) == (float(best["lr0"]), 0.9, "ciou")
    assert not [*folder.glob("trials/*/weights")]
    assert (folder / "evolve.png").stat().st_size > 10_000


def test_a_killed_search_goes_on_with_the_same_trials(tmp_path: Path, trainings: Trainings) -> None:
    flags = ("--evolve", "6", "--seed", "3")
    straight = search(tmp_path / "straight", *flags)
    assert not (straight / "evolve.png").exists()
    trainings.stop = 4
    with pytest.raises(StopError, match=r"^SIGTERM: everything is saved; repeat the command with --resume .*exp$"):
        search(tmp_path / "killed", *flags)
    trainings.stop, trainings.done = -1, []
    killed = search(tmp_path / "killed", *flags, "--resume")
    assert trainings.done == ["4", "5"]
    for name in ("evolve.csv", "hyp_evolve.yaml"):
        assert (killed / name).read_bytes() == (straight / name).read_bytes()
    search(tmp_path / "killed", "--evolve", "8", "--seed", "3", "--resume", str(killed))  # more trials
    assert rows(killed)[:6] == rows(straight)


def test_what_a_search_refuses(tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--resume: no evolve\.csv below"):
        search(tmp_path / "none", "--tune", "2", "--resume")
    folder = search(tmp_path, "--tune", "2")
    with pytest.raises(UserError, match=r"began with other settings \(epochs: 100 before, 5 now; space: .*lr0"):
        search(tmp_path, "--tune", "2", "--space", "momentum", "--epochs", "5", "--resume")
    (folder / "evolve.csv").write_text("trial,fitness\n0,1\n")
    with pytest.raises(UserError, match=r"evolve\.csv: not the trials of a search .*lr0.*; begin another search"):
        search(tmp_path, "--tune", "2", "--resume")
    with pytest.raises(UserError, match="all 2 trials diverged; begin with a lower --lr0"):
        search(tmp_path / "wild", "--tune", "2", "--lr0", "1", "--space", "lr0=0.9:1")
    with pytest.raises(UserError, match="a search that goes on needs the flags with which it began"):
        train.main(["--tune", "2", "--resume", str(folder)])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="train in one process; omit torchrun"):
        search(tmp_path, "--tune", "2")


def test_a_forged_folder_does_not_lead_out_of_it(tmp_path: Path, trainings: Trainings) -> None:
    folder, outside = search(tmp_path, "--tune", "1"), tmp_path / "outside"
    outside.mkdir()
    (folder / "trials" / "1").symlink_to(outside)
    with pytest.raises(UserError, match=r"is a link to .*outside"):
        search(tmp_path, "--tune", "3", "--resume")
    assert not [*outside.iterdir()]


@pytest.mark.slow
def test_real_trainings_stopped_within_a_trial(tmp_path: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text(yaml.safe_dump(TINY))
    flags = ["--cfg", str(cfg), "--data", str(tiny_dataset), *FAST, "--evolve", "3"]
    train.main([*flags, "--project", str(tmp_path / "straight")])
    overview, calls = session.log_overview, []

    def interrupt(run: session.Run) -> None:
        calls.append(run.folder.name)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        overview(run)

    monkeypatch.setattr(session, "log_overview", interrupt)
    with pytest.raises(StopError, match="SIGTERM"):
        train.main([*flags, "--project", str(tmp_path / "killed")])
    train.main([*flags, "--project", str(tmp_path / "killed"), "--resume"])
    assert calls == ["0", "1", "1", "2"]
    straight, killed = (tmp_path / name / "exp" / "evolve.csv" for name in ("straight", "killed"))
    assert killed.read_bytes() == straight.read_bytes()
    train.main([*flags[:-2], "--hyp", str(killed.with_name("hyp_evolve.yaml")), "--project", str(tmp_path / "then")])
