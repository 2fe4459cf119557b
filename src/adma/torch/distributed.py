"""A mean that is exact over several processes: the mean of the global batch, whatever share each process has.

`DistributedDataParallel` and `fully_shard` average gradients over processes. The average of the processes' own means
is the mean over all samples only if each counts as much; with unequal shares, class weights or ignored targets it is
not. `GlobalMean` weighs each process's mean by what it counts.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from adma.torch import checks
from adma.torch.flexible import BinaryFlexibleLoss, CallLoss
from adma.torch.kernels import terms
from adma.torch.linear_modules import LinearFlexibleLoss


@dataclass(frozen=True)
class _Options:
    """What of a loss's options says how much a target counts.

    classes: the dimension of the classes in targets that are probabilities; None for binary labels.
    """

    classes: int | None
    weight: Tensor | None
    ignore_index: int
    reduction: str
    z_loss: float

    def checked(self) -> _Options:
        if self.reduction != "mean":
            raise ValueError(f'reduction must be "mean", of which this is the global form, got {self.reduction!r}')
        if self.weight is not None and self.weight.requires_grad:
            raise ValueError("weight requires a gradient, and none flows through the count; pass weight.detach()")
        return self

    @torch.no_grad()
    def counts(self, target: Tensor) -> Tensor:
        """The divisors of a "mean" over this target, (2): of the loss, and of the z-loss."""
        kind = terms.row_dtype(target.device)
        if self.classes is None or target.is_floating_point():
            each = 1 if self.classes is None else target.shape[0 if target.dim() == 1 else self.classes]
            return torch.full((2,), target.numel() // max(1, each), dtype=kind, device=target.device)
        target = target.long()  # in uint8, -100 is 156, which is a class
        keep = target != self.ignore_index
        rows = keep.sum().to(kind)
        if self.weight is None:
            return torch.stack([rows, rows])
        weights = self.weight.to(kind)[torch.where(keep, target, 0)]
        return torch.stack([torch.where(keep, weights, 0.0).sum(), rows])


class GlobalMean(nn.Module):
    """A loss whose mean is that of the global batch, under data-parallel training.

    Each process gets `W S / C`: W processes, S its own sum, C what all their targets count together (one `all_reduce`
    of two numbers a call, through which no gradient flows). So the average over processes, of the values and, as
    `DistributedDataParallel` and FSDP2's `fully_shard` take it, of the gradients, is that of one process with the
    whole batch: for unequal shares, class weights, ignored targets, and for a process without any target that counts,
    which must take part nevertheless. Every process of the group calls it equally often. Where no process group is
    initialised it is the plain mean.

    Args:
        loss_fn: a loss of adma with reduction "mean": a module, also `LinearAdmaLoss` and its kind and the binary
            ones, or one of `adma.functional`, also as a `functools.partial`.
        group: the processes that gradients are averaged over; None is all of them.

    Raises:
        TypeError: `loss_fn` is neither.
        ValueError: another reduction, a weight that is learned, this process is not of the group.

    With gradient accumulation, count all targets of a step first and leave out the division by the number of batches;
    the gradients add up to those of the mean over the whole step, whatever each batch holds:

        >>> import torch, adma
        >>> model, loss_fn = torch.nn.Linear(4, 3), adma.GlobalMean(adma.AdmaLoss(a=0.26))
        >>> batches = [(torch.randn(n, 4), torch.randint(3, (n,))) for n in (8, 5)]
        >>> count = loss_fn.count(*(target for _, target in batches))
        >>> for x, target in batches:  # under DDP all but the last within model.no_sync()
        ...     loss_fn(model(x), target, count=count).backward()

    A z-loss with class weights has two divisors and makes a GPU wait, once a call.
    """

    def __init__(self, loss_fn: Callable[..., Tensor], group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        if isinstance(loss_fn, nn.Module):
            known = isinstance(loss_fn, (CallLoss, BinaryFlexibleLoss, LinearFlexibleLoss))
        else:
            known = callable(loss_fn) and {"target", "weight", "reduction"} <= set(_signature(loss_fn).parameters)
        if not known:
            raise TypeError(
                "loss_fn must be a loss of adma: a module such as adma.AdmaLoss(), or a function such as "
                f"adma.functional.adma_loss; got {loss_fn!r}"
            )
        self.loss_fn, self.group = loss_fn, group
        if isinstance(loss_fn, nn.Module):
            _of_module(loss_fn)
        self._processes()

    def forward(self, *args: Any, count: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The loss, W S / C.

        Args:
            args: for `loss_fn`.
            count: C, as `count` gave it for all targets of this step; None counts this call's.
            kwargs: for `loss_fn`.
        """
        target = _signature(self.loss_fn).bind(*args, **kwargs).arguments["target"]
        options = self._options(kwargs, args)
        if options.z_loss and options.weight is not None:
            return self._with_z_loss(options, target, count, args, kwargs)
        mean: Tensor = self.loss_fn(*args, **kwargs)
        return mean * self._factors(options, target, count)[0].to(mean.dtype)

    def count(self, *targets: Tensor, **options: Any) -> Tensor:
        """What targets count, over all processes of the group: for `forward(..., count=)`.

        Args:
            targets: of this process, those of all batches of one step of the optimizer; an empty one if it has none.
            options: where `loss_fn` is a function, those of its calls: `weight`, `ignore_index`.

        Returns:
            (2): the sum of the targets' weights, and their number. Targets that are probabilities, and binary labels,
            have weight 1 here, as in the losses' own mean.
        """
        if not targets:
            raise ValueError("count takes the targets of this process: an empty tensor if it has none, got nothing")
        reading = self._options(options)
        return self._over_processes(torch.stack([reading.counts(target) for target in targets]).sum(0))

    def extra_repr(self) -> str:
        return "" if isinstance(self.loss_fn, nn.Module) else getattr(self.loss_fn, "__name__", repr(self.loss_fn))

    def _options(self, kwargs: Mapping[str, Any], args: Sequence[Any] = ()) -> _Options:
        if isinstance(self.loss_fn, nn.Module):
            return _of_module(self.loss_fn)
        return _of_call(self.loss_fn, args, kwargs)

    def _factors(self, options: _Options, target: Tensor, count: Tensor | None) -> Tensor:
        """What this process's mean is multiplied by, (2): of the loss, and of the z-loss."""
        own = options.counts(target)
        whole = self._over_processes(own.clone()) if count is None else count.to(own)
        return self._processes() * _divisor(own) / _divisor(whole)

    def _with_z_loss(
        self, options: _Options, target: Tensor, count: Tensor | None, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Tensor:
        factors = self._factors(options, target, count)
        z_loss = options.z_loss * float(factors[1] / factors[0])
        loss_fn = self.loss_fn
        if isinstance(loss_fn, LinearFlexibleLoss):
            loss_fn = copy.copy(loss_fn)  # the same parameters and hooks, another factor
            loss_fn.z_loss = z_loss
        else:
            kwargs = {**kwargs, "z_loss": z_loss}
        mean: Tensor = loss_fn(*args, **kwargs)
        return mean * factors[0].to(mean.dtype)

    def _processes(self) -> int:
        if not (dist.is_available() and dist.is_initialized()):
            return 1
        size = dist.get_world_size(self.group)
        if size < 1:
            raise ValueError("this process is not of the group; give the group that its gradients are averaged over")
        return size

    @torch.no_grad()
    def _over_processes(self, counts: Tensor) -> Tensor:
        if self._processes() > 1:
            dist.all_reduce(counts, group=self.group)
        return counts


def _signature(loss_fn: Callable[..., Tensor]) -> inspect.Signature:
    """Of a call of the loss."""
    return inspect.signature(loss_fn.forward if isinstance(loss_fn, nn.Module) else loss_fn)


def _of_module(loss_fn: nn.Module) -> _Options:
    assert isinstance(loss_fn, (CallLoss, BinaryFlexibleLoss, LinearFlexibleLoss))
    if isinstance(loss_fn, BinaryFlexibleLoss):
        return _Options(None, None, -100, loss_fn.reduction, 0.0).checked()
    linear = isinstance(loss_fn, LinearFlexibleLoss)
    ignored = -100 if loss_fn.ignore_index is None else loss_fn.ignore_index
    z_loss = loss_fn.z_loss if isinstance(loss_fn, LinearFlexibleLoss) else 0.0
    return _Options(-1 if linear else 1, loss_fn.weight, ignored, loss_fn.reduction, z_loss).checked()


def _of_call(function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Options:
    bound = _signature(function).bind_partial(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    reduction = checks.reduction_name(given["reduction"], given.get("size_average"), given.get("reduce"))
    if "pos_weight" in given:
        return _Options(None, None, -100, reduction, 0.0).checked()
    ignored = -100 if given["ignore_index"] is None else given["ignore_index"]
    classes = -1 if "linear_weight" in _signature(function).parameters else 1
    return _Options(classes, given["weight"], ignored, reduction, given.get("z_loss", 0.0)).checked()


def _divisor(count: Tensor) -> Tensor:
    """As the losses' own mean has it: 1 in the place of 0."""
    return torch.where(count == 0, torch.ones_like(count), count)
