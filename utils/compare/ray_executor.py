"""The runs of a study on a Ray cluster whose machines share the study's folder, the data and this repository.

Ray schedules the tasks and restarts those whose worker or machine is lost. Their progress is in the run folder, so they can continue on
another machine; a lock on the run keeps two processes from working on it at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from utils.compare.executors import Exit, Task, command, end, environment, launch
from utils.errors import UserError
from utils.files.atomic import open_append

_RETRIES = 20
"""How often Ray restarts a task that was lost with its worker."""


def carry_out(task: Task, flags: Mapping[str, Any], device: str) -> int:
    """In a Ray worker: run the task's process, which ends when this worker does; return its exit status."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with open_append(task.log) as log:
        process = launch(command(task, flags, device), log)
    try:
        return process.wait()
    except BaseException:  # Ray cancels a task with KeyboardInterrupt
        end([process])
        raise


class RayExecutor:
    """Ray tasks.

    Args:
        address: of the cluster; "" starts Ray on this machine, with `threads` x `jobs` CPUs.
        threads: CPUs of a task.
        device: what ``--device`` names; "" takes a GPU of the cluster if it has any, even if this machine has none.
        runs: maximum number of tasks; Ray decides how many run at a time.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, flags: Mapping[str, Any], *, jobs: int, threads: int, runs: int, device: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("--engine ray: Ray is not installed; pip install -r requirements-ray.txt") from error
        self._ray: Any = ray
        variables = {"PYTHONPATH": environment()["PYTHONPATH"]}
        own: dict[str, Any] = {} if address else {"num_cpus": threads * jobs, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        try:
            ray.init(address=address or "local", runtime_env={"env_vars": variables}, log_to_driver=False, configure_logging=False, **own)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            raise UserError(f"--ray-address {address or 'local'}: {' '.join(str(error).split())[:300]}") from error
        resources = self._ray.cluster_resources()
        if resources.get("CPU", 0) < threads:
            ray.shutdown()
            raise UserError(f"--engine ray: a run of this study needs {threads} CPUs, and the cluster has {resources.get('CPU', 0):.0f}")
        gpus = 1 if resources.get("GPU", 0) and device != "cpu" else 0
        remote = ray.remote(carry_out)
        self._remote = remote.options(num_cpus=threads, num_gpus=gpus, max_retries=_RETRIES, retry_exceptions=False)
        self._flags, self._device = dict(flags), "0" if gpus else device or "cpu"
        self._running: dict[Any, Task] = {}
        self.slots = max(runs, 1)

    def start(self, task: Task) -> None:
        """Submit a task to Ray, whose workers have another working directory."""
        there = dataclasses.replace(task, study=task.study.resolve())
        self._running[self._remote.remote(there, self._flags, self._device)] = task

    def wait(self, seconds: float) -> list[Exit]:
        """Return the tasks that have ended; waits up to `seconds` if there are none."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        exits = []
        for reference in ready:
            try:
                code = int(self._ray.get(reference))
            except self._ray.exceptions.RayError:
                code = -9  # its worker or machine was lost more often than Ray retries
            exits.append(Exit(self._running.pop(reference), code))
        return exits

    def stop(self) -> None:
        """Ask all tasks to save and exit, and wait for them."""
        for reference in self._running:
            self._ray.cancel(reference, force=False)
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=120)
        self._running.clear()
        self._ray.shutdown()
