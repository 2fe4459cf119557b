"""Forward and backward of each loss on the CPU, against torch's eager cross_entropy and a copy, as ratios in one run.

    python benchmarks/cross_entropy.py [--rounds 15] [--seconds 12] [--out FOLDER] [--minutes 8]
    python benchmarks/cross_entropy.py --shapes 4096x1000 --classes --without torch.compile

Prints each figure and stores in FOLDER (`benchmarks/results`) a table of some common shapes, DATE-cpu.csv, and one of
as many logits in ever fewer, longer rows, DATE-cpu-over-classes.csv with its plot. `calls.py` says what is timed;
which peers are not installed is printed and stored too.

The calls of a round are interleaved in shuffled order on fresh gradients; a figure is the median over the rounds of the
ratio within a round, with its minimum and maximum. A shape ends after so many rounds, or after so many seconds if five
rounds are done; none begins when the minutes are over. Small shapes are repeated within a step. `ratio` is to torch's
cross_entropy with the same kind of targets, `of_copy` to a copy of the logits into memory that is warm: every loss
reads them and writes as much. Losses and gradients are checked against float64 before anything is timed. A call's peak
memory is that of the process, in a step of its own from a trimmed heap. All is measured twice, with the system's
allocator as it is (a large gradient is fresh memory, and its pages are made while it is written) and with one that
keeps what was freed (MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_), as a long training run would have it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
from calls import BASELINE, COPY, OURS, PEER, PROBABILITIES, Call, JaxCall, Rows, our_calls, peers
from plot import draw
from table import finish
from torch import Tensor

from adma.torch.kernels.native import library

SHAPES = ("256x100", "4096x10", "4096x1000", "1024x32000", "2x19x512x512")
CLASSES = tuple(4**k for k in range(1, 10))
LOGITS = 1 << 22  # of each shape over the classes
LARGE = 1 << 20  # from so many logits on, bfloat16 is measured too
STEP, REPEATS = 1 << 19, 20  # a step goes through so many logits at least, by so many repeats at most
CHECKED = 1 << 20  # logits whose gradient is compared
WARM = 1  # round that warms up, after the check and the step for memory
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
F32, BF16 = torch.float32, torch.bfloat16


class Bounds(NamedTuple):
    """How far from float64 a loss (relative) and a gradient (relative to its largest entry) may be."""

    loss: float
    gradient: float


NEAR = {F32: Bounds(1e-5, 1e-5), BF16: Bounds(8e-3, 8e-3)}  # for ours
FAR = {F32: Bounds(1e-3, 1e-3), BF16: Bounds(5e-2, 5e-2)}  # for others: torch sums bfloat16 rows in bfloat16


class Inputs(NamedTuple):
    """Logits, class indices and class probabilities of one shape."""

    logits: Tensor
    indices: Tensor
    probabilities: Tensor

    @classmethod
    def draw(cls, shape: tuple[int, ...], dtype: torch.dtype) -> Inputs:
        generator = torch.Generator().manual_seed(0)
        logits = (torch.randn(shape, generator=generator) * 3).to(dtype)
        indices = torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)
        return cls(logits, indices, torch.randn(shape, generator=generator).softmax(1).to(dtype))

    def target(self, call: Call) -> Tensor:
        return self.probabilities if call.kind == PROBABILITIES else self.indices


def expected(calls: list[Call], inputs: Inputs) -> dict[Rows, tuple[float, Tensor]]:
    """In float64, by plain operators: each loss, and its gradient in the first logits, CHECKED of them."""
    wanted = {call.rows: inputs.target(call) for call in calls}
    count = inputs.indices.numel()
    some = first(inputs.logits)
    totals = dict.fromkeys(wanted, 0.0)
    with torch.no_grad():
        for start in range(0, len(inputs.logits), some):
            part = slice(start, start + some)
            z = inputs.logits[part].double()
            t = -torch.log_softmax(z, 1)
            for rows, target in wanted.items():
                totals[rows] += float(rows(z, t, _wide(target[part])).sum()) / count
    z = inputs.logits[:some].double().requires_grad_()
    t = -torch.log_softmax(z, 1)
    found = {}
    for rows, target in wanted.items():
        loss = rows(z, t, _wide(target[:some])).sum() / count
        found[rows] = totals[rows], torch.autograd.grad(loss, z, retain_graph=True)[0]
    return found


def first(logits: Tensor) -> int:
    """How many of them hold CHECKED logits, along the first dimension."""
    return max(1, min(len(logits), CHECKED * len(logits) // logits.numel()))


def _wide(target: Tensor) -> Tensor:
    return target.double() if target.is_floating_point() else target


def wrong(call: Call, inputs: Inputs, right: tuple[float, Tensor]) -> str:
    """What is wrong with a call's loss and gradient, in words; empty if nothing is."""
    loss, gradient = call.result(inputs.logits, inputs.target(call))
    bounds = (NEAR if call.maker == OURS else FAR)[inputs.logits.dtype]
    value, slope = right
    if not abs(float(loss) - value) <= bounds.loss * abs(value):
        return f"its loss is {float(loss):.8g}, not {value:.8g}"
    far = float((gradient[: len(slope)].double() - slope).abs().max() / slope.abs().max())
    return "" if far <= bounds.gradient else f"its gradient is off by {far:.2g} of the largest entry"


def checked(calls: list[Call], inputs: Inputs, missing: dict[str, str]) -> list[Call]:
    """Those whose values are right; why a peer is left out is added to `missing`.

    Raises:
        AssertionError: a loss of ours or torch's is wrong.
    """
    kept = []
    right = expected(calls, inputs)
    for call in calls:
        try:
            words = wrong(call, inputs, right[call.rows])
        except Exception as error:
            if call.maker != PEER:
                raise
            words = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if not words:
            kept.append(call)
        elif call.maker != PEER:
            raise AssertionError(f"{at(call.name, inputs)}, {call.kind}: {words}")
        else:
            missing[at(call.name, inputs)] = words
            print(f"left out: {at(call.name, inputs)}: {words}", file=sys.stderr)
    return kept


def at(name: str, inputs: Inputs) -> str:
    """A call at a shape in a type, in words."""
    return f"{name} at {'x'.join(map(str, inputs.logits.shape))} {str(inputs.logits.dtype).removeprefix('torch.')}"


def peak() -> float:
    """The process's largest resident memory since it was last asked, in MiB; NaN where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory(call: Call, inputs: Inputs) -> float:
    """MiB above what was there before a step, in one step from a heap without free pages; NaN for jax's own pool."""
    if isinstance(call, JaxCall):
        return float("nan")
    step = call.ready(inputs.logits, inputs.target(call), 1)
    with suppress(AttributeError, TypeError):  # another C library: what it holds free is not counted
        ctypes.CDLL(None).malloc_trim(0)
    peak()
    before = peak()
    with call.engine():
        step()
    return peak() - before


def measure(calls: list[Call], inputs: Inputs, rounds: int, limit: float) -> dict[Call | None, list[float]]:
    """Seconds of each call, and of a copy (None), one a round."""
    base = inputs.logits
    repeats = min(REPEATS, math.ceil(STEP / base.numel()))
    warm = torch.empty_like(base)
    seconds: dict[Call | None, list[float]] = {call: [] for call in (*calls, None)}
    begun = time.perf_counter()
    for turn in range(rounds + WARM):
        if turn >= WARM + 5 and time.perf_counter() - begun > limit:
            break
        order = list(seconds)
        random.shuffle(order)
        for call in order:
            if call is None:
                start = time.perf_counter()
                for _ in range(repeats):
                    warm.copy_(base)
                end = time.perf_counter()
            else:
                step = call.ready(base, inputs.target(call), repeats)
                with call.engine():
                    start = time.perf_counter()
                    step()
                    end = time.perf_counter()
                del step
            if turn >= WARM:
                seconds[call].append((end - start) / repeats)
    return seconds


def spread(name: str, values: list[float], others: list[float]) -> dict[str, object]:
    """Median, minimum and maximum of the ratios within a round."""
    ratios = [a / b for a, b in zip(values, others, strict=True)]
    found = {name: statistics.median(ratios), f"{name}_min": min(ratios), f"{name}_max": max(ratios)}
    return {key: float(f"{value:.4g}") for key, value in found.items()}


def table(
    allocator: str, shape: tuple[int, ...], dtype: torch.dtype, calls: list[Call], options: argparse.Namespace,
    missing: dict[str, str],
) -> list[dict[str, object]]:  # fmt: skip
    """The rows of one shape."""
    torch._dynamo.reset()  # a shape is compiled for itself
    inputs = Inputs.draw(shape, dtype)
    if allocator == "default":
        calls = checked(calls, inputs, missing)
    else:  # the same values: they have been checked
        calls = [call for call in calls if at(call.name, inputs) not in missing]
        for call in calls:
            if call.maker == PEER:  # some compile at their first call
                call.result(inputs.logits, inputs.target(call))
    mib = {call: memory(call, inputs) for call in calls}
    seconds = measure(calls, inputs, options.rounds, options.seconds)
    baselines = {call.kind: seconds[call] for call in calls if call.name == BASELINE}
    rows: list[dict[str, object]] = []
    for call, values in seconds.items():
        kind, name = (call.kind, call.name) if call is not None else ("", COPY)
        row: dict[str, object] = {
            "allocator": allocator, "type": str(dtype).removeprefix("torch."), "shape": "x".join(map(str, shape)),
            "targets": kind, "call": name, **spread("ratio", values, baselines[kind or calls[0].kind]),
            **spread("of_copy", values, seconds[None]), "milliseconds": float(f"{1e3 * statistics.median(values):.4g}"),
            "peak_mib": round(mib[call], 1) if call is not None else 0.0, "rounds": len(values),
        }  # fmt: skip
        rows.append(row)
        print(f"{allocator:<8} {row['type']:<9} {row['shape']:>14} {kind[:22]:<22} {name:<30} {row['ratio']:6.2f}  "
              f"[{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]  {row['of_copy']:6.2f} copies  "
              f"{row['milliseconds']:9.3f} ms  {row['peak_mib']:7.1f} MiB", flush=True)  # fmt: skip
    return rows


def one_allocator(allocator: str, options: argparse.Namespace, before: dict[str, str]) -> dict[str, object]:
    """All rows under one allocator, which this process has; versions of the peers; what was left out, and why.

    Args:
        before: what was left out under another allocator.
    """
    random.seed(0)
    others, versions, missing = peers()
    missing = before | missing
    for name, why in missing.items():
        if name not in before:
            print(f"left out: {name}: {why}", file=sys.stderr)
    calls = [call for call in (*our_calls(), *others) if not any(word in call.name for word in options.without)]
    work: list[tuple[str, tuple[int, ...], torch.dtype]] = []
    for shape in map(sizes, options.shapes):
        work += [("shapes", shape, dtype) for dtype in ((F32, BF16) if math.prod(shape) >= LARGE else (F32,))]
    work += [("classes", (max(1, options.logits // count), count), F32) for count in options.classes]
    found: dict[str, list[dict[str, object]]] = {"shapes": [], "classes": []}
    until = time.monotonic() + 30 * options.minutes  # half of them
    for part, shape, dtype in work:
        if time.monotonic() > until:
            missing[f"{'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')}"] = "the time was up"
            print(f"left out: {shape} {dtype}: the time is up", file=sys.stderr)
            continue
        chosen = [call for call in calls if part in call.parts]
        found[part] += table(allocator, shape, dtype, chosen, options, missing)
    return {**found, "versions": versions, "missing": missing}


def sizes(shape: str) -> tuple[int, ...]:
    return tuple(map(int, shape.split("x")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=12.0, help="of a shape's rounds, if five are done")
    parser.add_argument("--minutes", type=float, default=8.0, help="no shape begins later")
    parser.add_argument("--shapes", nargs="*", default=SHAPES, metavar="NxC", help="rows x classes [x more]")
    parser.add_argument("--classes", nargs="*", type=int, default=CLASSES, metavar="C", help="lengths of the rows")
    parser.add_argument("--logits", type=int, default=LOGITS, help="in each shape over the classes")
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="WORD", help="leave out calls with it in their name"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", metavar="FOLDER")
    parser.add_argument("--allocator", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.allocator:
        name, file = options.allocator[0], Path(options.allocator[1])
        before = json.loads(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(one_allocator(name, options, before)), encoding="utf-8")
        return
    start = time.monotonic()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, setting in (("default", {}), ("keeping", KEEPING)):
            file = Path(folder) / name
            file.write_text(json.dumps(found[0]["missing"] if found else {}), encoding="utf-8")
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--allocator", name, str(file)],
                env={**os.environ, **setting}, check=False,
            )  # fmt: skip
            if done.returncode:
                sys.exit(f"nothing is stored: the part with the allocator {name!r} failed, see above")
            found.append(json.loads(file.read_text(encoding="utf-8")))
    loaded = library.load()
    about = [loaded if isinstance(loaded, str) else f"compiled kernel: {library.SETS[loaded.number]}"]
    about += [f"{package} {version}" for package, version in found[0]["versions"].items()]
    about += [f"left out: {name} ({why})" for name, why in found[1]["missing"].items()]
    about.append(f"{(time.monotonic() - start) / 60:.1f} minutes")
    options.out.mkdir(parents=True, exist_ok=True)
    for part, suffix in (("shapes", "cpu"), ("classes", "cpu-over-classes")):
        rows = found[0][part] + found[1][part]
        if rows:
            path = options.out / f"{date.today()}-{suffix}.csv"
            finish(rows, path, *about)
            print(f"table: {path}")
            if part == "classes":
                draw(path, path.with_suffix(".png"))
                print(f"plot: {path.with_suffix('.png')}")


if __name__ == "__main__":
    main()
