"""The last layer and the loss together, forward and backward, against the three bare matrix products.

    python benchmarks/linear_loss.py [--rounds 7] [--out benchmarks/results/NAME.csv]
    python benchmarks/linear_loss.py --device cuda --dtype bfloat16 --shape 8192x4096x131072

The calls of a round are interleaved in shuffled order; a figure is the median over the rounds of the ratio to the bare
products within a round, with its minimum and maximum. Each call's peak memory above the gradients is measured in a
process of its own, on the CPU as the process's resident memory. Losses and gradients are checked before anything is
timed. torch's own linear_cross_entropy is shown at the chunk size that was fastest here; peers where they are
installed: Liger-Kernel, cut-cross-entropy. "kernel" is the share of a call that adma's row kernel took (CPU only).
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from table import finish
from torch import nn

from adma import functional as AF
from adma.torch import linear_walk

Call = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
REFERENCE = "three bare products"
TORCH = "torch linear_cross_entropy"


def products(x: torch.Tensor, w: torch.Tensor, y: torch.Tensor) -> None:
    """What no way of computing this can leave out; the logits whole."""
    with torch.no_grad():
        z = x @ w.t()
        x.grad, w.grad = z @ w, z.t() @ x


def backward(loss: Callable[..., torch.Tensor]) -> Call:
    def call(x: torch.Tensor, w: torch.Tensor, y: torch.Tensor) -> None:
        loss(x, w, y).backward()

    return call


def calls(rows: int) -> dict[str, Call]:
    found = {
        REFERENCE: products,
        "linear + F.cross_entropy": backward(lambda x, w, y: F.cross_entropy(F.linear(x, w), y)),
        "linear + adma:a=0.26": backward(lambda x, w, y: AF.adma_loss(F.linear(x, w), y)),
        "adma linear_cross_entropy": backward(AF.linear_cross_entropy),
        "adma linear_adma_loss": backward(AF.linear_adma_loss),
    }
    if hasattr(F, "linear_cross_entropy"):
        sizes = {size for size in (rows, 4096, 1024, 512, 256) if size <= rows}
        for size in sorted(sizes):
            found[f"{TORCH} {size}"] = backward(torch_chunked(size))
    if importlib.util.find_spec("liger_kernel"):
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy as liger

        found["Liger"] = backward(lambda x, w, y: first(liger(x, w, y)))
    if importlib.util.find_spec("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy as cut

        found["cut-cross-entropy"] = backward(lambda x, w, y: cut(x, w, y))
    return found


def torch_chunked(size: int) -> Callable[..., torch.Tensor]:
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=size)
    return lambda x, w, y: F.linear_cross_entropy(x, w, y, options=options)


def first(result: object) -> torch.Tensor:
    return result[0] if isinstance(result, tuple) else result  # type: ignore[return-value]


def data(options: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n, h, c = map(int, options.shape.split("x"))
    torch.manual_seed(0)
    place = {"device": options.device, "dtype": getattr(torch, options.dtype)}
    x = torch.randn(n, h, **place).requires_grad_()
    w = torch.randn(c, h, **place).mul_(h**-0.5).requires_grad_()
    return x, w, torch.randint(c, (n,), device=options.device)


def check() -> None:
    """Every loss agrees with the separate layers on a small case, in float64 and in both gradients."""
    x = torch.randn(60, 16, dtype=torch.float64, requires_grad=True)
    w = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    y = torch.randint(50, (60,))
    pairs = [(AF.linear_cross_entropy, F.cross_entropy), (AF.linear_adma_loss, AF.adma_loss)]
    if hasattr(F, "linear_cross_entropy"):
        pairs.append((torch_chunked(7), F.cross_entropy))
    for ours, separate in pairs:
        found, expected = ours(x, w, y), separate(F.linear(x, w), y)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, (x, w)), torch.autograd.grad(expected, (x, w)))


def settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(options: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each call, one a round; and those in adma's row kernel, where the call waits for it."""
    x, w, y = data(options)
    functions = calls(x.shape[0])
    inside = 0.0
    kernel = linear_walk.rows_and_gradient

    def timed(*given: object, **more: object) -> object:
        nonlocal inside
        start = time.perf_counter()
        result = kernel(*given, **more)  # type: ignore[arg-type]
        inside += time.perf_counter() - start
        return result

    if options.device == "cpu":
        linear_walk.rows_and_gradient = timed  # type: ignore[assignment]
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    rows: dict[str, list[float]] = {name: [] for name in functions}
    warm = 1 if options.device == "cpu" else 3
    for turn in range(options.rounds + warm):
        names = list(functions)
        random.shuffle(names)
        for name in names:
            x.grad = w.grad = None
            inside = 0.0
            settle(options.device)
            start = time.perf_counter()
            functions[name](x, w, y)
            settle(options.device)
            if turn >= warm:
                seconds[name].append(time.perf_counter() - start)
                rows[name].append(inside)
    return seconds, rows


def resident(key: str) -> float:
    """MiB of this process, now (VmRSS) or at its peak (VmHWM)."""
    found = re.search(key + r":\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else float("nan")


def peak(options: argparse.Namespace) -> float:
    """MiB that one call takes at its peak beyond its inputs and its gradients, in this process."""
    x, w, y = data(options)
    call = calls(x.shape[0])[options.peak_of]
    gradients = (x.numel() * x.itemsize + w.numel() * w.itemsize) / 2**20
    small = [x[:64].detach().requires_grad_(), w[:64].detach().requires_grad_(), y[:64] % 64]
    calls(64).get(options.peak_of, call)(*small)  # what is loaded at the first call is not the call's
    if options.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call(x, w, y)
        return (torch.cuda.max_memory_allocated() - before) / 2**20 - gradients
    before = resident("VmRSS")
    call(x, w, y)
    return resident("VmHWM") - before - gradients


def peak_elsewhere(name: str, options: argparse.Namespace) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--peak-of", name, "--shape", options.shape, "--dtype", options.dtype,
         "--device", options.device, "--threads", str(options.threads)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return float(done.stdout) if done.returncode == 0 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shape", default="2048x768x32000", help="rows x features x classes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak-of", help="measure one call's memory in this process, and print it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print(peak(options))
        return
    random.seed(0)
    check()
    seconds, rows = measure(options)
    chunked = {n: statistics.median(v) for n, v in seconds.items() if n.startswith(TORCH)}
    best = min(chunked, key=chunked.__getitem__, default=None)
    table = []
    for name, values in seconds.items():
        if name in chunked and name != best:
            continue
        reference = seconds[REFERENCE]
        ratios = [a / b for a, b in zip(values, reference, strict=True)]
        kernel = [a / b for a, b in zip(rows[name], reference, strict=True)]
        row = {
            "call": name,
            "ratio": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
            "kernel": round(statistics.median(kernel), 3),
            "milliseconds": round(1e3 * statistics.median(values), 2),
            "mib_above_gradients": round(peak_elsewhere(name, options), 1),
            "rounds": options.rounds,
        }
        table.append(row)
        print(f"{name:<32} {row['ratio']:6.3f}  [{row['min']:.3f}, {row['max']:.3f}]  kernel {row['kernel']:.3f}  "
              f"{row['milliseconds']:10.2f} ms  {row['mib_above_gradients']:8.1f} MiB", flush=True)  # fmt: skip
    finish(table, options.out, f"{options.shape} {options.dtype}", device=options.device)


if __name__ == "__main__":
    main()
