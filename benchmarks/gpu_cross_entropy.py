"""Loss and gradient by the Triton kernel, as shares of the GPU's own copy bandwidth, beside torch's cross-entropy.

    python benchmarks/gpu_cross_entropy.py [--seconds 120] [--compiled] [--out benchmarks/results/NAME.csv]
    python benchmarks/gpu_cross_entropy.py --sweep [--seconds 120]

The floor is a copy of as many bytes (the logits read once, the gradient written once), measured in the same round. The
calls of a round are interleaved in shuffled order, each on the next of several buffers, so that no call finds its
logits in the cache. A figure is the median over the rounds, with minimum and maximum. Values are checked against
float64 before anything is timed. `--sweep` times candidates for the launch plans instead.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from table import finish

import adma
from adma.torch.kernels import eager
from adma.torch.kernels import triton as kernels
from adma.torch.kernels.program import program_of
from adma.torch.kernels.triton import Plan

BF16, F32 = torch.bfloat16, torch.float32
# (rows, classes, type)
SHAPES = (
    (8192, 128256, BF16), (32768, 4096, BF16), (16384, 8192, BF16), (16384, 16384, BF16), (8192, 32768, BF16),
    (4096, 262144, BF16), (8192, 50257, BF16), (131072, 1000, BF16), (8192, 32000, F32), (32768, 4096, F32),
    (4096, 128256, F32), (16384, 10000, F32), (1048576, 100, F32), (1048576, 10, F32),
)  # fmt: skip
SPECS = ("cce", "adma:a=0.26", "gce:q=0.7", "focal:gamma=2.0")
DISTINCT = 256 << 20  # bytes that the buffers of a call span together: several times an H200's L2 cache


def candidates(classes: int, itemsize: int) -> list[Plan]:
    """Plans worth a try for rows of this length."""
    vector, width = 16 // itemsize, 1 << (classes - 1).bit_length()
    found = []
    if classes <= 512:
        for lanes, warps in ((32, 1), (128, 4), (256, 4)):
            found.append(Plan(True, lanes, min(vector, classes & -classes), warps))
    if classes <= 1024:
        for total, warps in ((1024, 2), (2048, 4), (4096, 8)):
            if total >= width:
                found.append(Plan(True, total // width, width, warps))
    if classes > 512 and width * itemsize <= 65536:
        for warps in (1, 2, 4, 8, 16):
            if 8 <= width // (32 * warps) <= 32:
                found.append(Plan(False, 32, vector, warps, hold=width // vector))
    if classes > 8192:
        for warps, unroll, hold, ahead in (
            (32, 1, 0, True), (32, 1, 0, False), (32, 2, 0, True), (16, 1, 0, True), (16, 2, 0, True), (8, 2, 0, True),
            (32, 2, 2048, True), (32, 1, 4096, True), (8, 2, 1024, True),
        ):  # fmt: skip
            if (warps * 32 * unroll + hold) * vector <= width:
                found.append(Plan(False, 32 * warps * unroll, vector, warps, hold, ahead=ahead))
    return found


def shared_candidates(itemsize: int) -> list[Plan]:
    """Plans whose programs share a row, by the classes of a part, warps, and programs a multiprocessor."""
    vector = 16 // itemsize
    # residents: what the registers of an H100 or H200 allow
    half = ((8192, 4, 4), (4096, 4, 5), (4096, 8, 4), (8192, 8, 2), (8192, 4, 3), (2048, 4, 8), (4096, 4, 4))
    whole = ((4096, 4, 4), (4096, 8, 2), (2048, 4, 7), (2048, 8, 4), (4096, 4, 3), (2048, 4, 6))
    return [
        Plan(False, width // vector, vector, warps, resident=resident, shared=True)
        for width, warps, resident in (half if itemsize == 2 else whole)
    ]


class Case:
    """One shape's buffers and calls."""

    def __init__(self, rows: int, classes: int, dtype: torch.dtype) -> None:
        self.rows, self.classes, self.dtype = rows, classes, dtype
        self.bytes = rows * classes * dtype.itemsize
        generator = torch.Generator("cuda").manual_seed(0)
        count = max(1, min(16, -(-DISTINCT // self.bytes))) if rows > 64 else 1
        self.logits = [torch.empty(rows, classes, dtype=dtype, device="cuda") for _ in range(count)]
        for z in self.logits:
            z.normal_(0, 3, generator=generator)
        self.target = torch.randint(classes, (rows,), device="cuda", generator=generator)
        self.out = torch.empty_like(self.logits[0])
        self.scale = torch.full((rows, 1), 1 / rows, dtype=torch.float64, device="cuda")
        self.turn = 0

    def next(self) -> torch.Tensor:
        self.turn += 1
        return self.logits[self.turn % len(self.logits)]

    def copy(self) -> None:
        self.out.copy_(self.next())

    def fused(self, spec: str, plan: Plan | None = None, in_place: bool = False) -> Callable[[], object]:
        program = program_of(adma.make_loss(spec).member)
        assert program is not None

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            z, y = self.next().unsqueeze(2), self.target.unsqueeze(1)
            out = z if in_place else self.out.unsqueeze(2)
            return kernels.rows_and_gradient(z, y, program, self.scale, out=out, plan=plan)

        return call

    def peer(self, function: Callable[..., torch.Tensor]) -> Callable[[], object]:
        def call() -> None:
            z = self.next().requires_grad_()
            function(z, self.target).backward()
            z.grad = None
            z.requires_grad_(False)

        return call

    def check(self, spec: str, plan: Plan | None = None) -> None:
        """The first and last rows against the eager engine in float64."""
        rows, gradient = self.fused(spec, plan)()  # type: ignore[misc]
        z = self.logits[self.turn % len(self.logits)]
        for part in (slice(0, 16), slice(self.rows - 16, self.rows)):
            exact, slope = eager.rows_and_gradient(
                z[part].double().unsqueeze(2), self.target[part].unsqueeze(1), adma.make_loss(spec).member,
                self.scale[part],
            )  # fmt: skip
            half = self.dtype != F32
            torch.testing.assert_close(rows[part], exact, rtol=1e-4 if half else 1e-6, atol=1e-6 if half else 0)
            torch.testing.assert_close(gradient[part].double(), slope, rtol=8e-3 if half else 2e-6, atol=1e-37)


def measure(calls: dict[str, Callable[[], object]], rounds: int, until: float) -> dict[str, list[float]]:
    """Milliseconds of each call, one a round; fewer rounds, but three, when the time is up."""
    for call in calls.values():
        call()
    torch.cuda.synchronize()
    seen: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        if turn >= 3 and time.monotonic() > until:
            break
        names = list(calls)
        random.shuffle(names)
        marks = {}
        torch.cuda._sleep(2_000_000)  # a millisecond, in which the launches below are queued
        for name in names:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            calls[name]()
            end.record()
            marks[name] = start, end
        torch.cuda.synchronize()
        for name, (start, end) in marks.items():
            seen[name].append(start.elapsed_time(end))
    return seen


def peak(call: Callable[[], object]) -> float:
    """MiB that a call needs above what is there."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def benchmark(options: argparse.Namespace, start: float) -> list[dict[str, object]]:
    table = []
    shapes = [shape for shape in SHAPES if not options.classes or shape[1] in options.classes]
    for index, (rows, classes, dtype) in enumerate(shapes):
        if time.monotonic() - start > options.seconds:
            print(f"time is up: {len(shapes) - index} shapes left out")
            break
        case = Case(rows, classes, dtype)
        for spec in SPECS:
            case.check(spec)
        calls: dict[str, Callable[[], object]] = {"copy": case.copy, "torch cross_entropy": case.peer(F.cross_entropy)}
        if options.compiled:
            calls["torch.compile cross_entropy"] = case.peer(torch.compile(F.cross_entropy))
        calls.update({spec: case.fused(spec) for spec in SPECS})
        if options.in_place:
            calls["cce in place"] = case.fused("cce", in_place=True)
        memory = {name: peak(call) for name, call in calls.items()}
        seen = measure(calls, options.rounds, start + options.seconds)
        for name, values in seen.items():
            share = [c / v for c, v in zip(seen["copy"], values, strict=True)]
            ratio = [v / t for v, t in zip(values, seen["torch cross_entropy"], strict=True)]
            row: dict[str, object] = {"rows": rows, "classes": classes, "type": str(dtype)[6:], "call": name}
            for key, found, digits in (("ms", values, 4), ("of_copy", share, 3), ("to_torch", ratio, 3)):
                row[key] = round(statistics.median(found), digits)
                row[f"{key}_min"], row[f"{key}_max"] = round(min(found), digits), round(max(found), digits)
            row["gb_per_s"] = round(2 * case.bytes / statistics.median(values) / 1e6)
            row["peak_mib"] = round(memory[name], 1)
            row["rounds"] = len(values)
            table.append(row)
            print(f"{rows:>8} {classes:>7} {row['type']:>9} {name:<28} {row['ms']:8.3f} ms [{row['ms_min']:.3f}, "
                  f"{row['ms_max']:.3f}]  {100 * float(str(row['of_copy'])):5.1f}% of copy  {row['to_torch']:6.3f} of "
                  f"torch  {row['gb_per_s']} GB/s  {row['peak_mib']} MiB", flush=True)  # fmt: skip
        del case, calls
        torch.cuda.empty_cache()
    return table


SWEPT = (
    (8192, 128256, BF16), (4096, 262144, BF16), (8192, 32768, BF16), (4096, 128256, F32), (8192, 32000, F32),
    (16384, 16384, BF16), (32768, 4096, BF16), (16384, 8192, BF16), (32768, 4096, F32), (131072, 1000, BF16),
    (1048576, 100, F32), (1048576, 10, F32),
)  # fmt: skip


def plans_for(options: argparse.Namespace, classes: int, dtype: torch.dtype) -> list[Plan]:
    """The default plan and the candidates."""
    others = shared_candidates(dtype.itemsize) if options.shared else candidates(classes, dtype.itemsize)
    return [kernels.plan(classes, 1 << 15, True, dtype.itemsize), *others]


def row_of(case: Case, call: str, plan: object, copies: list[float], values: list[float]) -> dict[str, object]:
    """A line of the sweep's table, printed too."""
    share = [c / v for c, v in zip(copies, values, strict=True)]
    row: dict[str, object] = {
        "rows": case.rows, "classes": case.classes, "type": str(case.dtype)[6:], "call": call, "plan": str(plan),
        "ms": round(statistics.median(values), 4), "of_copy": round(statistics.median(share), 3),
        "of_copy_min": round(min(share), 3), "of_copy_max": round(max(share), 3), "rounds": len(share),
    }  # fmt: skip
    print(" ".join(str(v) for v in row.values()), flush=True)
    return row


def sweep(options: argparse.Namespace, start: float) -> list[dict[str, object]]:
    """Every plan with one member; then, by the best plan, the others and torch's cross-entropy."""
    table: list[dict[str, object]] = []
    for rows, classes, dtype in SWEPT[: 6 if options.shared else None]:
        case = Case(rows, classes, dtype)

        best: tuple[float, Plan] | None = None
        for plan in plans_for(options, classes, dtype):
            if time.monotonic() - start > options.seconds:
                print("time is up")
                return table
            try:
                case.check(SPECS[1], plan)
                seen = measure({"copy": case.copy, "fused": case.fused(SPECS[1], plan)}, 11, start + options.seconds)
            except Exception as error:  # a plan that does not fit the device is a result too
                print(f"  {plan}: {type(error).__name__}: {str(error)[:200]}", flush=True)
                continue
            table.append(row_of(case, SPECS[1], plan, seen["copy"], seen["fused"]))
            share = statistics.median(c / v for c, v in zip(seen["copy"], seen["fused"], strict=True))
            if best is None or share > best[0]:
                best = share, plan
        if best is not None:
            calls = {"copy": case.copy, "torch cross_entropy": case.peer(F.cross_entropy)}
            calls |= {spec: case.fused(spec, best[1]) for spec in SPECS[:2]}
            seen = measure(calls, 15, start + options.seconds)
            for name in list(calls)[1:]:
                table.append(row_of(case, name, best[1] if name in SPECS else "", seen["copy"], seen[name]))
        del case
        torch.cuda.empty_cache()
    return table


def precompile(options: argparse.Namespace) -> None:
    """Fill Triton's cache with a share of the kernels that will be wanted: shares can be filled side by side."""
    mine, count = map(int, options.precompile.split("/"))
    jobs: list[tuple[int, torch.dtype, str, Plan | None]] = []
    if options.sweep:
        for _, classes, dtype in SWEPT[: 6 if options.shared else None]:
            jobs += [(classes, dtype, SPECS[1], plan) for plan in plans_for(options, classes, dtype)]
    else:
        for _, classes, dtype in SHAPES:
            if not options.classes or classes in options.classes:
                jobs += [(classes, dtype, spec, None) for spec in SPECS]
    for classes, dtype, spec, plan in jobs[mine::count]:
        try:
            Case(64, classes, dtype).fused(spec, plan)()
        except Exception as error:
            print(f"  {classes} {plan}: {type(error).__name__}: {str(error)[:200]}", flush=True)
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=120, help="start no shape after it")
    parser.add_argument("--compiled", action="store_true", help="torch.compile of cross-entropy too")
    parser.add_argument("--in-place", action="store_true", help="the gradient over the logits too")
    parser.add_argument("--sweep", action="store_true", help="time candidate plans instead")
    parser.add_argument("--shared", action="store_true", help="with --sweep: plans whose programs share a row")
    parser.add_argument("--precompile", metavar="I/N", help="compile share I of N of the kernels, time nothing")
    parser.add_argument("--classes", type=int, nargs="+", help="without --sweep: rows of these lengths alone")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    random.seed(0)
    start = time.monotonic()
    import triton

    if options.precompile:
        precompile(options)
        return
    table = sweep(options, start) if options.sweep else benchmark(options, start)
    finish(table, options.out, f"triton {triton.__version__}", device="cuda")


if __name__ == "__main__":
    main()
