"""Several processes that train one model: their ranks, and the collective operations between them."""

from __future__ import annotations

import dataclasses
import datetime
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError

_TIMEOUT = datetime.timedelta(hours=3)  # a rank may wait for another that scans a large dataset
_START = datetime.timedelta(minutes=10)  # from the first process to the last, on whatever machines


@dataclasses.dataclass(frozen=True, slots=True)
class Ranks:
    """The rank of this process."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and logs."""
        return self.rank == 0


SINGLE = Ranks()


def ranks_from(environment: Mapping[str, str]) -> Ranks:
    """Read torchrun's environment variables; without them, a single process.

    Raises:
        UserError: one of them makes no sense, or not all are there.
    """
    world = environment_number(environment, "WORLD_SIZE", 1)
    rank = environment_number(environment, "RANK", 0)
    local = environment_number(environment, "LOCAL_RANK", rank)
    if rank >= world or (world > 1 and "RANK" not in environment):
        given = ", ".join(f"{name}={environment[name]}" if name in environment else f"no {name}" for name in ("RANK", "WORLD_SIZE"))
        raise UserError(f"the environment has {given}: not one of several processes; start them with torchrun, or unset these variables")
    return Ranks(rank, world, local)


def environment_number(environment: Mapping[str, str], name: str, default: int) -> int:
    """Read a variable that torchrun sets to a whole number; `default` where it is not set.

    Raises:
        UserError: it is something else.
    """
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"the environment variable {name} is {text!a:.100}, not a number; torchrun sets it, and without torchrun unset it")
    return int(text)


def join(device: torch.device) -> Ranks:
    """Join torchrun's process group: nccl on CUDA, gloo elsewhere. A single process joins none.

    Raises:
        UserError: the other processes cannot be found.
    """
    ranks = ranks_from(os.environ)
    if ranks.world_size > 1 and not distributed.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            store, rank, world = next(distributed.rendezvous("env://", timeout=_START))  # type: ignore[attr-defined]
        except (ValueError, RuntimeError) as error:
            place = ":".join(os.environ.get(name, f"(no {name})") for name in ("MASTER_ADDR", "MASTER_PORT"))
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"rank {ranks.rank} of {ranks.world_size} cannot join the others at {place}: {reason}; start all with torchrun"
            ) from error
        store.set_timeout(_TIMEOUT)
        # torchrun's store survives a restart, and processes must not find the addresses of their predecessors in it
        store = distributed.PrefixStore(f"attempt{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # type: ignore[attr-defined]
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_TIMEOUT, store=store, rank=rank, world_size=world)
    return ranks


def leave(ranks: Ranks) -> None:
    """Leave the process group."""
    if ranks.world_size > 1 and distributed.is_initialized():
        distributed.destroy_process_group()


def await_ranks(minutes: float, ranks: Ranks) -> None:
    """From now on, let collective operations fail when a rank does not take part within so many minutes."""
    if ranks.world_size > 1:
        # Public since 2.14. Where there is neither, a lost rank is noticed after _TIMEOUT.
        limit = getattr(distributed, "set_timeout", None) or getattr(distributed.distributed_c10d, "_set_pg_timeout", None)
        if limit is not None:
            limit(datetime.timedelta(minutes=minutes))


def rank_is_lost(error: BaseException) -> bool:
    """Whether a collective operation has failed because a rank is gone or hangs."""
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def silent_ranks(ranks: Ranks, seconds: float = 3.0) -> list[int]:
    """Find the ranks that are gone: those that do not call this too within some seconds. Empty if that is unknown."""
    try:
        store = distributed.distributed_c10d._get_default_store()
        store.set(f"asking/{ranks.rank}", "1")
        deadline = time.monotonic() + seconds
        silent = list(range(ranks.world_size))
        while silent and time.monotonic() < deadline:
            time.sleep(0.2)
            silent = [rank for rank in silent if not store.check([f"asking/{rank}"])]
    except (RuntimeError, ValueError, AttributeError):
        return []  # the store is gone too, or private in this PyTorch
    return silent


def barrier(ranks: Ranks) -> None:
    """Wait for all ranks."""
    if ranks.world_size > 1:
        distributed.barrier()


def sum_over_ranks(counts: Sequence[float], device: torch.device, ranks: Ranks) -> list[float]:
    """Sum each of `counts` over all ranks."""
    if ranks.world_size == 1:
        return list(counts)
    total = torch.tensor(counts, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return [float(v) for v in total.tolist()]


def max_over_ranks(number: int, device: torch.device, ranks: Ranks) -> int:
    """Return the maximum `number` of all ranks."""
    if ranks.world_size == 1:
        return number
    maximum = torch.tensor(number, device=device)
    distributed.all_reduce(maximum, distributed.ReduceOp.MAX)
    return int(maximum.item())


def gather(value: Any, ranks: Ranks) -> list[Any]:
    """Return every rank's `value` (anything that can be pickled), in order of rank, on every rank."""
    if ranks.world_size == 1:
        return [value]
    values: list[Any] = [None] * ranks.world_size
    distributed.all_gather_object(values, value)
    return values


def share(tensors: Iterable[Tensor], ranks: Ranks) -> None:
    """Overwrite `tensors` with those of rank 0, in place."""
    if ranks.world_size == 1:
        return
    for tensor in tensors:
        distributed.broadcast(tensor, 0)


def replicate(model: nn.Module, device: torch.device, ranks: Ranks) -> nn.Module:
    """Wrap `model` so that its gradients are averaged over the ranks; a single process gets it back unchanged."""
    if ranks.world_size == 1:
        return model
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


def gradient_sync(model: object, *, enabled: bool) -> AbstractContextManager[None]:
    """The context of a backward pass after which the gradients are averaged over the ranks, or of one that only accumulates them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not enabled else nullcontext()
