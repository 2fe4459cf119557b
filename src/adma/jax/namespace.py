"""The namespace that `adma.rows` computes with in JAX, and members whose parameters are arrays."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from adma.family import Member

Array = Any  # what jnp.asarray takes


@jax.custom_jvp
def _expm1(x: Array) -> Array:
    """expm1 with exp as its derivative; jax's own is `result + 1`, which cancels to 0 far below 0."""
    return jnp.expm1(x)


@_expm1.defjvp
def _expm1_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return jnp.expm1(primals[0]), jnp.exp(primals[0]) * tangents[0]


@jax.custom_jvp
def _finite(t: Array) -> Array:
    """`t` with a number so large in the place of inf that nothing is left of exp(-t); its derivative is t's."""
    return jnp.where(jnp.isinf(t), _FAR, t)


@_finite.defjvp
def _finite_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _finite(primals[0]), tangents[0]


_FAR = 1e30


def _where(condition: Array, x: Array, y: Array) -> Array:
    """`jnp.where`; a positive constant too small for the type (a floor, 1e-300) is its smallest normal number."""
    dtype = jnp.result_type(x, y)
    if jnp.issubdtype(dtype, jnp.floating):
        tiny = float(jnp.finfo(dtype).tiny)
        x, y = (max(v, tiny) if isinstance(v, float) and v > 0 else v for v in (x, y))
    return jnp.where(condition, x, y)


def _repeat(count: int, function: Any, start: Array) -> Array:
    """`function` applied `count` times."""
    return jax.lax.fori_loop(0, count, lambda _, x: function(x), start)


XP = SimpleNamespace(
    exp=jnp.exp, expm1=_expm1, log=jnp.log, log1p=jnp.log1p, where=_where, isinf=jnp.isinf, arange=jnp.arange,
    argmax=jnp.argmax, max=jnp.max, sum=jnp.sum, stop_gradient=jax.lax.stop_gradient, repeat=_repeat,
)  # fmt: skip


@dataclass(frozen=True)
class _Whole(Member):
    """A member whose derivatives in its own parameters stay finite at `t = inf`, where `t exp(-a t)` is inf * 0."""

    member: Member

    def psi(self, t: Array, xp: Any = XP) -> Array:
        end = jnp.asarray(jnp.inf, t.dtype)
        psi = self.member.psi
        left = jax.lax.stop_gradient(psi(end, xp) - psi(_finite(end), xp))  # inf where psi is unbounded, else 0
        return psi(_finite(t), xp) + jnp.where(jnp.isinf(t), left, 0.0)


def whole(member: Member) -> Member:
    """`member`, ready for derivatives in parameters where these are arrays."""
    arrays = any(isinstance(value, jax.Array) for value in member.parameters().values())
    return _Whole(member) if arrays else member
