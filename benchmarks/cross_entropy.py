"""Forward and backward of each loss against eager torch.nn.functional.cross_entropy, as ratios in one run.

    python benchmarks/cross_entropy.py [--rounds 15] [--seconds 25] [--out benchmarks/results/NAME.csv]

The calls of a round are interleaved in shuffled order on fresh gradients; a figure is the median over the rounds of
the ratio within a round, with its minimum and maximum; a shape ends after so many rounds, or after so many seconds if
five rounds are done. Values are checked before anything is timed. The floor is a
copy of the logits into memory that is warm: every loss reads them and writes as much. All is measured twice, with the
system's allocator as it is (a large gradient is fresh memory, and its pages are made while it is written) and with one
that keeps what was freed (MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_), as a long training run would have it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from table import finish
from torch import Tensor

import adma
from adma import functional as AF
from adma.torch.kernels import native
from adma.torch.kernels.native import library

SHAPES = ((256, 100), (4096, 10), (4096, 1000), (1024, 32000), (2, 19, 512, 512))
HALF_SHAPES = ((4096, 1000), (1024, 32000), (2, 19, 512, 512))
LOSSES = ("cce", "adma:a=0.26", "gce:q=0.7", "focal:gamma=2.0")
REFERENCE = "torch cross_entropy"
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
COLUMNS = ("allocator", "type", "shape", "call", "ratio", "min", "max", "milliseconds", "peak_mib", "rounds")

Call = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def eager_engine() -> Iterator[None]:
    """Without the compiled kernel."""
    with mock.patch.object(native, "load", return_value="left out by the benchmark"):
        yield


def paper_formula(logits: Tensor, target: Tensor) -> Tensor:
    """The paper's equation 5 as written, on softmax probabilities."""
    p = torch.softmax(logits, 1).gather(1, target.unsqueeze(1))
    return (torch.e - torch.exp(p**0.26)).mean()


def calls() -> dict[str, Call]:
    found: dict[str, Call] = {REFERENCE: F.cross_entropy}
    for spec in LOSSES:
        found[f"adma {spec}"] = adma.make_loss(spec)
    found["adma:a=0.26 in place"] = adma.AdmaLoss(inplace=True)
    found["adma:a=0.26 eager engine"] = adma.AdmaLoss()
    found["paper's formula"] = paper_formula
    return found


def check(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    rest = (shape[0], *shape[2:])
    logits, target = torch.randn(shape).to(dtype), torch.randint(shape[1], rest)
    near = {} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-3}
    wide = logits.float()  # torch sums bfloat16 rows in bfloat16
    torch.testing.assert_close(AF.cross_entropy(logits, target).float(), F.cross_entropy(wide, target), **near)
    far = near or {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(AF.adma_loss(logits, target).float(), paper_formula(wide, target), **far)
    with eager_engine():
        expected = AF.adma_loss(logits, target)
    torch.testing.assert_close(AF.adma_loss(logits, target), expected, **near)


def peak() -> float:
    """The process's largest resident memory since it was last asked, in MiB; NaN where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return float("nan")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def step(call: Call, name: str, base: Tensor, target: Tensor) -> tuple[float, float]:
    """Seconds of forward and backward, and MiB above what was there before."""
    leaf = base.clone().requires_grad_()
    # in place, the logits are a layer's output: here a view's, which costs nothing
    logits = _Through.apply(leaf) if name.endswith("in place") else leaf
    peak()
    before = peak()
    start = time.perf_counter()
    call(logits, target).backward()
    seconds = time.perf_counter() - start
    return seconds, peak() - before


class _Through(torch.autograd.Function):
    """The leaf's memory as the output of an operation."""

    @staticmethod
    def forward(ctx: object, leaf: Tensor) -> Tensor:
        return leaf.detach()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


def measure(
    shape: tuple[int, ...], dtype: torch.dtype, rounds: int, limit: float
) -> dict[str, list[tuple[float, float]]]:
    """Seconds and MiB of each call, one a round; and seconds of a warm copy."""
    functions = calls()
    base = (torch.randn(shape) * 3).to(dtype)
    target, warm = torch.randint(shape[1], (shape[0], *shape[2:])), torch.empty_like(base)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in [*functions, "floor: warm copy"]}
    begun = time.perf_counter()
    for turn in range(rounds + 3):
        if turn >= 8 and time.perf_counter() - begun > limit:
            break
        names = list(found)
        random.shuffle(names)
        for name in names:
            if name not in functions:
                start = time.perf_counter()
                warm.copy_(base)
                result = time.perf_counter() - start, 0.0
            elif name.endswith("eager engine"):
                with eager_engine():
                    result = step(functions[name], name, base, target)
            else:
                result = step(functions[name], name, base, target)
            if turn >= 3:  # the first rounds warm up
                found[name].append(result)
    return found


def table(allocator: str, rounds: int, limit: float) -> list[dict[str, object]]:
    random.seed(0)
    torch.manual_seed(0)
    rows: list[dict[str, object]] = []
    for dtype, shapes in ((torch.float32, SHAPES), (torch.bfloat16, HALF_SHAPES)):
        for shape in shapes:
            check(shape, dtype)
            found = measure(shape, dtype, rounds, limit)
            for name, values in found.items():
                ratios = [a / b for (a, _), (b, _) in zip(values, found[REFERENCE], strict=True)]
                seconds, mib = zip(*values, strict=True)
                kind = str(dtype).removeprefix("torch.")
                row = dict(zip(COLUMNS, (
                    allocator, kind, "x".join(map(str, shape)), name, round(statistics.median(ratios), 3),
                    round(min(ratios), 3), round(max(ratios), 3), round(1e3 * statistics.median(seconds), 3),
                    round(statistics.median(mib), 1), len(values),
                ), strict=True))  # fmt: skip
                rows.append(row)
                print(f"{allocator:<8} {kind:<9} {row['shape']:>14} {name:<25} {row['ratio']:6.2f}  [{row['min']:.2f}, "
                      f"{row['max']:.2f}]  {row['milliseconds']:9.3f} ms  {row['peak_mib']:7.1f} MiB",
                      file=sys.stderr, flush=True)  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=25.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=("default", "keeping"), help="one allocator; its rows as JSON to stdout")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(table(options.only, options.rounds, options.seconds)))
        return
    rows: list[dict[str, object]] = []
    for allocator, setting in (("default", {}), ("keeping", KEEPING)):
        done = subprocess.run(
            [sys.executable, __file__, "--only", allocator, "--rounds", str(options.rounds),
             "--seconds", str(options.seconds)],
            env={**os.environ, **setting}, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        rows += json.loads(done.stdout)
    loaded = library.load()
    kernel = loaded if isinstance(loaded, str) else f"compiled kernel: {library.SETS[loaded.number]}"
    finish(rows, options.out, kernel)


if __name__ == "__main__":
    main()
