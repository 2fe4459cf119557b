"""One training by several processes: what each does of a step, and how what they find is put together.

`Parallel` is a process on its own, for which nothing is to do; `Group` is one of several, under torch's
`DistributedDataParallel`. Each has the same network, the same order of batches and the same random states, takes its
part of every batch, and steps with the same gradient: that of the mean over the whole batch.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from adma.bench.synced import Part, synchronise
from adma.torch.distributed import GlobalMean

_T = TypeVar("_T")
# torch 2.13 has another name for it, and warns of the older one
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


class Parallel:
    """A training's process, alone."""

    size = 1

    def wrap(self, network: nn.Module, *, whole: bool) -> nn.Module:
        """What is called in training: the network itself, or one whose backward pass averages gradients.

        Args:
            network: changed in place where its layers are to see the whole batch (`synced.synchronise`).
            whole: whether every weight has a gradient in every step.
        """
        return network

    def bounds(self, n: int) -> tuple[int, int]:
        """This process's part of n samples: from, to."""
        return 0, n

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of the batch that is trained on next."""
        return batch

    def mean(self, loss_fn: nn.Module, logits: Tensor, target: Tensor, mine: int, whole: int) -> Tensor:
        """What these samples bring to the mean over a batch; averaged over processes, their sum does.

        Args:
            mine, whole: labels that count, among these samples and in the batch.
        """
        loss: Tensor = loss_fn(logits, target)
        return loss if mine == whole else loss * (mine / whole)

    def adding_up(self, model: nn.Module) -> AbstractContextManager[Any]:
        """While gradients are added up, before the backward pass that averages them."""
        return nullcontext()

    def together(self, loss: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """The whole batch's loss and right answers, from those of this process."""
        return loss, right

    def gathered(self, rows: Tensor, n: int) -> Tensor:
        """The rows (n, ...) of all processes, of which this one has those between its bounds."""
        return rows

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return flag

    def from_first(self, value: _T) -> _T:
        """What the first process has."""
        return value


ALONE = Parallel()


class Group(Parallel):
    """One of the processes of torch's default process group, which has a backend for the CPU too."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._part = Part()

    def wrap(self, network: nn.Module, *, whole: bool) -> nn.Module:
        synchronise(network, self._part)
        options = {"find_unused_parameters": not whole, _SYNC_BUFFERS: False}  # running statistics are the same already
        return DistributedDataParallel(network, **options)  # type: ignore[arg-type]

    def bounds(self, n: int) -> tuple[int, int]:
        each, more = divmod(n, self.size)
        start = self.rank * each + min(self.rank, more)
        return start, start + each + (self.rank < more)

    def share(self, batch: Tensor) -> Tensor:
        start, stop = self.bounds(len(batch))
        self._part.whole, self._part.start, self._part.stop = len(batch), start, stop
        return batch[start:stop]

    def mean(self, loss_fn: nn.Module, logits: Tensor, target: Tensor, mine: int, whole: int) -> Tensor:
        count = torch.full((2,), whole, dtype=torch.float64, device=logits.device)
        loss: Tensor = GlobalMean(loss_fn)(logits, target, count=count)
        return loss

    def adding_up(self, model: nn.Module) -> AbstractContextManager[Any]:
        assert isinstance(model, DistributedDataParallel)
        manager: AbstractContextManager[Any] = model.no_sync()
        return manager

    def together(self, loss: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.stack([loss.double(), right.double()])
        dist.all_reduce(both)
        return (both[0] / self.size).to(loss.dtype), both[1].to(right.dtype)

    def gathered(self, rows: Tensor, n: int) -> Tensor:
        start, stop = self.bounds(n)
        whole = rows.new_zeros((n, *rows.shape[1:]))
        whole[start:stop] = rows
        dist.all_reduce(whole)  # of each row all but one are zeros
        return whole

    def summed(self, values: Tensor) -> Tensor:
        whole = values.clone()
        dist.all_reduce(whole)
        return whole

    def any(self, flag: bool) -> bool:
        found = torch.tensor(int(flag))
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return bool(found)

    def from_first(self, value: _T) -> _T:
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]
