"""What a call of the last layer and the loss together may look like, and how large its chunks are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adma import _check
from adma.family import Member
from adma.torch import checks
from adma.torch.kernels import terms
from adma.torch.kernels.choose import transforming

# bytes of logits at a time. CPU: 512 rows of 32,000 classes in float32; 128 to 1024 such rows were not told apart on
# two busy cores, whose times spread by a fifth. Devices: about 900 rows of 131,072 classes in bfloat16
_BUDGET_CPU, _BUDGET_DEVICE = 64 << 20, 224 << 20
# beyond so many chunks a half type's weight gradient is summed in float32: each sum rounds to the half type, and
# 16 roundings of a growing sum are about twice the rounding of the result
_HALF_CHUNKS = 16
# rows of a chunk are a multiple of this where they can be
_ROWS = 64
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class LinearLossOptions:
    """How the last layer and the loss together use memory. The result does not depend on it beyond rounding.

    Args:
        batch_chunk_size: rows at a time, as in `torch.nn.LinearCrossEntropyOptions`. None chooses from `chunk_bytes`.
        chunk_bytes: what a chunk's logits and what is computed beside them may take; by default 64 MiB on the CPU and
            224 MiB elsewhere. Larger chunks mean fewer passes over the weight's gradient.
        acc_dtype: the type in which the weight's gradient is summed over the chunks: float32 or the weight's own type.
            None is the weight's own, but float32 for bfloat16 in more than 16 chunks, which takes 4 C H bytes until the
            forward pass ends; and for float16, whose range it leaves, until the backward pass ends.
        skip_ignored: whether rows with `ignore_index` are left out of the products. It needs the targets' values, for
            which a GPU makes the program wait; None does it where reading is free. Otherwise they are computed, and
            count 0.

    Raises:
        TypeError, ValueError: an argument that does not fit.
    """

    batch_chunk_size: int | None = None
    chunk_bytes: int | None = None
    acc_dtype: torch.dtype | None = None
    skip_ignored: bool | None = None

    def __post_init__(self) -> None:
        for name in ("batch_chunk_size", "chunk_bytes"):
            if getattr(self, name) is not None:
                _check.whole(name, getattr(self, name), low=1, high=2**62)
        if self.batch_chunk_size is not None and self.chunk_bytes is not None:
            raise ValueError(
                f"batch_chunk_size = {self.batch_chunk_size} and chunk_bytes = {self.chunk_bytes} both say how large "
                "a chunk is: give one"
            )
        if self.acc_dtype is not None and self.acc_dtype not in (*_HALF, torch.float32, torch.float64):
            raise ValueError(f"acc_dtype must be torch.float32 or the weight's own type, got {self.acc_dtype}")
        if self.skip_ignored is not None:
            _check.boolean("skip_ignored", self.skip_ignored)


@dataclass(frozen=True)
class LinearCall:
    """A checked call, without the tensors of the layer.

    target: (N) indices, all valid, or (N, C) probabilities. classes: C.
    hard: whether `target` holds indices.
    keep: (N) bool, False where the target was `ignore_index`; None if all rows count.
    rows: the numbers of the rows to compute; None for all.
    shape: of the result without reduction. dtype: of the result. compute: of the products and the logits.
    """

    member: Member
    target: Tensor
    classes: int
    hard: bool
    keep: Tensor | None
    rows: Tensor | None
    shape: torch.Size
    dtype: torch.dtype
    compute: torch.dtype
    weight: Tensor | None
    label_smoothing: float
    softcap: float | None
    z_loss: float
    options: LinearLossOptions

    @property
    def by_index(self) -> bool:
        """Whether a row is one class's term."""
        return self.hard and self.label_smoothing == 0

    @property
    def reshaped(self) -> bool:
        """Whether more is done to the logits than the loss."""
        return self.softcap is not None or self.z_loss != 0

    def shares(self, reduction: str) -> tuple[Tensor, Tensor]:
        """What a row of the loss, and one of the z-loss, counts in the result, (N) each, in `terms.row_dtype`."""
        device = self.target.device
        kind = terms.row_dtype(device)
        kept = torch.ones(self.target.shape[0], dtype=kind, device=device)
        if self.keep is not None:
            kept = self.keep.to(kind)
        weights = kept
        if self.hard and self.weight is not None:
            weights = kept * self.weight[self.target].to(kind)
        share = weights if self.by_index else kept
        if reduction == "sum":
            return share, kept
        count, total = kept.sum(), weights.sum()
        one = torch.ones_like(count)
        return share / torch.where(total == 0, one, total), kept / torch.where(count == 0, one, count)

    def chunk_size(self, count: int) -> int:
        """Rows at a time, for `count` rows."""
        if self.options.batch_chunk_size is not None:
            return min(self.options.batch_chunk_size, max(1, count))
        budget = self.options.chunk_bytes or (_BUDGET_CPU if self.target.device.type == "cpu" else _BUDGET_DEVICE)
        wide = terms.compute_dtype(self.compute).itemsize
        extra = 2 * (self.softcap is not None) + 2 * (self.z_loss != 0) + 3 * (not self.by_index)
        extra += self.reshaped and self.compute in _HALF
        rows = max(1, budget // max(1, self.classes * (self.compute.itemsize + extra * wide)))
        if count <= rows:
            return max(1, count)
        unit = _ROWS if rows >= _ROWS else 1
        rows -= rows % unit
        even = -(-count // -(-count // rows))  # the last chunk is not much smaller than the others
        return -(-even // unit) * unit

    def accumulator(self, dtype: torch.dtype, chunks: int) -> torch.dtype:
        """The type of the weight gradient's sum, for a weight of type `dtype`."""
        if self.options.acc_dtype is not None:
            return self.options.acc_dtype
        wide = self.compute == torch.float16 or chunks > _HALF_CHUNKS
        return torch.float32 if dtype in _HALF and wide else dtype


def canonical(
    member: Member,
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    ignore_index: int | None,
    label_smoothing: float,
    softcap: float | None,
    z_loss: float,
    options: LinearLossOptions | None,
) -> tuple[LinearCall, Tensor]:
    """Check a call; gives it, and the input as (N, H).

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes or devices that do not fit, a value out of its range.
        IndexError: a class index outside [0, C) that is not `ignore_index`.
    """
    if not isinstance(member, Member):
        raise TypeError(f"member must be an adma.family.Member, got {type(member).__name__}")
    if options is not None and not isinstance(options, LinearLossOptions):
        raise TypeError(f"options must be adma.LinearLossOptions or None, got {type(options).__name__}")
    options = LinearLossOptions() if options is None else options
    label_smoothing = _check.real("label_smoothing", label_smoothing, low=0, high=1)
    if softcap is not None:
        softcap = _check.real("softcap", softcap, low=0, open_low=True, hint="None leaves the logits as they are")
    z_loss = _check.real("z_loss", z_loss, low=0)
    if ignore_index is not None and (isinstance(ignore_index, bool) or not isinstance(ignore_index, int)):
        raise TypeError(f"ignore_index must be an int or None, got {ignore_index!r}")
    classes, features = check_layer(linear_weight, linear_bias)
    checks.floating("input", input)
    if input.dim() == 0 or input.shape[-1] != features:
        raise ValueError(
            f"input must have shape ({features},) or (..., {features}) for linear_weight "
            f"{tuple(linear_weight.shape)}, got {tuple(input.shape)}"
        )
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be a tensor, got {type(target).__name__}")
    for name, tensor in (("linear_weight", linear_weight), ("target", target), ("weight", weight)):
        if tensor is not None and tensor.device != input.device:
            raise ValueError(f"{name} is on {tensor.device}, input on {input.device}: move one to the other's device")
    compute = _compute(input, linear_weight)
    if weight is not None:
        _check_weight(weight, compute, input.dtype, classes)
    if options.acc_dtype not in (None, torch.float32, linear_weight.dtype):
        raise ValueError(
            f"acc_dtype must be torch.float32 or the weight's own {linear_weight.dtype}, got {options.acc_dtype}"
        )
    if options.acc_dtype == torch.float32 and linear_weight.dtype == torch.float64:
        raise ValueError("acc_dtype torch.float32 is narrower than linear_weight's torch.float64: leave it out")

    rest = input.shape[:-1]
    probabilities = (*rest, classes)
    hard = tuple(target.shape) != probabilities
    x = input.reshape(rest.numel(), features)
    keep = rows = None
    if hard:
        y, keep, rows = _indices(target, rest, classes, -100 if ignore_index is None else ignore_index, options)
    else:
        if not target.is_floating_point():
            raise TypeError(
                f"target has shape {probabilities}, so it must hold class probabilities of a floating-point type, "
                f"got {target.dtype}"
            )
        if ignore_index is not None:
            raise ValueError(f"ignore_index = {ignore_index} goes with class indices, but target holds probabilities")
        y = target.reshape(rest.numel(), classes)
    dtype = torch.float32 if _autocast(input.device) and input.dtype in _HALF else input.dtype
    call = LinearCall(
        member, y, classes, hard, keep, rows, rest, dtype, compute, weight, label_smoothing, softcap, z_loss, options
    )  # fmt: skip
    return call, x


def check_layer(linear_weight: Tensor, linear_bias: Tensor | None) -> tuple[int, int]:
    """The layer's number of classes and of features.

    Raises:
        TypeError, ValueError: they are no layer.
    """
    checks.floating("linear_weight", linear_weight)
    if linear_weight.dim() != 2 or linear_weight.shape[0] == 0:
        raise ValueError(f"linear_weight must have shape (classes, features), got {tuple(linear_weight.shape)}")
    classes, features = linear_weight.shape
    if linear_bias is not None:
        checks.floating("linear_bias", linear_bias)
        if linear_bias.shape != (classes,):
            raise ValueError(f"linear_bias must have shape ({classes},), one a class, got {tuple(linear_bias.shape)}")
        if linear_bias.dtype != linear_weight.dtype:
            raise TypeError(f"linear_bias must be {linear_weight.dtype} as linear_weight is, got {linear_bias.dtype}")
        if linear_bias.device != linear_weight.device:
            raise ValueError(f"linear_bias is on {linear_bias.device}, linear_weight on {linear_weight.device}")
    return classes, features


def _compute(input: Tensor, linear_weight: Tensor) -> torch.dtype:
    if _autocast(input.device) and torch.float64 not in (input.dtype, linear_weight.dtype):
        return torch.get_autocast_dtype(input.device.type)
    if input.dtype != linear_weight.dtype:
        raise TypeError(
            f"linear_weight must be {input.dtype} as input is, got {linear_weight.dtype} (torch.autocast casts both)"
        )
    return input.dtype


def _autocast(device: torch.device) -> bool:
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def _check_weight(weight: Tensor, compute: torch.dtype, given: torch.dtype, classes: int) -> None:
    checks.floating("weight", weight)
    if weight.shape != (classes,):
        raise ValueError(f"weight must have shape ({classes},), one a class, got {tuple(weight.shape)}")
    allowed = {given, compute} | ({torch.float32} if compute in _HALF else set())
    if weight.dtype not in allowed:
        raise TypeError(f"weight must be {given} as input is, got {weight.dtype}")


def _indices(
    target: Tensor, rest: torch.Size, classes: int, ignore_index: int, options: LinearLossOptions
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Indices (N), all valid; which of them count; the numbers of those to compute."""
    if target.is_floating_point():
        raise ValueError(f"target of probabilities must have shape {(*rest, classes)}, got {tuple(target.shape)}")
    if target.shape != rest and not (len(rest) == 0 and target.shape == (1,)):
        raise ValueError(f"target of class indices must have input's shape {tuple(rest)} without its last dimension, "
                         f"got {tuple(target.shape)}")  # fmt: skip
    if target.dtype not in (torch.int64, torch.uint8):
        raise TypeError(f"target of class indices must be torch.int64 (or uint8), got {target.dtype}")
    y = target.reshape(-1).long()
    readable = checks.values_readable(y)
    keep = checks.checked_indices(y, classes, ignore_index) if readable else y != ignore_index
    if keep is None:
        return y, None, None
    rows = None
    if options.skip_ignored is not False and (readable or (options.skip_ignored and y.device.type == "cuda")):
        rows = None if transforming() or torch.compiler.is_compiling() else keep.nonzero().squeeze(1)
    return torch.where(keep, y, 0), keep, rows
