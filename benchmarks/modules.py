"""The cost of each attention module, compared with a 3x3 convolution of its width and with a straightforward implementation.

python -m benchmarks.modules                          every module, three shapes, forward and forward+backward
python -m benchmarks.modules --modules CoT MHSA       some of them
python -m benchmarks.modules --table                  measure all for the table in docs/mechanisms; with --modules, some of them

Columns: wall time in ms, CPU time in ms, CPU time relative to the convolution's, additional peak memory, and the fraction of
the roofline: the module's operations per CPU second, relative to those of a large matrix product. (A 3x3
convolution exceeds it if the library computes it with fewer operations than its definition.)
The modules run alternately, so that other load on the machine affects all of them alike; times are medians.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import inspect
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPES = ((128, 40), (256, 20), (512, 20))
Run = Callable[[], object]


def contestants(names: list[str], channels: int, side: int) -> dict[str, Any]:
    """Modules by name: the convolution first, each straightforward implementation after its module."""
    from torch import nn

    from benchmarks.straightforward import STRAIGHTFORWARD
    from models.registry import lookup

    modules: dict[str, Any] = {"3x3 convolution": nn.Conv2d(channels, channels, 3, padding=1, bias=False)}
    for name in names:
        build = lookup(name).build
        widths = [channels for argument in list(inspect.signature(build).parameters)[:2] if argument in {"channels", "c1", "c2"}]
        settings = {"dim_head": channels // 4, "fmap_size": (side, side)} if name == "MHSA" else {}
        modules[name] = opened(build(*widths, **settings))
        if name in STRAIGHTFORWARD:
            plain = modules[f"  {name}, straightforward"] = STRAIGHTFORWARD[name](*widths, **settings)
            plain.load_state_dict(modules[name].state_dict())
    return modules


def opened(module: Any) -> Any:
    """Gates and scales that start at zero, or close to it, at random, so that what is behind them is compared too."""
    for parameter in module.parameters():
        if parameter.detach().abs().max() < 1e-3:
            parameter.data.normal_(std=0.1)
    return module


def attention_modules() -> list[str]:
    """All registered attention modules that keep the width of their input, and what else has a straightforward implementation."""
    from benchmarks.straightforward import STRAIGHTFORWARD
    from models import list_modules
    from models.registry import lookup, project, stack

    kept = [n for n in list_modules() if lookup(n).build.__module__.startswith("models.attention")]
    kept = [n for n in kept if lookup(n).rule not in {project, stack} and n == lookup(n).build.__name__]
    return sorted({*kept, *STRAIGHTFORWARD}, key=str.lower)


def passes(module: Any, x: Any, *, backward: bool) -> Run:
    """A forward pass in evaluation mode, or forward and backward in training mode."""
    import torch

    if not backward:

        def forward() -> None:
            module.eval()
            with torch.inference_mode():
                module(x)

        return forward

    leaf = x.clone().requires_grad_()

    def both() -> None:
        module.train()
        y = module(leaf)
        y.backward(torch.ones_like(y))

    return both


def timed(runs: dict[str, Run], rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of each; they run alternately."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            if number:  # the first round is a warm-up
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - used)
    return {name: (statistics.median(wall[name]), statistics.median(cpu[name])) for name in runs}


def peak_mebibytes(run: Run) -> float:
    """Peak memory of one pass, in addition to the memory in use before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def table(names: list[str], channels: int, side: int, batch: int, rounds: int, *, backward: bool) -> None:
    """Print one table."""
    import torch

    from models.flops import count_operations

    x, square = torch.randn(batch, channels, side, side), torch.randn(1024, 1024)
    modules = contestants(names, channels, side)
    agree(modules, x)
    runs = {name: passes(module, x, backward=backward) for name, module in modules.items()}
    times = timed({**runs, "product": lambda: square @ square}, rounds)
    rate = 2 * 1024**3 / times["product"][1]
    base = times["3x3 convolution"][1]
    print(f"\n{channels} channels, {side}x{side}, {batch} images, {'forward+backward' if backward else 'forward'}; ", end="")
    print(f"a matrix product reaches {rate / 1e9:.0f} GFLOP/s")
    print(f"{'':28} {'ms':>8} {'CPU ms':>8} {'x conv':>7} {'MiB':>7} {'roofline':>9}")
    for name, run in runs.items():
        with torch.no_grad(), count_operations() as operations:
            modules[name].eval()(x)
        wall, cpu = times[name]
        share = operations.giga * 1e9 * (3 if backward else 1) / cpu / rate  # a backward pass has twice a forward pass's operations
        print(f"{name:28} {wall * 1e3:8.2f} {cpu * 1e3:8.2f} {cpu / base:7.2f} {peak_mebibytes(run):7.1f} {share:9.1%}")


def agree(modules: dict[str, Any], x: Any) -> None:
    """Check that each straightforward implementation gives the same output as its module."""
    import torch

    with torch.inference_mode():
        for name, module in modules.items():
            if name.endswith(", straightforward"):
                ours = modules[name.strip().removesuffix(", straightforward")]
                torch.testing.assert_close(module.eval()(x), ours.eval()(x), rtol=1e-4, atol=1e-4)


def main() -> None:
    """Print a table per shape, forward and forward+backward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", nargs="+", default=[])
    parser.add_argument("--batch", type=int, default=4, help="batch size [4]")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds [9]")
    parser.add_argument("--threads", type=int, default=1, help="number of threads [1]")
    parser.add_argument("--table", action="store_true", help="write docs/mechanisms/table.md")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.table:
        from benchmarks.mechanism_table import classes, write

        write(args.modules or [names[0] for every in classes().values() for names in every], args.rounds)
        return
    names = args.modules or attention_modules()
    for channels, side in SHAPES:
        for backward in (False, True):
            table(names, channels, side, args.batch, args.rounds, backward=backward)


if __name__ == "__main__":
    main()
