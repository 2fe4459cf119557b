"""Scalar functions inside Triton kernels, accurate in float32 and float64, on every backend and in the interpreter.

Triton's own language has exp and log only; its libdevice differs from one backend to the next, and the interpreter
has none. Nothing here relies on fused multiply-add, which the interpreter does not have either.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOG2E = tl.constexpr(1.4426950408889634)
# log 2 in two parts; the first has 9 bits, so its product with an exponent is exact (Cody & Waite 1980)
_LOG2_HIGH, _LOG2_LOW = tl.constexpr(0.693359375), tl.constexpr(-2.121944400546905827679e-4)
_ROUND = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding it to a float32 and taking it away again rounds to an integer


@triton.jit
def constant(high, low, like):
    """A float64 from the two halves of its bits, in the type of `like`."""
    bits = (high.to(tl.int64) << 32) | (low.to(tl.int64) & 0xFFFFFFFF)
    return bits.to(tl.float64, bitcast=True).to(like.dtype)


@triton.jit
def expm1(x):
    """`exp(x) - 1`: its Taylor series up to |x| = 1/2, beyond which the difference loses no more than two units."""
    series = 1.0 + x * (1.0 / 16)
    for k in tl.static_range(14):
        series = 1.0 + x * (1.0 / (15 - k)) * series
    small = tl.abs(x) <= 0.5
    return tl.where(small, tl.where(small, x, 0.0) * series, tl.exp(x) - 1.0)


@triton.jit
def log1p(x):
    """`log(1 + x)`, the rounding of 1 + x divided out (Kahan; Goldberg 1991, theorem 4)."""
    whole = 1.0 + x
    rounded = whole - 1.0
    value = tl.log(whole) * (x / tl.where(rounded == 0.0, 1.0, rounded))
    return tl.where(rounded == 0.0, x, tl.where(whole == float("inf"), x, value))


@triton.jit
def power(x, y):
    """`x ** y` as C has it; relative error |y log x| times the type's."""
    size = tl.exp(y * tl.log(tl.abs(x)))
    half = y * 0.5
    sign = tl.where(tl.floor(half) == half, 1.0, tl.where(tl.floor(y) == y, -1.0, float("nan")))
    value = tl.where(x < 0.0, sign.to(size.dtype), 1.0) * size
    return tl.where(y == 0.0, 1.0, tl.where(x == 1.0, 1.0, value))


@triton.jit
def exp_gap(x, level, EXACT: tl.constexpr):
    """`exp(x - level)` for x <= level; 0 for x = -inf.

    In float32 the rounding of the difference (Knuth's two-sum) and of the exponent's reduction would cost 1e-5 at a
    gap of 80. EXACT keeps both; without it a half type's own rounding is far larger.
    """
    gap = x - level
    if x.dtype == tl.float64:
        value = tl.exp(gap)
    elif EXACT:
        back = gap - x
        error = (x - (gap - back)) - (level + back)
        far = gap < -110.0  # exp is 0 there, and the arithmetic below knows no infinity
        gap = tl.where(far, -110.0, gap)
        error = tl.where(far, 0.0, error)
        whole = (gap * _LOG2E + _ROUND) - _ROUND
        rest = (gap - whole * _LOG2_HIGH) - whole * _LOG2_LOW
        value = tl.exp2((rest + error) * _LOG2E) * tl.exp2(whole)
    else:
        value = tl.exp2(gap * _LOG2E)
    return value
