"""The kernel: rows of logits to losses and gradients, for any member.

Either a program has a tile of short rows (`_short_rows`), read once; or it has one row (`_long_row`), of which as much
as fits stays in registers between the two walks, and the rest is walked in steps: forwards for the sum, backwards for
the gradient, so that what the first walk read last is still in the L2 cache.
"""

from __future__ import annotations

import triton
import triton.language as tl

from adma.torch.kernels.triton_math import exp_gap, log1p

LOWEST = tl.constexpr(-3.4028234663852886e38)  # below any float32; exp_gap of -inf from it is 0, not NaN
LOWEST_64 = tl.constexpr(-1.7976931348623157e308)
_BEFORE = tl.constexpr(-(1 << 30))  # a limit that no class is below


@triton.jit
def row_terms(top, sum_others, true_logit):
    """The log-odds u against the true class: `log sum_{j != y} exp(z_j - z_y)`."""
    return top - true_logit + tl.log(sum_others)


@triton.jit
def loss_terms(u, constants, PSI_SLOPE: tl.constexpr):
    """psi(t), slope(t) and 1 - p, at t = softplus(u)."""
    tail = tl.exp(-tl.abs(u))
    t = log1p(tail) + tl.where(u > 0.0, u, 0.0)
    psi, slope = PSI_SLOPE(tl.where(u == u, t, u), constants)
    return psi, slope, tl.where(u > 0.0, 1.0, tail) / (1.0 + tail)


@triton.jit
def rate_of(weight, sum_others):
    """What exp(z_j - top) is multiplied by."""
    return tl.where(weight == 0.0, 0.0, weight / tl.where(sum_others == 0.0, 1.0, sum_others))


@triton.jit
def _short_block(z, row, y, step, limit, stride, A: tl.constexpr, V: tl.constexpr, WIDE: tl.constexpr,
                 WORK: tl.constexpr):  # fmt: skip
    """Logits (A rows, V classes) of one step, -inf at the true class and from `limit` on; and their classes."""
    c = step * V + tl.arange(0, V)[None, :] + tl.arange(0, A)[:, None] * 0
    where = c.to(tl.int64) * stride if WIDE else c * stride
    x = tl.load(z + row[:, None] + where, mask=c < limit[:, None], other=float("-inf")).to(WORK)
    return tl.where(c == y[:, None], float("-inf"), x), c


@triton.jit
def _short_store(out, row, c, y, e, rate, weight, bound, stride, WIDE: tl.constexpr):
    where = c.to(tl.int64) * stride if WIDE else c * stride
    value = tl.where(c == y[:, None], -weight[:, None], e * rate[:, None])
    tl.store(out + row[:, None] + where, value.to(out.dtype.element_ty), mask=c < bound[:, None])


@triton.jit
def _short_rows(tile, z, out, target, scale, rows, level, total, odds, inner, class_units, z_outer, z_inner, z_class,
                out_outer, out_inner, out_class, target_outer, target_inner, scale_outer, scale_inner, constants,
                PSI_SLOPE: tl.constexpr, FORWARD: tl.constexpr, BACKWARD: tl.constexpr, SINGLE: tl.constexpr,
                A: tl.constexpr, V: tl.constexpr, UNIT: tl.constexpr, WIDE: tl.constexpr, WORK: tl.constexpr,
                ROW: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    classes = class_units * UNIT
    tiles = (inner + (A - 1)) // A
    first = (tile // tiles).to(tl.int64)
    second = (tile % tiles).to(tl.int64) * A + tl.arange(0, A)
    live = second < inner
    y = tl.load(target + first * target_outer + second * target_inner, mask=live, other=0).to(tl.int32)
    share = tl.load(scale + first * scale_outer + second * scale_inner, mask=live, other=0)
    counts = share != 0
    bound = tl.where(live, classes, 0)
    limit = tl.where(counts, bound, 0)  # rows that do not count are not read
    here = first * inner + second
    z_row = first * z_outer * UNIT + second * z_inner * UNIT
    out_row = first * out_outer * UNIT + second * out_inner * UNIT
    lowest: tl.constexpr = LOWEST_64 if tl.float64 == WORK else LOWEST
    steps = (classes + (V - 1)) // V
    if FORWARD:
        place = tl.where(y >= 0, tl.where(y < classes, y, 0), 0)
        true_logit = tl.load(z + z_row + place.to(tl.int64) * z_class, mask=live).to(ROW)
        if SINGLE:
            x, c = _short_block(z, z_row, y, 0, limit, z_class, A, V, WIDE, WORK)
            top = tl.maximum(tl.max(x, axis=1), lowest)
            e = exp_gap(x, top[:, None], EXACT)
            sum_others = tl.sum(e, axis=1).to(ROW)
        else:
            top = tl.full([A], lowest, WORK)
            sum_others = tl.zeros([A], ROW)
            for step in range(steps):
                x, c = _short_block(z, z_row, y, step, limit, z_class, A, V, WIDE, WORK)
                higher = tl.maximum(top, tl.max(x, axis=1))
                sum_others = sum_others * exp_gap(top, higher, EXACT)
                # what rounding a gap costs is less than the last place of the sum, in which its share falls faster
                sum_others += tl.sum(exp_gap(x, higher[:, None], False), axis=1)
                top = higher
        u = row_terms(top.to(ROW), sum_others, tl.where(place == y, true_logit, float("nan")))
    else:
        top = tl.load(level + here, mask=live, other=0.0).to(WORK)
        sum_others = tl.load(total + here, mask=live, other=1.0)
        u = tl.load(odds + here, mask=live, other=0.0)
    psi, slope, rest = loss_terms(u, constants, PSI_SLOPE)
    if FORWARD:
        tl.store(rows + here, tl.where(counts, psi, 0.0), mask=live)
        if not BACKWARD:
            tl.store(level + here, top.to(ROW), mask=live)
            tl.store(total + here, sum_others, mask=live)
            tl.store(odds + here, u, mask=live)
    if BACKWARD:
        weight = tl.where(counts, share.to(ROW) * slope * rest, 0.0)
        rate = rate_of(weight, sum_others).to(WORK)
        weight = weight.to(WORK)
        tl.debug_barrier()  # out may be z: everything is read before anything is written
        if SINGLE and FORWARD:
            _short_store(out, out_row, c, y, e, rate, weight, bound, out_class, WIDE)
        else:
            for turn in range(steps):
                x, c = _short_block(z, z_row, y, steps - 1 - turn, limit, z_class, A, V, WIDE, WORK)
                e = exp_gap(x, top[:, None], EXACT)
                _short_store(out, out_row, c, y, e, rate, weight, bound, out_class, WIDE)


@triton.jit
def _load(z, row, start, shift, limit, stride, LANES: tl.constexpr, V: tl.constexpr, SHIFTED: tl.constexpr,
          WIDE: tl.constexpr, EVICT: tl.constexpr):  # fmt: skip
    """Logits (LANES, V) as they are, -inf from `limit` on; and their classes. `row` and `start` lie on a vector.

    SHIFTED: the row itself begins `shift` logits later. A vector that lies across an end of the row is read whole,
    neighbours and all, which are replaced.
    """
    at = start + tl.arange(0, LANES)[:, None] * V
    column = at + tl.arange(0, V)[None, :]
    where = column.to(tl.int64) * stride if WIDE else column * stride
    c = column - shift if SHIFTED else column
    if SHIFTED:
        touched = tl.broadcast_to(at < limit + shift, [LANES, V])
        raw = tl.load(z + row + where, mask=touched, other=float("-inf"), eviction_policy=EVICT)
        raw = tl.where(c < 0, float("-inf"), tl.where(c < limit, raw, float("-inf")))
    else:
        raw = tl.load(z + row + where, mask=c < limit, other=float("-inf"), eviction_policy=EVICT)
    return raw, c


@triton.jit
def _store(out, row, start, shift, bound, stride, value, LANES: tl.constexpr, V: tl.constexpr, SHIFTED: tl.constexpr,
           WIDE: tl.constexpr):  # fmt: skip
    """Writes (LANES, V); whole vectors at once, and one by one what is left at the ends of a shifted row."""
    at = start + tl.arange(0, LANES)[:, None] * V
    column = at + tl.arange(0, V)[None, :]
    where = column.to(tl.int64) * stride if WIDE else column * stride
    value = value.to(out.dtype.element_ty)
    if SHIFTED:
        whole = tl.where(at >= shift, at + V <= bound + shift, False)
        tl.store(out + row + where, value, mask=tl.broadcast_to(whole, [LANES, V]), eviction_policy="evict_first")
        c = tl.where(whole, bound, column - shift)
        tl.store(out + row + where, value, mask=tl.where(c >= 0, c < bound, False))
    else:
        tl.store(out + row + where, value, mask=column < bound, eviction_policy="evict_first")


@triton.jit
def _long_row(tile, z, out, target, scale, rows, level, total, odds, inner, class_units, z_outer, z_inner, z_class,
              out_outer, out_inner, out_class, target_outer, target_inner, scale_outer, scale_inner, constants,
              PSI_SLOPE: tl.constexpr, FORWARD: tl.constexpr, BACKWARD: tl.constexpr, HOLD: tl.constexpr,
              WALK: tl.constexpr, A: tl.constexpr, V: tl.constexpr, UNIT: tl.constexpr, SHIFTED: tl.constexpr,
              WIDE: tl.constexpr, WORK: tl.constexpr, ROW: tl.constexpr, EXACT: tl.constexpr,
              EVICT: tl.constexpr, AHEAD: tl.constexpr):  # fmt: skip
    classes = class_units * UNIT
    first = (tile // inner).to(tl.int64)
    second = (tile % inner).to(tl.int64)
    y = tl.load(target + first * target_outer + second * target_inner).to(tl.int32)
    share = tl.load(scale + first * scale_outer + second * scale_inner)
    counts = share != 0
    limit = tl.where(counts, classes, 0)  # a row that does not count is not read
    here = first * inner + second
    z_row = first * z_outer * UNIT + second * z_inner * UNIT
    out_row = first * out_outer * UNIT + second * out_inner * UNIT
    place = tl.where(y >= 0, tl.where(y < classes, y, 0), 0).to(tl.int64)
    true_place = out + out_row + place * out_class
    shift = 0
    if SHIFTED:
        shift = (z_row % V).to(tl.int32)
        z_row = z_row // V * V
        out_row = out_row // V * V
    lowest: tl.constexpr = LOWEST_64 if tl.float64 == WORK else LOWEST
    held: tl.constexpr = HOLD * V
    size: tl.constexpr = A * V
    steps = tl.maximum(classes + shift - held + (size - 1), 0) // size
    if FORWARD:
        true_logit = tl.load(z + z_row + shift + place * z_class).to(ROW)
        if HOLD:
            raw, c = _load(z, z_row, 0, shift, limit, z_class, HOLD, V, SHIFTED, WIDE, "evict_first")
        highest = tl.max(tl.full([1], lowest, WORK), axis=0)
        if WALK:
            top = tl.full([A], lowest, WORK)
            partial = tl.zeros([A], WORK)
            ahead, at = _load(z, z_row, held, shift, limit, z_class, A, V, SHIFTED, WIDE, EVICT)
            for step in range(steps):
                x = ahead.to(WORK)
                if (y + shift - held) // size == step:  # the other steps are spared a comparison for each logit
                    x = tl.where(at == y, float("-inf"), x)
                if AHEAD:  # what the next step needs is under way while this one is computed
                    start = held + (step + 1) * size
                    ahead, at = _load(z, z_row, start, shift, limit, z_class, A, V, SHIFTED, WIDE, EVICT)
                higher = tl.maximum(top, tl.max(x, axis=1))
                # what rounding a gap costs is less than the last place of the sum, in which its share falls faster
                partial = partial * exp_gap(top, higher, EXACT) + tl.sum(exp_gap(x, higher[:, None], False), axis=1)
                top = higher
                if not AHEAD:
                    start = held + (step + 1) * size
                    ahead, at = _load(z, z_row, start, shift, limit, z_class, A, V, SHIFTED, WIDE, EVICT)
            highest = tl.max(top, axis=0)
        if HOLD:
            x = tl.where(c == y, float("-inf"), raw.to(WORK))
            highest = tl.maximum(highest, tl.max(tl.max(x, axis=1), axis=0))
            e = exp_gap(x, highest, EXACT)
            sum_others = tl.sum(tl.sum(e, axis=1), axis=0)
            if WALK:
                sum_others += tl.sum(partial * exp_gap(top, highest, EXACT), axis=0)
        else:
            sum_others = tl.sum(partial * exp_gap(top, highest, EXACT), axis=0)
        sum_others = sum_others.to(ROW)
        u = row_terms(highest.to(ROW), sum_others, tl.where(place == y, true_logit, float("nan")))
    else:
        highest, sum_others, u = tl.load(level + here).to(WORK), tl.load(total + here), tl.load(odds + here)
    psi, slope, rest = loss_terms(u, constants, PSI_SLOPE)
    if FORWARD:
        tl.store(rows + here, tl.where(counts, psi, 0.0))
        if not BACKWARD:
            tl.store(level + here, highest.to(ROW))
            tl.store(total + here, sum_others)
            tl.store(odds + here, u)
    if BACKWARD:
        weight = tl.where(counts, share.to(ROW) * slope * rest, 0.0)
        rate = rate_of(weight, sum_others).to(WORK)
        tl.debug_barrier()  # out may be z: everything is read before anything is written
        if HOLD:
            if not FORWARD:
                raw, c = _load(z, z_row, 0, shift, limit, z_class, HOLD, V, SHIFTED, WIDE, "evict_first")
                e = exp_gap(raw.to(WORK), highest, EXACT)
            _store(out, out_row, 0, shift, classes, out_class, e * rate, HOLD, V, SHIFTED, WIDE)
        if WALK:
            start = held + (steps - 1) * size
            ahead, at = _load(z, z_row, start, shift, limit, z_class, A, V, SHIFTED, WIDE, "evict_first")
            for turn in range(steps):
                value = ahead.to(WORK)
                left = tl.where(turn + 1 < steps, limit, _BEFORE)  # before the row lies another, or nothing
                if AHEAD:
                    before = start - size
                    ahead, at = _load(z, z_row, before, shift, left, z_class, A, V, SHIFTED, WIDE, "evict_first")
                value = exp_gap(value, highest, EXACT) * rate
                _store(out, out_row, start, shift, classes, out_class, value, A, V, SHIFTED, WIDE)
                start -= size
                if not AHEAD:
                    ahead, at = _load(z, z_row, start, shift, left, z_class, A, V, SHIFTED, WIDE, "evict_first")
        tl.debug_barrier()  # the true class is written last, over what is there
        tl.store(true_place, (-weight).to(out.dtype.element_ty))


@triton.jit(do_not_specialize=["constants"])
def row_kernel(z, out, target, scale, rows, level, total, odds, tiles, inner, class_units, z_outer, z_inner, z_class,
               out_outer, out_inner, out_class, target_outer, target_inner, scale_outer, scale_inner,
               constants, PSI_SLOPE: tl.constexpr, FORWARD: tl.constexpr, BACKWARD: tl.constexpr, BY_ROW: tl.constexpr,
               HOLD: tl.constexpr, WALK: tl.constexpr, A: tl.constexpr, V: tl.constexpr, UNIT: tl.constexpr,
               SHIFTED: tl.constexpr, WIDE: tl.constexpr, WORK: tl.constexpr, ROW: tl.constexpr, EXACT: tl.constexpr,
               EVICT: tl.constexpr, AHEAD: tl.constexpr, PERSISTENT: tl.constexpr):  # fmt: skip
    """Losses, gradient, or both (FORWARD, BACKWARD) of z (outer, classes, inner), any strides.

    class_units, and the strides over outer and inner, count UNIT elements, which tells the compiler how rows are
    aligned. WIDE: offsets within a row need 64 bits. WORK, ROW: types of the arithmetic on logits and on rows.
    constants: as `triton_program.arguments` gives them.
    """
    tile = tl.program_id(0)
    if BY_ROW:
        _short_rows(tile, z, out, target, scale, rows, level, total, odds, inner, class_units, z_outer, z_inner,
                    z_class, out_outer, out_inner, out_class, target_outer, target_inner, scale_outer, scale_inner,
                    constants, PSI_SLOPE, FORWARD, BACKWARD, not WALK, A, V, UNIT, WIDE, WORK, ROW, EXACT)  # fmt: skip
    elif PERSISTENT:
        for turn in range(tile, tiles, tl.num_programs(0)):
            _long_row(turn, z, out, target, scale, rows, level, total, odds, inner, class_units, z_outer, z_inner,
                      z_class, out_outer, out_inner, out_class, target_outer, target_inner, scale_outer, scale_inner,
                      constants, PSI_SLOPE, FORWARD, BACKWARD, HOLD, WALK, A, V, UNIT, SHIFTED, WIDE, WORK, ROW, EXACT,
                      EVICT, AHEAD)  # fmt: skip
    else:
        _long_row(tile, z, out, target, scale, rows, level, total, odds, inner, class_units, z_outer, z_inner, z_class,
                  out_outer, out_inner, out_class, target_outer, target_inner, scale_outer, scale_inner, constants,
                  PSI_SLOPE, FORWARD, BACKWARD, HOLD, WALK, A, V, UNIT, SHIFTED, WIDE, WORK, ROW, EXACT, EVICT,
                  AHEAD)  # fmt: skip


@triton.jit
def scale_kernel(values, factor, count, SIZE: tl.constexpr, WORK: tl.constexpr):
    """values[:count] *= factor[0], unless that is 1: then nothing is read or written."""
    by = tl.load(factor).to(WORK)
    if by != 1.0:
        at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
        here = at < count
        value = tl.load(values + at, mask=here).to(WORK)
        tl.store(values + at, (value * by).to(values.dtype.element_ty), mask=here)
