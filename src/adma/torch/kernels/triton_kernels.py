"""The kernel: rows of logits to losses and gradients, for any member.

One tile at a time. A tile is (A, V): A lanes with V neighbouring classes each at a step. Either a lane is a row
(BY_ROW), or all lanes serve one row and meet at its end, so that nothing waits for another thread inside the walk over
a long row. If the classes fit the tile at once (SINGLE), the logits are read once and stay in registers; otherwise the
second walk goes backwards, and what the first read last is still in the L2 cache.
"""

from __future__ import annotations

import triton
import triton.language as tl

from adma.torch.kernels.triton_math import exp_gap, log1p

_LOWEST = tl.constexpr(-3.4028234663852886e38)  # below any float32; exp_gap of -inf from it is 0, not NaN
_LOWEST_64 = tl.constexpr(-1.7976931348623157e308)


@triton.jit
def _block(z, row, y, step, limit, stride,
           BY_ROW: tl.constexpr, A: tl.constexpr, V: tl.constexpr, WIDE: tl.constexpr, EVICT: tl.constexpr,
           MASK_TRUE: tl.constexpr, WORK: tl.constexpr):  # fmt: skip
    """Logits of one step (A, V), -inf at the true class and from `limit` on; and their classes."""
    lane, column = tl.arange(0, A)[:, None], tl.arange(0, V)[None, :]
    if BY_ROW:
        c = step * V + column + lane * 0
        here = c < limit[:, None]
        base = row[:, None]
    else:
        c = step * (A * V) + lane * V + column
        here = c < limit
        base = row
    where = c.to(tl.int64) * stride if WIDE else c * stride
    x = tl.load(z + base + where, mask=here, other=float("-inf"), eviction_policy=EVICT).to(WORK)
    if BY_ROW:
        x = tl.where(c == y[:, None], float("-inf"), x)
    elif MASK_TRUE:  # noqa: SIM102  (the outer test is the compiler's, the inner one the kernel's)
        if step == y // (A * V):  # the other steps are spared a comparison for each logit
            x = tl.where(c == y, float("-inf"), x)
    return x, c


@triton.jit
def _store(out, row, c, y, e, rate, weight, limit, stride, BY_ROW: tl.constexpr, WIDE: tl.constexpr):
    """Writes the gradient of one step; at the true class, if a lane is no row, what is there is to be replaced."""
    where = c.to(tl.int64) * stride if WIDE else c * stride
    if BY_ROW:
        value = tl.where(c == y[:, None], -weight[:, None], e * rate[:, None])
        place, here = out + row[:, None] + where, c < limit[:, None]
    else:
        value = e * rate
        place, here = out + row + where, c < limit
    tl.store(place, value.to(out.dtype.element_ty), mask=here, eviction_policy="evict_first")


@triton.jit
def _tile(tile, z, out, target, scale, rows, level, total, odds, inner, class_units, z_outer, z_inner, z_class,
          out_outer, out_inner, out_class, target_outer, target_inner, scale_outer, scale_inner, constants,
          PSI_SLOPE: tl.constexpr, FORWARD: tl.constexpr, BACKWARD: tl.constexpr, SINGLE: tl.constexpr,
          BY_ROW: tl.constexpr, A: tl.constexpr, V: tl.constexpr, UNIT: tl.constexpr, WIDE: tl.constexpr,
          WORK: tl.constexpr, ROW: tl.constexpr, SUM: tl.constexpr, EXACT: tl.constexpr,
          STAGES: tl.constexpr):  # fmt: skip
    classes = class_units * UNIT
    if BY_ROW:
        tiles = (inner + (A - 1)) // A
        first = (tile // tiles).to(tl.int64)
        second = (tile % tiles).to(tl.int64) * A + tl.arange(0, A)
        live = second < inner
    else:
        first = (tile // inner).to(tl.int64)
        second = (tile % inner).to(tl.int64)
    target_place = target + first * target_outer + second * target_inner
    scale_place = scale + first * scale_outer + second * scale_inner
    if BY_ROW:
        y = tl.load(target_place, mask=live, other=0).to(tl.int32)
        share = tl.load(scale_place, mask=live, other=0)
        bound = tl.where(live, classes, 0)
    else:
        y = tl.load(target_place).to(tl.int32)
        share = tl.load(scale_place)
        bound = classes
    counts = share != 0
    limit = tl.where(counts, bound, 0)  # rows that do not count are not read
    place = tl.where(y >= 0, tl.where(y < classes, y, 0), 0)
    here = first * inner + second
    if UNIT > 1:  # tells the compiler that rows are aligned
        z_row = first * z_outer * UNIT + second * z_inner * UNIT
        out_row = first * out_outer * UNIT + second * out_inner * UNIT
    else:
        z_row = first * z_outer + second * z_inner
        out_row = first * out_outer + second * out_inner

    lowest: tl.constexpr = _LOWEST_64 if tl.float64 == WORK else _LOWEST
    steps = (classes + (V - 1)) // V if BY_ROW else (classes + (A * V - 1)) // (A * V)
    if FORWARD:
        true_place = z + z_row + place.to(tl.int64) * z_class
        true_logit = tl.load(true_place, mask=live) if BY_ROW else tl.load(true_place)
        true_logit = tl.where(place == y, true_logit.to(ROW), float("nan"))
        if SINGLE:
            x, c = _block(z, z_row, y, 0, limit, z_class, BY_ROW, A, V, WIDE, "evict_first", True, WORK)
            top = tl.maximum(tl.max(x, axis=1), lowest)
            if BY_ROW:
                e = exp_gap(x, top[:, None], EXACT)
                sum_others = tl.sum(e, axis=1).to(ROW)
            else:
                top = tl.max(top, axis=0)
                e = exp_gap(x, top, EXACT)
                sum_others = tl.sum(tl.sum(e, axis=1), axis=0).to(ROW)
        else:
            top = tl.full([A], lowest, WORK)
            partial = tl.zeros([A], SUM)
            for step in tl.range(0, steps, num_stages=STAGES):
                x, c = _block(z, z_row, y, step, limit, z_class, BY_ROW, A, V, WIDE, "evict_last", True, WORK)
                higher = tl.maximum(top, tl.max(x, axis=1))
                # what rounding a gap costs is less than the last place of the sum, in which a gap's share falls faster
                partial = partial * exp_gap(top, higher, EXACT) + tl.sum(exp_gap(x, higher[:, None], False), axis=1)
                top = higher
            if BY_ROW:
                sum_others = partial.to(ROW)
            else:
                highest = tl.max(top, axis=0)
                sum_others = tl.sum(partial * exp_gap(top, highest, EXACT), axis=0).to(ROW)
                top = highest
        u = top.to(ROW) - true_logit + tl.log(sum_others)
    else:
        if BY_ROW:
            top = tl.load(level + here, mask=live, other=0.0).to(WORK)
            sum_others = tl.load(total + here, mask=live, other=1.0)
            u = tl.load(odds + here, mask=live, other=0.0)
        else:
            top, sum_others, u = tl.load(level + here).to(WORK), tl.load(total + here), tl.load(odds + here)

    tail = tl.exp(-tl.abs(u))  # t = softplus(u)
    t = log1p(tail) + tl.where(u > 0.0, u, 0.0)
    t = tl.where(u == u, t, u)
    psi, slope = PSI_SLOPE(t, constants)
    if FORWARD:
        loss = tl.where(counts, psi, 0.0)
        if BY_ROW:
            tl.store(rows + here, loss, mask=live)
        else:
            tl.store(rows + here, loss)
        if not BACKWARD:
            if BY_ROW:
                tl.store(level + here, top.to(ROW), mask=live)
                tl.store(total + here, sum_others, mask=live)
                tl.store(odds + here, u, mask=live)
            else:
                tl.store(level + here, top.to(ROW))
                tl.store(total + here, sum_others)
                tl.store(odds + here, u)
    if BACKWARD:
        one_minus_p = tl.where(u > 0.0, 1.0, tail) / (1.0 + tail)
        weight = tl.where(counts, share.to(ROW) * slope * one_minus_p, 0.0)
        rate = tl.where(weight == 0.0, 0.0, weight / tl.where(sum_others == 0.0, 1.0, sum_others)).to(WORK)
        weight = weight.to(WORK)
        tl.debug_barrier()  # out may be z: everything is read before anything is written
        if SINGLE and FORWARD:
            _store(out, out_row, c, y, e, rate, weight, bound, out_class, BY_ROW, WIDE)
        else:
            for turn in tl.range(0, steps, num_stages=STAGES):
                x, c = _block(z, z_row, y, steps - 1 - turn, limit, z_class,
                                    BY_ROW, A, V, WIDE, "evict_first", False, WORK)  # fmt: skip
                e = exp_gap(x, top[:, None] if BY_ROW else top, EXACT)
                _store(out, out_row, c, y, e, rate, weight, bound, out_class, BY_ROW, WIDE)
        if not BY_ROW:
            tl.debug_barrier()
            true_place = out + out_row + place.to(tl.int64) * out_class
            tl.store(true_place, (-weight).to(out.dtype.element_ty))


@triton.jit(do_not_specialize=["constants"])
def row_kernel(z, out, target, scale, rows, level, total, odds, tiles, inner, class_units, z_outer, z_inner, z_class,
               out_outer, out_inner, out_class, target_outer, target_inner, scale_outer, scale_inner, constants,
               PSI_SLOPE: tl.constexpr, FORWARD: tl.constexpr, BACKWARD: tl.constexpr, SINGLE: tl.constexpr,
               BY_ROW: tl.constexpr, A: tl.constexpr, V: tl.constexpr, UNIT: tl.constexpr, WIDE: tl.constexpr,
               WORK: tl.constexpr, ROW: tl.constexpr, SUM: tl.constexpr, EXACT: tl.constexpr,
               STAGES: tl.constexpr, PERSISTENT: tl.constexpr):  # fmt: skip
    """Losses, gradient, or both (FORWARD, BACKWARD) of z (outer, classes, inner), any strides.

    class_units, and the strides over outer and inner, count UNIT elements, which tells the compiler how rows are
    aligned. WIDE: offsets within a row need 64 bits. WORK, ROW, SUM: types of the arithmetic on logits, on rows, of
    a lane's sum. constants: as `triton_program.arguments` gives them.
    """
    if PERSISTENT:
        for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
            _tile(tile, z, out, target, scale, rows, level, total, odds, inner, class_units, z_outer, z_inner, z_class,
                  out_outer, out_inner, out_class, target_outer, target_inner, scale_outer, scale_inner, constants,
                  PSI_SLOPE, FORWARD, BACKWARD, SINGLE, BY_ROW, A, V, UNIT, WIDE,
                  WORK, ROW, SUM, EXACT, STAGES)  # fmt: skip
    else:
        _tile(tl.program_id(0), z, out, target, scale, rows, level, total, odds, inner, class_units,
              z_outer, z_inner, z_class, out_outer, out_inner, out_class, target_outer, target_inner,
              scale_outer, scale_inner, constants, PSI_SLOPE, FORWARD, BACKWARD, SINGLE, BY_ROW, A, V, UNIT, WIDE,
              WORK, ROW, SUM, EXACT, STAGES)  # fmt: skip


@triton.jit
def scale_kernel(values, factor, count, SIZE: tl.constexpr, WORK: tl.constexpr):
    """values[:count] *= factor[0], unless that is 1: then nothing is read or written."""
    by = tl.load(factor).to(WORK)
    if by != 1.0:
        at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
        here = at < count
        value = tl.load(values + at, mask=here).to(WORK)
        tl.store(values + at, (value * by).to(values.dtype.element_ty), mask=here)
