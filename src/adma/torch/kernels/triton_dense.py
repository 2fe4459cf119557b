"""The kernel for targets that give every class a weight: sum_j w_j psi(t_j) of a row and its gradient, for any member.

A program has one row and walks through it four times: for the likeliest class h, for what the others add up to, for psi
and the sums of g_j = scale w_j slope(t_j), and for the gradient (`native/dense.hpp` has the formulas).
"""

from __future__ import annotations

import triton
import triton.language as tl

from adma.torch.kernels.triton_math import constant, log1p

_NOWHERE = tl.constexpr(1 << 30)


@triton.jit
def _logits(z, row, start, limit, stride, V: tl.constexpr, ROW: tl.constexpr):
    c = start + tl.arange(0, V)
    x = tl.load(z + row + c.to(tl.int64) * stride, mask=c < limit, other=float("-inf"))
    return x.to(ROW), c


@triton.jit
def _weights(c, y, shares, share_row, share_class, weight, limit, even, kept, SOFT: tl.constexpr,
             WEIGHTED: tl.constexpr):  # fmt: skip
    if SOFT:
        held = tl.load(shares + share_row + c.to(tl.int64) * share_class, mask=c < limit, other=0.0).to(even.dtype)
    else:
        held = tl.where(c == y, 1.0, 0.0).to(even.dtype)
    w = held * kept + even
    if WEIGHTED:
        w = w * tl.load(weight + c, mask=c < limit, other=0.0).to(even.dtype)
    return tl.where(c < limit, w, 0.0)


@triton.jit
def _terms(x, c, h, top, near, w, share, constants, PSI_SLOPE: tl.constexpr):
    """What classes add to the row's loss, and g; of no account where the weight is 0."""
    t = tl.where(c == h, near, (top - x) + near)
    psi, slope = PSI_SLOPE(t, constants)
    none = w == 0.0
    return tl.where(none, 0.0, w * psi), tl.where(none, 0.0, share * w * slope)


@triton.jit(do_not_specialize=["constants", "smoothing"])
def dense_kernel(z, out, target, shares, weight, scale, rows, inner, classes, z_outer, z_inner, z_class, out_outer,
                 out_inner, out_class, target_outer, target_inner, share_outer, share_inner, share_class, scale_outer,
                 scale_inner, smoothing, constants, PSI_SLOPE: tl.constexpr, SOFT: tl.constexpr,
                 WEIGHTED: tl.constexpr, BACKWARD: tl.constexpr, V: tl.constexpr, ROW: tl.constexpr):  # fmt: skip
    """Loss and, with BACKWARD, gradient of one row of z (outer, classes, inner), any strides.

    SOFT: `shares` (outer, classes, inner) holds probabilities; else `target` (outer, inner) an index. WEIGHTED:
    `weight` (classes) holds the classes' weights. smoothing: the even and the kept share; it and constants as
    `triton_program.arguments` gives them.
    """
    tile = tl.program_id(0)
    first = (tile // inner).to(tl.int64)
    second = (tile % inner).to(tl.int64)
    share = tl.load(scale + first * scale_outer + second * scale_inner).to(ROW)
    counts = share != 0
    limit = tl.where(counts, classes, 0)  # a row that does not count is not read
    z_row = first * z_outer + second * z_inner
    out_row = first * out_outer + second * out_inner
    share_row = first * share_outer + second * share_inner
    even = constant(smoothing[0], smoothing[1], share)
    kept = constant(smoothing[2], smoothing[3], share)
    y = 0
    if not SOFT:
        y = tl.load(target + first * target_outer + second * target_inner).to(tl.int32)
    steps = (classes + (V - 1)) // V

    top = tl.max(tl.full([1], float("-inf"), ROW), axis=0)
    h = tl.max(tl.full([1], 0, tl.int32), axis=0)
    for step in range(steps):
        x, c = _logits(z, z_row, step * V, limit, z_class, V, ROW)
        highest = tl.max(x, axis=0)
        place = tl.min(tl.where(x == highest, c, _NOWHERE), axis=0)
        h = tl.where(highest > top, place, h)
        top = tl.where(highest > top, highest, top)

    rest = tl.max(tl.zeros([1], ROW), axis=0)
    for step in range(steps):
        x, c = _logits(z, z_row, step * V, limit, z_class, V, ROW)
        rest += tl.sum(tl.where(c == h, 0.0, tl.where(c < limit, tl.exp(x - top), 0.0)), axis=0)
    near = log1p(rest)
    if not SOFT:  # no class: loud
        near = tl.where(y >= 0, tl.where(y < classes, near, float("nan")), float("nan"))
    inverse = 1.0 / (1.0 + rest)

    loss = tl.max(tl.zeros([1], ROW), axis=0)
    own = loss
    others = loss
    for step in range(steps):
        x, c = _logits(z, z_row, step * V, limit, z_class, V, ROW)
        w = _weights(c, y, shares, share_row, share_class, weight, limit, even, kept, SOFT, WEIGHTED)
        cost, g = _terms(x, c, h, top, near, w, share, constants, PSI_SLOPE)
        loss += tl.sum(cost, axis=0)
        own += tl.sum(tl.where(c == h, g, 0.0), axis=0)
        others += tl.sum(tl.where(c == h, 0.0, g), axis=0)
    loss = tl.where(near == near, loss, near)
    tl.store(rows + first * inner + second, tl.where(counts, loss, 0.0))
    if BACKWARD:
        rate = (own + others) * inverse
        at_h = inverse * others - rest * inverse * own
        for step in range(steps):
            x, c = _logits(z, z_row, step * V, limit, z_class, V, ROW)
            w = _weights(c, y, shares, share_row, share_class, weight, limit, even, kept, SOFT, WEIGHTED)
            _, g = _terms(x, c, h, top, near, w, share, constants, PSI_SLOPE)
            value = tl.where(c == h, at_h, tl.exp(x - top) * rate - g)
            value = tl.where(near == near, value, near)
            value = tl.where(counts, value, 0.0)
            tl.debug_barrier()  # out may be z: a block is read before it is written
            where = c.to(tl.int64) * out_class
            tl.store(out + out_row + where, value.to(out.dtype.element_ty), mask=c < classes)
