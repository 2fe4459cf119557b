"""The kernels as operators of PyTorch: differentiable, and whole in a graph of torch.compile.

They run the Triton kernel on a GPU (and in Triton's interpreter), the C++ kernel on the CPU. A member reaches an
operator as its program's text with the constants beside. Derivatives of higher order go through the composed operators.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from adma.torch.kernels import eager, native, terms
from adma.torch.kernels import triton as kernels
from adma.torch.kernels.choose import batched, transforming
from adma.torch.kernels.program import Program


class _Formula:
    """A program as what `eager`'s composed operators ask for."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def psi(self, t: Any, xp: Any) -> Any:
        return self.program.run(t, xp)[0]

    def slope(self, t: Any, xp: Any) -> Any:
        return self.program.run(t, xp)[1]


@lru_cache(maxsize=1024)
def _parsed(code: str, constants: tuple[float, ...]) -> Program:
    return Program.parse(code, constants)


def _by_triton(z: Tensor) -> bool:
    return not kernels.why_not(z.device)


def _checked(target: Tensor, classes: int) -> None:
    """Refuse what would be read outside of the logits: inside a compiled graph nobody has looked yet."""
    found = native.survey(target, classes, 0)
    if found is not None and found[0] >= 0:
        wrong = int(target.flatten()[found[0]])
        raise IndexError(f"target {wrong} is out of range: with {classes} classes an index is in [0, {classes - 1}]")


# schemas are written out: older versions of torch do not read `list[float]` off a signature
@torch.library.custom_op(
    "adma::rows", mutates_args=(),
    schema="(Tensor z, Tensor target, Tensor? keep, str code, float[] constants) -> (Tensor, Tensor, Tensor, Tensor)",
)  # fmt: skip
def rows(
    z: Tensor, target: Tensor, keep: Tensor | None, code: str, constants: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss of each row (N, M), and three numbers a row that `rows_gradient` wants.

    z: logits (N, C, M). target: class indices (N, M). keep: (N, M) bool; rows where it is False have loss 0.
    code, constants: a `Program`'s text and constants.
    """
    program = _parsed(code, tuple(constants))
    if _by_triton(z):
        losses, saved = kernels.rows(z, target, program, keep)
        return (losses, *saved)
    _checked(target, z.shape[1])
    losses = torch.empty(target.shape, dtype=torch.float64, device=z.device)
    native.rows_and_gradient(z, target, program, 1.0 if keep is None else keep.double(), out=None, rows=losses)
    level, total, odds = (torch.empty(0, dtype=kernels.row_dtype(z.dtype), device=z.device) for _ in range(3))
    return losses, level, total, odds


@rows.register_fake
def _(z: Tensor, target: Tensor, keep: Tensor | None, code: str, constants: list[float]) -> tuple[Tensor, ...]:
    kind, size = kernels.row_dtype(z.dtype), target.shape if _by_triton(z) else (0,)
    saved = [torch.empty(size, dtype=kind, device=z.device) for _ in range(3)]
    return (torch.empty(target.shape, dtype=terms.row_dtype(z.device), device=z.device), *saved)


@torch.library.custom_op(
    "adma::rows_gradient", mutates_args=(),
    schema="(Tensor z, Tensor target, Tensor level, Tensor total, Tensor odds, Tensor grad, str code, "
    "float[] constants) -> Tensor",
)  # fmt: skip
def rows_gradient(
    z: Tensor, target: Tensor, level: Tensor, total: Tensor, odds: Tensor, grad: Tensor, code: str,
    constants: list[float],
) -> Tensor:  # fmt: skip
    """The gradient of `sum(grad * rows)` in the logits; grad is 0 in rows that were not kept."""
    program = _parsed(code, tuple(constants))
    if _by_triton(z):
        return kernels.gradient(z, target, (level, total, odds), program, grad)
    out = torch.empty_like(z)
    native.rows_and_gradient(z, target, program, grad.double(), out=out)
    return out


@rows_gradient.register_fake
def _(z: Tensor, target: Tensor, level: Tensor, total: Tensor, odds: Tensor, grad: Tensor, code: str,
      constants: list[float]) -> Tensor:  # fmt: skip
    return torch.empty_like(z)


def _rows_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    z, target, keep, ctx.code, ctx.constants = inputs
    ctx.save_for_backward(z, target, keep, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _rows_backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, None, None, None, None]:
    z, target, keep, level, total, odds = ctx.saved_tensors
    if grad is None:
        return None, None, None, None, None
    if _again(grad):
        formula = _Formula(_parsed(ctx.code, tuple(ctx.constants)))
        return eager.composed_gradient(z, target, formula, keep, grad), None, None, None, None
    if keep is not None:
        grad = torch.where(keep, grad, torch.zeros_like(grad))
    return rows_gradient(z, target, level, total, odds, grad, ctx.code, ctx.constants), None, None, None, None


rows.register_autograd(_rows_backward, setup_context=_rows_context)


@torch.library.custom_op(
    "adma::loss_and_gradient", mutates_args=(),
    schema="(Tensor z, Tensor target, Tensor scale, str code, float[] constants) -> (Tensor, Tensor)",
)  # fmt: skip
def loss_and_gradient(
    z: Tensor, target: Tensor, scale: Tensor, code: str, constants: list[float]
) -> tuple[Tensor, Tensor]:
    """`sum(scale * rows)` () in `terms.row_dtype`, and its gradient in the logits, in one walk over them.

    The first is differentiable in z: its backward pass hands the second out.
    scale: (N, M), no gradient; a row with scale 0 counts nothing, whatever its logits.
    """
    gradient, total = _walk(z, target, scale, _parsed(code, tuple(constants)))
    return total, gradient


def _walk(z: Tensor, target: Tensor, scale: Tensor, program: Program) -> tuple[Tensor, Tensor]:
    """The gradient and the sum."""
    if _by_triton(z):
        losses, gradient = kernels.rows_and_gradient(z, target, program, scale)
        return gradient, (losses * scale).sum()
    _checked(target, z.shape[1])
    gradient = torch.empty_like(z)
    total = native.rows_and_gradient(z, target, program, scale, out=gradient)
    return gradient, torch.scalar_tensor(total, dtype=torch.float64, device=z.device)


@loss_and_gradient.register_fake
def _(z: Tensor, target: Tensor, scale: Tensor, code: str, constants: list[float]) -> tuple[Tensor, Tensor]:
    return torch.empty((), dtype=terms.row_dtype(z.device), device=z.device), torch.empty_like(z)


def _loss_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    z, target, scale, ctx.code, ctx.constants = inputs
    ctx.save_for_backward(z, target, scale)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.gradient = output[1]


def _loss_backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, None, None, None, None]:
    if grad is None:
        return None, None, None, None, None
    z, target, scale = ctx.saved_tensors
    if _again(grad):
        formula = _Formula(_parsed(ctx.code, tuple(ctx.constants)))
        seed = grad * scale
        return eager.composed_gradient(z, target, formula, scale != 0, seed), None, None, None, None
    gradient: Tensor | None = ctx.gradient
    ctx.gradient = None
    if gradient is None:  # handed out already: a second pass over a graph that was kept
        again = _walk(z, target, grad * scale, _parsed(ctx.code, tuple(ctx.constants)))[0]
        return again, None, None, None, None
    if type(gradient) is not Tensor:  # torch.compile is looking, and fuses a product with what comes next
        return (gradient.to(terms.compute_dtype(z.dtype)) * grad).to(z.dtype), None, None, None, None
    if not _by_triton(z):
        factor = float(grad)
        return gradient if factor == 1.0 else gradient.mul_(factor), None, None, None, None
    return kernels.scale_(gradient, grad), None, None, None, None


loss_and_gradient.register_autograd(_loss_backward, setup_context=_loss_context)


def _again(grad: Tensor) -> bool:
    """Whether a gradient is to be differentiated itself, or mapped."""
    return torch.is_grad_enabled() or transforming() or batched(grad)
