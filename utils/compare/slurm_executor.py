"""The runs of a study as a SLURM job array, through submitit; all machines share the study's folder, the data and this repository.

Jobs do not need the process that submitted them: they may go on when it has ended, and repeating the command waits for them. A job whose
time is over or which is preempted saves and is queued again. What a job says is read from plain files, since submitit's results are
pickles, and the study's folder may come from someone else.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from os import environ
from pathlib import Path
from typing import Any

from utils.compare.checksummed_json import read_json, write_json
from utils.compare.executors import Exit, Task, command, end, environment, launch
from utils.errors import UserError
from utils.files.atomic import open_append
from utils.files.safe_open import read_regular
from utils.log import LOG

_JOBS = "slurm.json"
_ALIVE = ("PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "SUSPENDED", "COMPLETING")
_POLL = 2.0  # seconds between looks at the jobs


class Job:
    """What runs on the cluster: the process of a task. Its exit status is written to `exit_file`."""

    def __init__(self, line: Sequence[str], log: Path, exit_file: Path) -> None:
        self._line, self._log, self._exit_file = list(line), log, exit_file

    def __call__(self) -> int:
        """Run the process to its end."""
        with open_append(self._log) as log:
            process = launch(self._line, log)
        try:
            code = process.wait()
        except BaseException:  # submitit ends a job whose time is over with SystemExit, once it is queued again
            end([process])
            raise
        self._exit_file.write_text(str(code), encoding="ascii")
        return code

    def checkpoint(self) -> Any:
        """Queue the job again, when its time is over or it is preempted: its run resumes from its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmExecutor:
    """SLURM jobs, in one array for all tasks that are started together.

    Args:
        study: the study folder, which keeps the numbers of the jobs.
        flags: flags of train.py that do not affect a run's figures.
        jobs: the greatest number of jobs at a time; 0 for no limit.
        threads: CPUs of a job.
        runs: maximum number of tasks.
        device: what ``--device`` names; "" takes a GPU.
        options: ``NAME=VALUE`` parameters of submitit, as partition=gpu timeout_min=600 mem_gb=16; cluster=local tries it on this machine.

    Raises:
        UserError: submitit or SLURM is not there, or an option is unknown.
    """

    def __init__(
        self, study: Path, flags: Mapping[str, Any], *, jobs: int, threads: int, runs: int, device: str, options: Sequence[str]
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError("--engine slurm: submitit is not installed; pip install -r requirements-slurm.txt") from error
        given = dict(_option(text) for text in options)
        cluster = str(given.pop("cluster", "slurm"))
        if cluster not in ("slurm", "local"):
            raise UserError(f"--slurm cluster={cluster}: must be slurm or local")
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise UserError("--engine slurm: no sbatch on this machine; run the command where jobs are submitted, or omit --engine")
        self._folder, self._flags, self._device = study, dict(flags), device or "0"
        environ["PYTHONPATH"] = environment()["PYTHONPATH"]  # jobs inherit it
        logs = study / "logs"
        try:
            logs.mkdir(parents=True, exist_ok=True)
            self._place = Path(tempfile.mkdtemp(prefix="slurm-", dir=logs.resolve()))
        except OSError as error:
            raise UserError(f"{logs}: cannot be written ({error.strerror or error})") from error
        self._executor: Any = submitit.AutoExecutor(folder=self._place, cluster=cluster)
        own: dict[str, Any] = {"name": "attune", "cpus_per_task": threads, "timeout_min": 60 * 24}
        if self._device != "cpu":
            own["gpus_per_node"] = 1
        if jobs and cluster == "slurm":
            own["slurm_array_parallelism"] = jobs
        try:
            self._executor.update_parameters(**{**own, **given})
        except (NameError, ValueError, TypeError, AssertionError) as error:
            raise UserError(f"--slurm: {' '.join(str(error).split())[:300]}") from error
        self._kind: Any = submitit.SlurmJob if cluster == "slurm" else submitit.LocalJob
        self._known = read_json(study / _JOBS) or {}
        self._waiting: list[Task] = []
        self._running: dict[Task, Any] = {}
        self.slots = max(runs, 1)

    def start(self, task: Task) -> None:
        """Put a task into the next array, unless a job of an earlier command is still there for it."""
        if job := self._earlier(task):
            self._running[task] = job
        else:
            self._waiting.append(task)

    def _earlier(self, task: Task) -> Any:
        known = self._known.get(str(task.folder.relative_to(self._folder)))
        if not isinstance(known, str) or not (match := re.fullmatch(r"(slurm-\w+)/(\d+(?:_\d+)?)", known)):
            return None
        job = self._kind(folder=self._place.parent / match[1], job_id=match[2])
        return job if job.state in _ALIVE else None

    def wait(self, seconds: float) -> list[Exit]:
        """Submit what was started; return the tasks that have ended, after up to `seconds` if there are none.

        Raises:
            UserError: the jobs cannot be submitted.
        """
        if self._waiting:
            self._submit()
        until = time.monotonic() + max(seconds, _POLL)
        while not (ended := [task for task, job in self._running.items() if job.done()]) and time.monotonic() < until:
            time.sleep(0.1)
        for task in ended:
            del self._running[task]
        return [Exit(task, self._code(task)) for task in ended]

    def _submit(self) -> None:
        tasks, self._waiting = self._waiting, []
        try:
            for task in tasks:
                task.log.parent.mkdir(parents=True, exist_ok=True)
                self._exit_file(task).unlink(missing_ok=True)
            with self._executor.batch():
                jobs = [self._executor.submit(self._job(task)) for task in tasks]
        except (OSError, RuntimeError) as error:
            raise UserError(f"--engine slurm: the jobs cannot be submitted ({' '.join(str(error).split())[:300]})") from error
        self._running |= dict(zip(tasks, jobs, strict=True))
        for task, job in self._running.items():
            self._known[str(task.folder.relative_to(self._folder))] = f"{Path(job.paths.folder).name}/{job.job_id}"
        write_json(self._folder / _JOBS, self._known)
        LOG.info("submitted %d jobs, %s to %s; they go on without this process", len(jobs), jobs[0].job_id, jobs[-1].job_id)

    def _job(self, task: Task) -> Job:
        there = type(task)(task.study.resolve(), task.variant, task.seed)
        line = command(there, self._flags, self._device)
        return Job(line, there.log, self._exit_file(task))

    def _exit_file(self, task: Task) -> Path:
        return self._place / f"{'-'.join(task.folder.relative_to(self._folder).parts)}.exit"

    def _code(self, task: Task) -> int:
        try:
            return int(read_regular(self._exit_file(task), 16))
        except (OSError, ValueError):
            return -9  # killed, or a job of an earlier command, whose result is in the run folder

    def stop(self) -> None:
        """Leave the jobs: they do not need this process."""
        if self._running:
            ids = sorted({job.job_id.partition("_")[0] for job in self._running.values()})
            LOG.info("%d jobs go on; repeat the command to wait for them, scancel %s ends them", len(self._running), " ".join(ids))


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"--slurm {text}: expected NAME=VALUE, such as partition=gpu or timeout_min=600")
    name = f"slurm_{name}" if name in ("partition", "account", "qos", "constraint", "time", "mem", "gres", "exclude") else name
    return name, int(value) if value.isdigit() else float(value) if re.fullmatch(r"\d+\.\d+", value) else value
