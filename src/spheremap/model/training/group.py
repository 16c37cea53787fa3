"""The processes that train one head together, each on its share of every batch.

`torchrun` starts them and ends all of them when one fails. They exchange nothing but sums: gloo adds tensors
on the CPU, NCCL those on GPUs.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spheremap.base.device import choose_device
from spheremap.base.errors import InputError, SpheremapError

# how long the others wait while the first validates or waits for a lock; an ended process is noticed at once
_PATIENCE = timedelta(days=1)
_EXACT = 6  # bytes of a digest that a float64 holds exactly


@dataclass(frozen=True)
class Group:
    """This process among those that train; by default it is the only one.

    Attributes:
        rank: its number, counted from 0. The first one leads: it validates, reports and writes.
        size: number of processes.
        beside: how many of them share this machine.
        parent: process that started this one.
    """

    rank: int = 0
    size: int = 1
    beside: int = 1
    parent: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Places in a batch of `batch` views that are this process's: shares differ by one view at most.

        Raises:
            InputError: if there are fewer views than processes.
        """
        if batch < self.size:
            raise InputError(
                "a batch has fewer views than there are processes",
                expected=f"at least {self.size} views",
                found=str(batch),
                fix="lower `processes`, or raise train.batch if there are more training views",
            )
        return slice(batch * self.rank // self.size, batch * (self.rank + 1) // self.size)

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all processes, the same bits in each; returns it.

        Raises:
            SpheremapError: if another process has ended.
        """
        if self.size > 1:
            if os.getppid() != self.parent:  # killed without a chance to end its children
                raise SpheremapError(_lost(self), found="torchrun has ended", fix=_AGAIN)
            try:
                dist.all_reduce(tensor)
            except RuntimeError as error:  # of the connection
                raise SpheremapError(_lost(self), found=str(error).splitlines()[0], fix=_AGAIN) from error
        return tensor

    def wait(self) -> None:
        """Return when all processes have come here."""
        self.add_up(torch.zeros(1))

    def say(self, message: str) -> None:
        """Tell the user once what holds for all processes."""
        if self.leads:
            print(message, file=sys.stderr)

    def agree(self, what: str, *content: str | Tensor) -> None:
        """Make sure that all processes have the same content.

        Raises:
            SpheremapError: naming `what`, if they have not.
        """
        if self.size == 1:
            return
        digest = hashlib.sha256()
        for part in content:
            digest.update(part.encode() if isinstance(part, str) else part.detach().cpu().numpy().tobytes())
        digests = torch.zeros(self.size, dtype=torch.float64)
        digests[self.rank] = int.from_bytes(digest.digest()[:_EXACT])
        self.add_up(digests)
        if (digests != digests[self.rank]).any():
            others = [str(rank + 1) for rank in range(self.size) if digests[rank] != digests[self.rank]]
            raise SpheremapError(
                f"the processes that train together differ in {what}",
                expected=f"the same in all {self.size}",
                found=f"process {self.rank + 1} has another one than {', '.join(others)}",
                fix="let all see the same files, packages and kind of device, and run the same command again",
            )

    def add_gradients(self, parameters: Iterable[nn.Parameter], losses: Tensor) -> Tensor:
        """Replace the gradients by their sums over all processes; returns the sums of the losses.

        All in one go. DistributedDataParallel would send some gradients while others are computed, but those
        of a compiled step appear together, and those of the head are few.
        """
        if self.size == 1:
            return losses
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        values = self.add_up(torch.cat([losses, *(gradient.flatten() for gradient in gradients)]))
        losses, *sums = values.split([len(losses), *(gradient.numel() for gradient in gradients)])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view_as(gradient))
        return losses


ALONE = Group()
_AGAIN = "see its message above; the same command goes on from the last saved state"


def _lost(group: Group) -> str:
    return f"process {group.rank + 1} of {group.size} stops, since another one has ended"


@contextmanager
def join(device: str) -> Iterator[tuple[Group, torch.device]]:
    """The group that torchrun started this process in, and its device; without torchrun, this process alone.

    At the end of the block each process waits for the others, unless it fails.

    Raises:
        InputError: if there is no GPU for each process.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield ALONE, choose_device(device)
        return
    rank, local, beside = (int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    chosen = choose_device(device, turn=local)
    if chosen.type == "cuda":
        if chosen.index != local:
            raise InputError(
                "each process needs a GPU of its own",
                expected=f"device auto or cuda, and {beside} GPUs",
                found=f"device {device}, and {torch.cuda.device_count()}",
                fix="correct `processes` and `device` in params.yaml",
            )
        torch.cuda.set_device(chosen)
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    group = Group(rank, size, beside, os.getppid())
    yield group, chosen
    group.wait()
    dist.destroy_process_group()
