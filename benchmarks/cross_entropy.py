"""Forward and backward of each loss against eager torch.nn.functional.cross_entropy, as ratios in one run.

    python benchmarks/cross_entropy.py [--rounds 15] [--out benchmarks/results/NAME.csv]

The calls of a round are interleaved in shuffled order on fresh gradients; a figure is the median over the rounds
of the ratio within a round, with its minimum and maximum. Values are checked before anything is timed.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
import time
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F

import adma
from adma import functional as AF
from adma.bench import environment

SHAPES = ((256, 100), (4096, 10), (4096, 1000), (1024, 32000))
LOSSES = ("cce", "adma:a=0.26", "gce:q=0.7", "focal:gamma=2.0")


def paper_formula(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The paper's equation 5 as written, on softmax probabilities."""
    p = torch.softmax(logits, 1).gather(1, target[:, None])
    return (torch.e - torch.exp(p**0.26)).mean()


def calls() -> dict[str, object]:
    found: dict[str, object] = {"torch cross_entropy": F.cross_entropy}
    for spec in LOSSES:
        found[f"adma {spec}"] = adma.make_loss(spec)
    found["paper's formula"] = paper_formula
    return found


def check(shape: tuple[int, int]) -> None:
    logits, target = torch.randn(shape), torch.randint(shape[1], shape[:1])
    torch.testing.assert_close(AF.cross_entropy(logits, target), F.cross_entropy(logits, target))
    torch.testing.assert_close(AF.adma_loss(logits, target), paper_formula(logits, target), rtol=1e-4, atol=1e-5)


def measure(shape: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, one a round."""
    functions = calls()
    base, target = torch.randn(shape) * 3, torch.randint(shape[1], shape[:1])
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 3):
        names = list(functions)
        random.shuffle(names)
        for name in names:
            logits = base.clone().requires_grad_()
            start = time.perf_counter()
            functions[name](logits, target).backward()  # type: ignore[operator]
            if turn >= 3:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    rows = []
    for shape in SHAPES:
        check(shape)
        seconds = measure(shape, options.rounds)
        reference = seconds["torch cross_entropy"]
        for name, values in seconds.items():
            ratios = [a / b for a, b in zip(values, reference, strict=True)]
            row = {
                "rows": shape[0],
                "classes": shape[1],
                "call": name,
                "ratio": round(statistics.median(ratios), 3),
                "min": round(min(ratios), 3),
                "max": round(max(ratios), 3),
                "milliseconds": round(1e3 * statistics.median(values), 3),
                "rounds": options.rounds,
            }
            rows.append(row)
            print(f"{shape!s:>14} {name:<22} {row['ratio']:6.2f}  [{row['min']:.2f}, {row['max']:.2f}]  "
                  f"{row['milliseconds']:9.3f} ms", flush=True)  # fmt: skip
    hardware = environment.hardware("cpu")
    about = f"{date.today()}; {hardware['processor']}, {hardware['cores']} cores; torch {torch.__version__}; "
    about += f"{torch.get_num_threads()} threads; float32; python {sys.version.split()[0]}"
    print(about)
    if options.out:
        with options.out.open("w", newline="") as file:
            file.write(f"# {about}; python benchmarks/cross_entropy.py --rounds {options.rounds}\n")
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
