"""The GPU kernels as operators of PyTorch: differentiable, and whole in a graph of torch.compile.

A member reaches an operator as its program's text with the constants beside, so that a schedule changes an argument.
Derivatives of higher order go through the composed operators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adma.torch.kernels import eager, terms
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


@torch.library.custom_op("adma::rows", mutates_args=())
def rows(
    z: Tensor, target: Tensor, keep: Tensor | None, code: str, constants: list[float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss of each row (N, M), and three numbers a row that `rows_gradient` wants.

    z: logits (N, C, M). target: class indices (N, M). keep: (N, M) bool; rows where it is False have loss 0.
    code, constants: a `Program`'s text and constants.
    """
    losses, saved = kernels.rows(z, target, Program.parse(code, constants), keep)
    return (losses, *saved)


@rows.register_fake
def _(z: Tensor, target: Tensor, keep: Tensor | None, code: str, constants: list[float]) -> tuple[Tensor, ...]:
    kind = kernels.row_dtype(z.dtype)
    saved = [torch.empty(target.shape, dtype=kind, device=z.device) for _ in range(3)]
    return (torch.empty(target.shape, dtype=terms.row_dtype(z.device), device=z.device), *saved)


@torch.library.custom_op("adma::rows_gradient", mutates_args=())
def rows_gradient(
    z: Tensor, target: Tensor, level: Tensor, total: Tensor, odds: Tensor, grad: Tensor, code: str,
    constants: list[float],
) -> Tensor:  # fmt: skip
    """The gradient of `sum(grad * rows)` in the logits; grad is 0 in rows that were not kept."""
    return kernels.gradient(z, target, (level, total, odds), Program.parse(code, constants), grad)


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
        formula = _Formula(Program.parse(ctx.code, ctx.constants))
        return eager.composed_gradient(z, target, formula, keep, grad), None, None, None, None
    if keep is not None:
        grad = torch.where(keep, grad, torch.zeros_like(grad))
    return rows_gradient(z, target, level, total, odds, grad, ctx.code, ctx.constants), None, None, None, None


rows.register_autograd(_rows_backward, setup_context=_rows_context)


@torch.library.custom_op("adma::loss_and_gradient", mutates_args=())
def loss_and_gradient(
    z: Tensor, target: Tensor, scale: Tensor, code: str, constants: list[float]
) -> tuple[Tensor, Tensor]:
    """`sum(scale * rows)` () in `terms.row_dtype`, and its gradient in the logits, in one walk over them.

    The first is differentiable in z: its backward pass hands the second out.
    scale: (N, M), no gradient; a row with scale 0 counts nothing, whatever its logits.
    """
    losses, gradient = kernels.rows_and_gradient(z, target, Program.parse(code, constants), scale)
    return (losses * scale).sum(), gradient


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
        formula = _Formula(Program.parse(ctx.code, ctx.constants))
        seed = grad * scale
        return eager.composed_gradient(z, target, formula, scale != 0, seed), None, None, None, None
    gradient: Tensor | None = ctx.gradient
    ctx.gradient = None
    if gradient is None:  # handed out already: a second pass over a graph that was kept
        program = Program.parse(ctx.code, ctx.constants)
        again = kernels.rows_and_gradient(z, target, program, grad * scale)[1]
        return again, None, None, None, None
    if type(gradient) is not Tensor:  # torch.compile is looking, and fuses a product with what comes next
        return (gradient.to(terms.compute_dtype(z.dtype)) * grad).to(z.dtype), None, None, None, None
    return kernels.scale_(gradient, grad), None, None, None, None


loss_and_gradient.register_autograd(_loss_backward, setup_context=_loss_context)


def _again(grad: Tensor) -> bool:
    """Whether a gradient is to be differentiated itself, or mapped."""
    return torch.is_grad_enabled() or transforming() or batched(grad)
