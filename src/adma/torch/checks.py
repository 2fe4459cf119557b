"""What a call may look like: validation, and the one shape that the rest computes with.

The rules, and the kinds of error, are those of `torch.nn.functional.cross_entropy`; the messages name the
argument, its value and what would be right. Checks that must read a tensor's values are made where reading is
free of a device synchronisation (not on CUDA, not under torch.compile or torch.func); there, an index out of
range is caught by the device's own assertion, or makes its row's loss and gradient NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import _reduction

from adma import _check
from adma.torch.kernels import native
from adma.torch.kernels.choose import Choice, in_dual_level, recording, transforming

# how far the sum of a row of probabilities may be from 1, by the type that they come in
_SUM_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}


@dataclass(frozen=True)
class Call:
    """A checked call.

    z: (N, C, M) logits or probabilities.
    target: (N, M) class indices, all valid, or (N, C, M) probabilities.
    hard: whether `target` holds indices.
    keep: (N, M) bool, False where the target was `ignore_index`; None if all rows count.
    shape: of the result without reduction.
    dtype: of the result.
    """

    z: Tensor
    target: Tensor
    hard: bool
    keep: Tensor | None
    shape: torch.Size
    dtype: torch.dtype


def values_readable(tensor: Tensor) -> bool:
    """Whether the values may be looked at without a synchronisation or a graph break."""
    return values_there(tensor) and tensor.device.type not in ("cuda", "xla")


def values_there(tensor: Tensor) -> bool:
    """Whether there are values, and no graph or transformation that looking at them would break."""
    if torch.compiler.is_compiling() or transforming() or in_dual_level() or recording():
        return False
    return tensor.device.type != "meta" and type(tensor) in (Tensor, torch.nn.Parameter)


def reduction_name(reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """`reduction`, or what torch's deprecated pair stands for."""
    if size_average is not None or reduce is not None:
        return str(_reduction.legacy_get_string(size_average, reduce))
    return _check.one_of("reduction", reduction, ("none", "mean", "sum"))


def result_dtype(*tensors: Tensor) -> torch.dtype:
    """The type of the result: the input's, or float32 under autocast, as torch's own losses have."""
    dtype = tensors[0].dtype
    if dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(tensors[0].device.type):
        return torch.float32
    return dtype


def floating(name: str, tensor: Tensor) -> None:
    """Refuse what is no real floating-point tensor.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")


def canonical(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    from_probabilities: bool,
) -> Call:
    """Check a call of a multi-class loss.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes that do not fit, no classes, a value out of its range, probabilities that are none.
        IndexError: a class index outside [0, C) that is not `ignore_index`.
    """
    floating("input", input)
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be a tensor, got {type(target).__name__}")
    if input.dim() == 0:
        raise ValueError("input must have a class dimension: (C), (N, C) or (N, C, d1, ...), got a scalar")
    class_dim = 0 if input.dim() == 1 else 1
    classes = input.shape[class_dim]
    if classes == 0:
        raise ValueError(f"input has no classes: its shape is {tuple(input.shape)} with the classes on dim {class_dim}")
    _check.real("label_smoothing", label_smoothing, low=0, high=1)
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
        raise TypeError(f"ignore_index must be an int, got {ignore_index!r}")
    if target.device != input.device:
        raise ValueError(f"target is on {target.device}, input on {input.device}: move one to the other's device")
    if weight is not None:
        _check_weight(weight, input, classes)

    rest = input.shape[:class_dim] + input.shape[class_dim + 1 :]
    hard = target.shape != input.shape
    if input.dim() == 1 and hard and target.shape == (1,):
        target = target.reshape(())  # torch takes an index in a list of one, too
    if hard:
        if target.is_floating_point():
            raise ValueError(
                f"target of probabilities must have the input's shape {tuple(input.shape)}, got {tuple(target.shape)}"
            )
        if target.shape != rest:
            raise ValueError(
                f"target of class indices must have shape {tuple(rest)} for input {tuple(input.shape)}, "
                f"got {tuple(target.shape)}"
            )
        if target.dtype not in (torch.int64, torch.uint8):
            raise TypeError(f"target of class indices must be torch.int64 (or uint8), got {target.dtype}")
    elif not target.is_floating_point():
        raise TypeError(
            f"target has the input's shape {tuple(target.shape)}, so it must hold class probabilities of a "
            f"floating-point type, got {target.dtype}"
        )
    elif ignore_index >= 0:
        raise ValueError(f"ignore_index = {ignore_index} goes with class indices, but target holds probabilities")

    z = input.unsqueeze(0) if input.dim() == 1 else input
    y = target.unsqueeze(0) if input.dim() == 1 else target
    z = z.reshape(z.shape[0], classes, -1) if z.numel() else z.reshape(z.shape[0], classes, _spread(z.shape[2:]))
    if from_probabilities:
        _check_probabilities(z)
    keep = None
    if hard:
        y = y.reshape(z.shape[0], z.shape[2]).long()
        keep = checked_indices(y, classes, ignore_index) if values_readable(y) else y != ignore_index
        if keep is not None:
            y = torch.where(keep, y, 0)
    else:
        y = y.reshape(z.shape)
    return Call(z, y, hard, keep, rest, result_dtype(input))


def _spread(sizes: torch.Size) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _check_weight(weight: Tensor, input: Tensor, classes: int) -> None:
    floating("weight", weight)
    if weight.shape != (classes,):
        raise ValueError(f"weight must have shape ({classes},), one a class, got {tuple(weight.shape)}")
    if weight.device != input.device:
        raise ValueError(f"weight is on {weight.device}, input on {input.device}: move one to the other's device")
    half = input.dtype in (torch.float16, torch.bfloat16)
    if weight.dtype != input.dtype and not (half and weight.dtype == torch.float32):
        raise TypeError(f"weight must be {input.dtype} as input is, got {weight.dtype}")


def checked_indices(y: Tensor, classes: int, ignore_index: int) -> Tensor | None:
    """Which of the indices count; None if all do. Reads their values.

    Raises:
        IndexError: one that counts is outside [0, classes).
    """
    found = native.survey(y, classes, ignore_index)
    if found is not None:
        position, ignored = found
        wrong = None if position < 0 else y.flatten()[position]
        keep = y != ignore_index if ignored else None
    else:
        keep = y != ignore_index
        bad = keep & ((y < 0) | (y >= classes))
        wrong = y[bad][0] if bool(bad.any()) else None
        keep = None if bool(keep.all()) else keep
    if wrong is not None:
        raise IndexError(
            f"target {int(wrong)} is out of range: with {classes} classes an index is in [0, {classes - 1}], "
            f"or ignore_index = {ignore_index}"
        )
    return keep


def in_place(input: Tensor, call: Call, choice: Choice, label_smoothing: float, from_probabilities: bool) -> None:
    """Refuse to write the gradient into the logits' memory where that cannot be done.

    Raises:
        ValueError: it cannot, and why.
    """
    reason = ""
    if from_probabilities:
        reason = "from_probabilities=True"
    elif choice.engine == "eager" and label_smoothing:
        reason = f"label_smoothing={label_smoothing:g} by torch's operators ({choice.reason})"
    elif choice.engine == "eager" and not call.hard:
        reason = f"target holds probabilities, by torch's operators ({choice.reason})"
    elif choice.engine == "composed":
        reason = choice.reason
    elif torch.compiler.is_compiling():
        reason = "torch.compile decides where the memory of its graph lies"
    elif not (input.requires_grad and torch.is_grad_enabled()):
        return  # no gradient is made, and the logits stay
    elif input.is_leaf or (input._is_view() and input._base is not None and input._base.is_leaf):
        reason = "input is a leaf that requires a gradient (or a view of one): its values would be lost"
    elif any(stride == 0 and size > 1 for stride, size in zip(input.stride(), input.shape, strict=True)):
        reason = "input is expanded: its rows share memory"
    if reason:
        raise ValueError(f"inplace=True cannot be done: {reason}; leave inplace out")


def _check_probabilities(p: Tensor) -> None:
    if not values_readable(p):
        return
    values = p.detach()
    bad = (values < 0) | (values > 1)
    if bool(bad.any()):
        raise ValueError(
            f"input must hold probabilities in [0, 1] (from_probabilities=True), got {values[bad][0].item():g}; "
            "for logits leave from_probabilities out"
        )
    total = values.double().sum(1) if values.device.type != "mps" else values.sum(1)
    off = (total - 1).abs()
    tolerance = _SUM_TOLERANCE[p.dtype]
    if bool((off > tolerance).any()):
        raise ValueError(
            f"input's probabilities must sum to 1 over the classes within {tolerance:g}, got a sum of "
            f"{total.flatten()[off.argmax()].item():g}; for logits leave from_probabilities out"
        )
