"""Running a study: from the plan to the report."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import torch

from utils.compare.arms import read_arms
from utils.compare.benchmark import estimate_run_times, measure_costs
from utils.compare.config import CompareConfig, local_flags
from utils.compare.executors import Executor, LocalExecutor, Task
from utils.compare.guards import plan_warnings
from utils.compare.load import load_study
from utils.compare.others import measure_others
from utils.compare.plan import make_plan, reconcile_plan
from utils.compare.plan_io import read_plan, write_plan
from utils.compare.planning import advice, find_pilot
from utils.compare.progress import Progress
from utils.compare.provenance import versions
from utils.compare.report import write_report
from utils.compare.results_csv import write_results
from utils.compare.run_result import RESULT
from utils.compare.scheduler import Scheduler, fail_unbuildable, tasks_left
from utils.compare.study import PLAN, StudyPlan, run_folder
from utils.compare.tuning import tune_arms
from utils.compare.verdicts import compare
from utils.config import Hyp
from utils.device import cpu_count, select_device
from utils.errors import UserError
from utils.files.lock import folder_lock
from utils.log import LOG, counted, start_log
from utils.signals import StopRequest, stop_requests

_MAX_CPU_JOBS = 4  # runs at a time on a CPU by default: each needs its own memory


def run_study(config: CompareConfig, hyp: Hyp, given: frozenset[str], command: str) -> None:
    """Plan a study or continue the one in the folder: run the trainings, measure, compare, report.

    Raises:
        UserError: invalid flags, models, data or folder; or runs that could not be finished.
        StopError: a signal asked to stop; repeating the command continues the study.
    """
    start_log()
    # the devices that runs are distributed over: what --device names, else every GPU, else the CPU
    names = config.device.split(",") if config.device else [str(i) for i in range(torch.cuda.device_count())] or ["cpu"]
    chosen = [select_device(name.strip()) for name in names]
    devices = [device.type if device.index is None else str(device.index) for device in chosen]
    jobs = config.jobs or (len(devices) if devices[0].isdigit() else min(cpu_count(), _MAX_CPU_JOBS))
    with stop_requests() as request:
        arms, config = read_arms(config)
        plan = make_plan(config, hyp, command, jobs, arms)
        folder = Path(config.project) / config.name
        if config.dry_run or config.plan:
            pilot = find_pilot(config.pilot, folder, needed=bool(config.plan or config.pilot))
            plan = reconcile_plan(plan, _earlier(folder), config.baseline)
            seconds = _print_plan(plan, jobs, devices[0], request)
            for line in advice(plan, pilot, effect=config.plan / 100, hours=config.hours, seed_hours=seconds / len(plan.seeds) / 3600):
                LOG.info("%s", line)
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be created ({error.strerror or error}); give another --project or --name") from error
        with folder_lock(folder):
            plan = _begin(folder, plan, config.baseline)

            def carry_out(tasks: Sequence[Task], done: int) -> dict[Task, str]:
                return _carry_out(tasks, done, plan, config, given, devices, jobs, request)

            plan = tune_arms(folder, plan, carry_out)
            fail_unbuildable(folder, plan)
            tasks, total = tasks_left(folder, plan), len(plan.variants) * len(plan.seeds)
            done = total - len(tasks)
            LOG.info("%s: %d runs of %d variants, %d seeds; %d are done", folder, total, len(plan.variants), len(plan.seeds), done)
            unfinished = carry_out(tasks, done)
            measure_others(folder, plan)
            measure_costs(folder, plan, devices[0], request)
            study = load_study(folder)
            write_results(study)
            study = compare(study, config.resamples)
            write_report(study)
    for name, comparison in {**study.comparisons, **study.others}.items():
        LOG.info("%s: %s. %s", name, comparison.verdict, comparison.reason)
    LOG.info("report: %s", folder / "report.html")
    if unfinished:
        reasons = "".join(f"\n  {task}: {why}" for task, why in unfinished.items())
        raise UserError(f"{folder}: {len(unfinished)} runs are not finished; repeat the command to try again:{reasons}")


def _earlier(folder: Path) -> StudyPlan | None:
    """The plan already in the folder.

    Raises:
        UserError: it cannot be read, or the folder holds something else.
    """
    try:
        if (folder / PLAN).is_file():
            return read_plan(folder)
        entries = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:  # no permission, a name too long
        raise UserError(f"{str(folder)[:200]}: cannot be read ({error.strerror or error}); give another --project or --name") from error
    if any(not name.startswith(".") and name not in ("models", "logs") for name in entries):
        raise UserError(f"{folder}: not empty, but holds no study; give another --name")
    return None


def _begin(folder: Path, plan: StudyPlan, baseline: str) -> StudyPlan:
    """Reconcile the plan with the one in the folder, and save it."""
    old = _earlier(folder)
    plan = reconcile_plan(plan, old, baseline)
    if old is not None:
        now = versions()
        if changed := ", ".join(f"{k} {old.versions.get(k, 'unknown')}, now {now[k]}" for k in now if now[k] != old.versions.get(k)):
            LOG.warning(
                "%s: the study began with other versions (%s). Finished runs are kept; where the code differs, interrupted runs restart "
                "from epoch 0; between runs of different versions there is no verdict. For a verdict on all runs, begin a new study with "
                "another --name, or return to the versions in %s",
                folder,
                changed,
                PLAN,
            )
        for variant in old.variants:
            if variant.error and plan.variant(variant.name).error != variant.error:  # could not be built, and was changed since
                for result in run_folder(folder, variant.name, 0).parent.glob(f"seed*/{RESULT}"):
                    result.unlink(missing_ok=True)
    if old != plan:
        write_plan(folder, plan)
    return plan


def _carry_out(
    tasks: Sequence[Task],
    done: int,
    plan: StudyPlan,
    config: CompareConfig,
    given: frozenset[str],
    devices: list[str],
    jobs: int,
    request: StopRequest,
) -> dict[Task, str]:
    """Carry out tasks; return those that could not be finished, and why."""
    if not tasks:
        return {}
    flags = local_flags(config)
    if "workers" not in given:  # a dataloader process for each training process, where there is a core for it
        flags["workers"] = min(config.workers, max(cpu_count() // jobs - 1, 0))
    executor: Executor
    if config.engine == "ray":
        from utils.compare.ray_executor import RayExecutor

        device = config.device and devices[0]
        executor = RayExecutor(config.ray_address, flags, jobs=jobs, threads=plan.threads, runs=len(tasks), device=device)
    elif config.engine == "slurm":
        from utils.compare.slurm_executor import SlurmExecutor

        device, study = config.device and devices[0], Path(config.project) / config.name
        threads, runs, options = plan.threads, len(tasks), config.slurm
        executor = SlurmExecutor(study, flags, jobs=config.jobs, threads=threads, runs=runs, device=device, options=options)
    else:
        executor = LocalExecutor(jobs, flags, devices)
    scheduler = Scheduler(executor, list(tasks), Progress(done + len(tasks), done, plan.flags["epochs"]))
    scheduler.run(request)
    return scheduler.unfinished


def _print_plan(plan: StudyPlan, jobs: int, device: str, request: StopRequest) -> float:
    """Print the plan and its estimated time, and return the seconds of all runs."""
    data, flags = plan.data, (plan.flags[name] for name in ("epochs", "imgsz", "batch_size"))
    numbers = [*dict.fromkeys(map(plan.seed_of, plan.seeds))]
    variants, seeds = counted(len(plan.variants), "variant"), counted(len(numbers), "seed")
    folds = f" x {data.folds} folds" if data.folds else ""
    LOG.info("%s: %s x %s (%s)%s", plan.name, variants, seeds, ", ".join(map(str, numbers)), folds)
    for warning in plan_warnings(plan):
        LOG.warning(warning)
    sizes = ", ".join(f"{split} {s.images} images" for split, s in data.splits.items())
    measured = f"each run trains on {data.images('train')} of them, and is measured on the others" if data.folds else ""
    measured = measured or f"metrics are reported on the {data.measured} split"
    LOG.info("data %s: %d classes; %s; %s", data.source, len(data.names), sizes, measured)
    LOG.info("%d epochs at %d pixels, batch size %d; %d runs at a time, %d threads each\n", *flags, jobs, plan.threads)
    LOG.info("%-32s%14s%10s%14s", "variant", "parameters", "GFLOPs", "time of a run")
    total = 0.0
    with contextlib.closing(estimate_run_times(plan, device, jobs, request)) as found:
        for variant, seconds in found:
            if seconds is None:
                LOG.info("%-32s cannot be trained: %s", variant.name, variant.error or "its training step fails")
                continue
            total += seconds * len(plan.seeds)
            LOG.info("%-32s%14d%10.2f%14s", variant.name, variant.parameters, variant.gflops, _duration(seconds))
    LOG.info("\nall runs: about %s, plus about a minute per variant for costs and report", _duration(total / jobs))
    if plan.tuning:
        LOG.info("tuning before them: about %s", _duration(total / len(plan.seeds) * plan.tuning.trials / jobs))
    return total / jobs


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
