"""The kernel for long rows: several programs share a row, keep their parts in registers, and meet once.

A row of 128,256 logits fits no program's registers, and reading it a second time costs more than the cache gives: two
rows a multiprocessor are more than it holds. Here each program reads one part of a row, says its part's maximum and sum
of exponentials, waits until all parts of the row have said theirs, and writes its part of the gradient from what it
holds: the logits are read once, the gradient is written once.

Waiting works only if all parts of a row are under way at once. So the grid is no larger than what the device runs at a
time (a cooperative launch, which fails otherwise), and parts are taken in order by all programs.

It compiles for sm_90 and passes in the interpreter, but has not run on a GPU: no default plan asks for it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from adma.torch.kernels.triton_kernels import LOWEST, LOWEST_64, loss_terms, rate_of, row_terms
from adma.torch.kernels.triton_math import exp_gap


@triton.jit
def _part(tile, z, out, target, scale, rows, tops, sums, arrived, class_units, z_row, out_row, target_row, scale_row,
          constants, PSI_SLOPE: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr, A: tl.constexpr,
          V: tl.constexpr, UNIT: tl.constexpr, WORK: tl.constexpr, ROW: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    classes = class_units * UNIT
    lowest: tl.constexpr = LOWEST_64 if tl.float64 == WORK else LOWEST
    part_of = tl.arange(0, WIDTH)
    row = tile // PARTS + tl.program_id(0).to(tl.int64) * 0  # wide, of an int too: the interpreter has one here
    part = tile % PARTS
    y = tl.load(target + row * target_row).to(tl.int32)
    share = tl.load(scale + row * scale_row)
    counts = share != 0
    limit = tl.where(counts, classes, 0)  # a row that does not count is not read
    place = tl.where(y >= 0, tl.where(y < classes, y, 0), 0)
    true_logit = tl.load(z + row * z_row * UNIT + place).to(ROW)
    true_logit = tl.where(place == y, true_logit, float("nan"))
    c = part * (A * V) + tl.arange(0, A)[:, None] * V + tl.arange(0, V)[None, :]
    x = tl.load(z + row * z_row * UNIT + c, mask=c < limit, other=float("-inf"), eviction_policy="evict_first")
    x = tl.where(c == y, float("-inf"), x.to(WORK))
    top = tl.max(tl.maximum(tl.max(x, axis=1), lowest), axis=0)
    e = exp_gap(x, top, EXACT)
    tl.store(tops + tile, top)
    tl.store(sums + tile, tl.sum(tl.sum(e, axis=1), axis=0))
    tl.debug_barrier()
    tl.atomic_add(arrived + row, 1, sem="release", scope="gpu")
    while tl.atomic_add(arrived + row, 0, sem="acquire", scope="gpu") < PARTS:
        pass
    known = part_of < PARTS
    all_tops = tl.load(tops + row * PARTS + part_of, mask=known, other=lowest, cache_modifier=".cg")
    all_sums = tl.load(sums + row * PARTS + part_of, mask=known, other=0.0, cache_modifier=".cg")
    highest = tl.max(all_tops, axis=0)
    total = tl.sum(all_sums * exp_gap(all_tops, highest, EXACT), axis=0).to(ROW)
    u = row_terms(highest.to(ROW), total, true_logit)
    psi, slope, rest = loss_terms(u, constants, PSI_SLOPE)
    weight = tl.where(counts, share.to(ROW) * slope * rest, 0.0)
    rate = rate_of(weight, total).to(WORK)
    rate = rate * exp_gap(top, highest, EXACT)
    if part == 0:
        tl.store(rows + row, tl.where(counts, psi, 0.0).to(rows.dtype.element_ty))
    value = tl.where(c == y, -weight.to(WORK), e * rate)
    tl.store(
        out + row * out_row * UNIT + c, value.to(out.dtype.element_ty), mask=c < classes,
        eviction_policy="evict_first",
    )  # fmt: skip


@triton.jit(do_not_specialize=["constants"])
def split_kernel(z, out, target, scale, rows, tops, sums, arrived, tiles, class_units, z_row, out_row,
                 target_row, scale_row, constants,
                 PSI_SLOPE: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr, A: tl.constexpr, V: tl.constexpr,
                 UNIT: tl.constexpr, WORK: tl.constexpr, ROW: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    """Losses and gradient of z (rows, classes), classes side by side in z and out.

    tops, sums: (rows, PARTS), scratch. arrived: (rows), int32, 0 at the start. tiles: rows * PARTS; the grid divides by
    PARTS. class_units, z_row, out_row: in UNIT elements. WIDTH: the power of two that is not less than PARTS.
    """
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        _part(tile, z, out, target, scale, rows, tops, sums, arrived, class_units, z_row, out_row, target_row,
              scale_row, constants, PSI_SLOPE, PARTS, WIDTH, A, V, UNIT, WORK, ROW, EXACT)  # fmt: skip
