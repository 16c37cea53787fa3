"""Several processes that train one head together, each on its part of every batch.

`torchrun` starts them and ends all of them when one fails. DistributedDataParallel averages their gradients.
What losses are divided by, and the mean directions of the viewpoint loss, go through an all-reduce, so that
together they train as one process does that has the whole batch. gloo sums tensors on the CPU, NCCL on GPUs.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from spheremap.base.device import choose_device
from spheremap.base.errors import InputError, SpheremapError

# how long the others wait while the first validates or waits for a lock; an ended process is noticed at once
_PATIENCE = timedelta(days=1)
_PARENT = os.getppid()


def rank() -> int:
    """Number of this process, counted from 0. The first one validates, reports and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def processes_here() -> int:
    """Number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def say(message: str) -> None:
    """Tell the user once what holds for all processes."""
    if rank() == 0:
        print(message, file=sys.stderr)


def part_of(batch: int) -> slice:
    """Places in a batch of `batch` views that are this process's; parts differ by one view at most.

    Raises:
        InputError: if there are fewer views than processes.
    """
    size = world_size()
    if batch < size:
        raise InputError(
            "a batch has fewer views than there are processes",
            expected=f"at least {size} views",
            found=str(batch),
            fix="lower `processes`, or raise train.batch if there are more training views",
        )
    return slice(batch * rank() // size, batch * (rank() + 1) // size)


def gather_views(batch: int, *columns: Tensor) -> tuple[Tensor, ...]:
    """Values of the views of all processes, with gradients to where they were made.

    Args:
        batch: B, views that all processes have together.
        columns: `(b, ...)` values of this process's views each, of any type that the first one's holds.

    Returns:
        `(B, ...)` each, in the order of the whole batch.
    """
    if world_size() == 1:
        return columns
    from torch.distributed.nn.functional import all_reduce

    own, first = part_of(batch), columns[0]
    rows = torch.cat([column.reshape(len(column), -1).to(first.dtype) for column in columns], dim=1)
    rows = all_reduce(F.pad(rows, (0, 0, own.start, batch - own.stop)))  # zeros of the others: exact
    parts = rows.split([column[:1].numel() for column in columns], dim=1)
    return tuple(
        part.reshape(batch, *column.shape[1:]).to(column.dtype)
        for part, column in zip(parts, columns, strict=True)
    )


def mean_over_processes(means: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """From the means of this process's part of a batch to those of the whole batch.

    Args:
        means: `(K,)` losses.
        counts: `(K,)`, over how many things each is a mean.

    Returns:
        What to differentiate: summed over the processes and divided by their number, as
        DistributedDataParallel does with gradients, it gives the means of the whole batch. And these.

    Raises:
        SpheremapError: if torchrun has ended.
    """
    if world_size() == 1:
        return means, means.detach()
    if os.getppid() != _PARENT:  # killed without a chance to end its children
        raise _lost("torchrun has ended")
    totals = torch.stack([means.detach() * counts, counts])
    dist.all_reduce(totals)
    number = totals[1].clamp_min(1)
    return means * (counts / number * world_size()), totals[0] / number


def check_same(what: str, *content: str | Tensor) -> None:
    """Make sure that all processes have the same content.

    Raises:
        SpheremapError: naming `what`, if they have not.
    """
    if world_size() == 1:
        return
    digest = hashlib.sha256()
    for part in content:
        digest.update(part.encode() if isinstance(part, str) else part.detach().cpu().numpy().tobytes())
    digests = [""] * world_size()
    dist.all_gather_object(digests, digest.hexdigest())
    others = [str(other + 1) for other, found in enumerate(digests) if found != digest.hexdigest()]
    if others:
        raise SpheremapError(
            f"the processes that train together differ in {what}",
            expected=f"the same in all {world_size()}",
            found=f"process {rank() + 1} has another one than {', '.join(others)}",
            fix="let all see the same files, packages and kind of device, and run the same command again",
        )


@contextmanager
def join(device: str) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and give this one's device; without torchrun it is alone.

    At the end of the block each process waits for the others, unless it fails.

    Raises:
        InputError: if there is no GPU for each process.
        SpheremapError: if another process has ended.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield choose_device(device)
        return
    local = int(os.environ["LOCAL_RANK"])
    chosen = choose_device(device, process=local)
    if chosen.type == "cuda":
        if chosen.index != local:
            raise InputError(
                "each process needs a GPU of its own",
                expected=f"device auto or cuda, and {processes_here()} GPUs",
                found=f"device {device}, and {torch.cuda.device_count()}",
                fix="correct `processes` and `device` in params.yaml",
            )
        torch.cuda.set_device(chosen)
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield chosen
        wait()
    except RuntimeError as error:
        message = str(error).split("\n", maxsplit=1)[0]
        if isinstance(error, dist.DistError) or "gloo" in message or "onnection" in message:
            raise _lost(message) from error
        raise
    dist.destroy_process_group()


def wait() -> None:
    """Return when all processes have come here."""
    if world_size() > 1:
        dist.all_reduce(torch.zeros(1))


def _lost(found: str) -> SpheremapError:
    return SpheremapError(
        f"process {rank() + 1} of {world_size()} stops, since another one has ended",
        found=found,
        fix="see its message above; the same command goes on from the last saved state",
    )
