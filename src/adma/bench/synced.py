"""Layers that look at a batch as a whole, for a process that has only a part of it.

Batch normalisation takes mean and variance over the parts of all processes. Dropout draws its mask for the whole batch,
as one process would, and uses the rows of its part: so the masks are those of one process, and the random states of all
processes stay the same. torch's own `SyncBatchNorm` runs on GPUs alone; this one runs wherever the group does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adma.bench.errors import BenchError


@dataclass
class Part:
    """The part of the batch under way that this process has: the samples from `start` to `stop` of `whole`."""

    whole: int = 0
    start: int = 0
    stop: int = 0


def synchronise(network: nn.Module, part: Part) -> None:
    """Let the layers of a network see the whole batch; their weights, buffers and names stay as they are.

    Args:
        network: changed in place; a layer's class becomes a subclass of what it was.
        part: read in each forward pass.

    Raises:
        BenchError: a layer of a kind that is not known here, or without running statistics.
    """
    for name, module in network.named_modules():
        kind = _SYNCED.get(type(module))
        if kind is not None:
            if isinstance(module, _BatchNorm) and not module.track_running_stats:
                raise BenchError(
                    f"--devices: the layer {name!r} ({type(module).__name__}) has no running statistics, so its "
                    "outputs depend on how samples are divided; set track_running_stats=True, or leave --devices out"
                )
            module.__class__ = kind
            module._part = part
        elif isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            raise BenchError(
                f"--devices: the layer {name!r} is a {type(module).__name__}, whose mean over the batches of several "
                "processes is not known; use one of torch.nn, or leave --devices out"
            )


class _SyncedNorm(_BatchNorm):
    """Batch normalisation over all processes."""

    _part: Part

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        values = self._part.whole * math.prod(x.shape[2:])
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps, values)
        with torch.no_grad():
            unbiased = variance * (values / (values - 1))
            for kept, found in ((self.running_mean, mean), (self.running_var, unbiased)):
                assert kept is not None
                kept.lerp_(found.to(kept.dtype), share)
        normalised: Tensor = y
        return normalised


class _Normalise(torch.autograd.Function):
    """`(x - mean) / sqrt(variance + eps) * weight + bias`, mean and variance (C) over the samples of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, values: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = _over_all(_per_channel(x)) / values
        centred = x - _spread(mean, x)
        variance = _over_all(_per_channel(centred * centred)) / values
        scale = torch.rsqrt(variance + eps)
        normal = centred * _spread(scale, x)
        ctx.save_for_backward(normal, scale, weight)
        ctx.values = values
        ctx.mark_non_differentiable(mean, variance)
        y = normal if weight is None else normal * _spread(weight, x)
        return (y if bias is None else y + _spread(bias, x)), mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        normal, scale, weight = ctx.saved_tensors
        own = torch.stack([_per_channel(grad), _per_channel(grad * normal)])
        mean, slope = _over_all(own.clone()) / ctx.values
        factor = scale if weight is None else scale * weight
        dx = (grad - _spread(mean, grad) - normal * _spread(slope, grad)) * _spread(factor, grad)
        # of this process alone: they are averaged over processes with all the others
        dweight, dbias = (None, None) if weight is None else (own[1].to(weight.dtype), own[0].to(weight.dtype))
        return dx, dweight, dbias, None, None


def _per_channel(x: Tensor) -> Tensor:
    """Sums (C) over all but dim 1, in float64."""
    return x.sum([d for d in range(x.dim()) if d != 1], dtype=torch.float64)


def _spread(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).reshape(1, -1, *[1] * (like.dim() - 2))


def _over_all(sums: Tensor) -> Tensor:
    dist.all_reduce(sums)
    return sums


class _WholeDropout(nn.Module):
    """Dropout with the mask of the whole batch."""

    _part: Part
    _each = False  # whether a value has a draw of its own, or a map of them has one

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return super().forward(x)
        shape = (self._part.whole, *x.shape[1:]) if self._each else (self._part.whole, x.shape[1], *[1] * (x.dim() - 2))
        ones = torch.ones(shape, dtype=x.dtype, device=x.device)
        if self._each and x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
            ones = ones.contiguous(memory_format=torch.channels_last)  # draws go through the memory in its order
        with torch.no_grad():
            mask = super().forward(ones)
        return x * mask[self._part.start : self._part.stop]


def _synced(kind: type[nn.Module], base: type[nn.Module], **more: Any) -> type[nn.Module]:
    return type(f"Synced{kind.__name__}", (base, kind), more)


_SYNCED: dict[type[nn.Module], type[nn.Module]] = {
    **{kind: _synced(kind, _SyncedNorm) for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)},
    **{kind: _synced(kind, _WholeDropout) for kind in (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)},
    nn.Dropout: _synced(nn.Dropout, _WholeDropout, _each=True),
}
