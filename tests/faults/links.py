"""Folders from someone else that are written to again, and checkpoints that name a folder: nothing outside the given folder changes."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import detect
import train
import val
from tests.faults.tally import Tally, bytes_changed, snapshot
from tests.faults.training import Training, wait
from tests.utils.compare.studies import make_study
from utils.compare import report
from utils.compare.plan_io import write_plan
from utils.training.checkpoint import load_checkpoint, save_checkpoint
from utils.training.resume import newest_checkpoint

Command = Callable[[Path], tuple[Callable[[list[str]], None], list[str]]]
"""For the folder to write to again: a script's `main` and its command line."""

MADE_LATER = (
    "findings.txt",
    "transfer.txt",
    "resumed.txt",
    ".torchrun",
    ".results.csv.tmp",
    "weights/.last.pt.tmp",
    "weights/.best.pt.tmp",
)
"""Files of a training's run folder that not every run has."""


def run(folder: Path, *, short: bool) -> Tally:
    """Plant links, hard links and pipes under every name in folders of each script, and forge where a checkpoint says to write."""
    tally = Tally("links")
    folder = folder.resolve()
    training = Training(folder, "--noplots", "--workers", "0")
    if code := training.finish("run"):
        tally.fault(False, f"the undisturbed run ended with {code}: {training.log('run')}")
        return tally
    place, study = training.run_folder("run"), folder / "runs" / "report"
    resumed, again, validated, detected, reported = _commands(training, place)
    study.mkdir()
    write_plan(study, make_study(study, hostile=False).plan)
    for name, command in (("val", validated), ("detect", detected), ("report", reported)):
        if code := _finish(training, command, folder / "runs" / name):
            tally.fault(False, f"{name} ended with {code}: {training.log('run')}")
            return tally
    cases: tuple[tuple[Path, Command, Sequence[str]], ...] = (
        (place, resumed, MADE_LATER),
        (place, again, MADE_LATER),
        (folder / "runs" / "val", validated, ()),
        (folder / "runs" / "detect", detected, ()),
        (study, reported, (".lock",)),
    )
    for number, (source, command, extra) in enumerate(cases):
        _planted(training, source, command, extra, folder / f"planted{number}", tally, short=short)
    _forged(training, place, folder / "forged", tally)
    return tally


def _commands(training: Training, place: Path) -> tuple[Command, ...]:
    """Resuming, training again, validating, detecting and reporting, all of them into a folder that is there."""
    weights = ["--weights", str(place / "weights" / "best.pt"), "--imgsz", "64", "--device", "cpu", "--exist-ok"]
    images = ["--source", str(training.data.parent / "images" / "val"), "--conf-thres", "0", "--max-det", "2"]
    images += ["--save-txt", "--save-csv", "--save-json", "--save-crop"]
    data = ["--data", str(training.data), "--workers", "0", "--save-txt", "--save-json"]

    def main(argv: list[str]) -> None:
        sys.argv[1:] = argv
        detect.main()

    return (
        lambda where: (train.main, ["--resume", str(where), "--epochs", "5"]),
        lambda where: (train.main, [*training.command(where.name), "--project", str(where.parent), "--epochs", "1"]),
        lambda where: (val.main, [*weights, *data, "--project", str(where.parent), "--name", where.name]),
        lambda where: (main, [*weights, *images, "--project", str(where.parent), "--name", where.name]),
        lambda where: (report.main, [str(where)]),
    )


def _finish(training: Training, command: Command, where: Path) -> int:
    main, argv = command(where)
    (training.folder / "run.log").write_text("")
    return wait(training.fork(lambda: main(argv), "run"))


def _names(source: Path, extra: Sequence[str]) -> list[str]:
    return [*(str(p.relative_to(source)) for p in sorted(source.rglob("*")) if p.is_file()), *extra]


def _planted(training: Training, source: Path, command: Command, extra: Sequence[str], folder: Path, tally: Tally, *, short: bool) -> None:
    """Hard links under all names at once, each other kind alone, and folders that are links."""
    victims, names = folder / "victims", _names(source, extra)
    victims.mkdir(parents=True)

    def copy(kind: str) -> Path:
        return shutil.copytree(source, folder / kind, ignore=shutil.ignore_patterns(".lock"))

    hard = copy("hard")
    for number, name in enumerate(names):
        if Path(name).name != ".lock":
            victim, file = victims / str(number), hard / name
            victim.write_bytes(file.read_bytes() if file.is_file() else b"precious")
            file.unlink(missing_ok=True)
            file.hardlink_to(victim)
    before = snapshot(victims)
    code, changed = _finish(training, command, hard), set()
    for number, name in enumerate(names):
        if snapshot(victims).get(str(number)) != before.get(str(number)):
            changed.add(name)
    for name in names:
        tally.fault(
            not code and name not in changed, f"{source.name}: a hard link as {name}: ended with {code}{training.log('run')[-200:]}"
        )
    folders = sorted({str(Path(name).parent) for name in names} - {"."})
    refusal = "is a link to|neither a file nor a folder|no study there"
    for kind, chosen in ((_link, names), (_pipe, names), (_folder_link, folders)):
        for number, name in enumerate(chosen[:: 5 if short else 1]):
            there = copy(f"{kind.__name__}{number}")
            kind(there / name, victims)
            before = snapshot(victims)
            code, said = _finish(training, command, there), " ".join(training.log("run").split())
            good = code == 2 and re.search(refusal, said) and not bytes_changed(before, victims)
            tally.fault(bool(good), f"{source.name}: {kind.__name__} as {name}: ended with {code}: {said[-200:]}")
            tally.bytes_changed += bytes_changed(before, victims)
            shutil.rmtree(there)


def _link(path: Path, victims: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(victims / "new")


def _pipe(path: Path, _: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _folder_link(path: Path, victims: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(victims)


def _forgeries(elsewhere: Path) -> Iterator[tuple[str, dict[str, object]]]:
    yield "a project elsewhere", {"project": str(elsewhere)}
    yield "a project upwards", {"project": f"../{elsewhere.name}"}
    yield "a name upwards", {"name": f"../../../{elsewhere.name}"}
    yield "an absolute name", {"name": str(elsewhere / "x")}
    yield "an existing folder", {"project": str(elsewhere.parent), "name": elsewhere.name, "exist_ok": True}
    yield "the name of the model", {"name": "cfg", "cfg": ".."}


def _forged(training: Training, place: Path, folder: Path, tally: Tally) -> None:
    """A checkpoint of its own, and one in a run folder, that names another folder."""
    newest = newest_checkpoint(place)
    assert newest
    for number, (what, config) in enumerate(_forgeries(folder / "elsewhere")):
        for where in ("last.pt", "run/weights/last.pt"):
            work = folder / f"{number}{Path(where).parent.name}"
            path = work / "given" / where
            path.parent.mkdir(parents=True)
            (folder / "elsewhere").mkdir(exist_ok=True)
            payload = load_checkpoint(newest)
            save_checkpoint(path, payload | {"config": payload["config"] | config})
            before = snapshot(folder / "elsewhere")

            def prepare(work: Path = work) -> None:
                os.chdir(work)

            argv = ["--resume", str(path), "--epochs", "5"]
            (training.folder / "run.log").write_text("")
            code = wait(training.fork(lambda argv=argv: train.main(argv), "run", prepare))  # type: ignore[misc]
            expected = work / "runs" / "train" / "exp" if where == "last.pt" else path.parent.parent
            good = not code and (expected / "results.csv").is_file() and not bytes_changed(before, folder / "elsewhere")
            good = good and {p.name for p in work.iterdir()} <= {"given", "runs"} and len(list((folder / "elsewhere").iterdir())) == 0
            tally.fault(good, f"--resume {where} that names {what}: ended with {code}: {training.log('run')[-300:]}")
            tally.bytes_changed += bytes_changed(before, folder / "elsewhere")
