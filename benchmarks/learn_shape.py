"""What learning a loss's shape costs: training with a `ShapeTuner` against the same training without, in one run.

    python benchmarks/learn_shape.py [--rounds 9] [--settings mlp:1x28x28 ...] [--out FILE.csv]

A round trains both for the same number of steps (a multiple of `every`, so that every step of the shape is counted),
in shuffled order, warm; a figure is the median over the rounds of the ratio within a round, with minimum and maximum.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from table import finish

import adma
from adma.bench.models import build_model

BATCH, EVERY = 64, 16  # the defaults of the bench and of the tuner
SETTINGS = ("mlp:1x28x28", "convnet:1x8x8", "convnet:1x28x28", "convnet:3x32x32")  # network:images


def training(model: str, shape: tuple[int, ...], product: str | None) -> Callable[[], None]:
    """A function that trains for EVERY steps; with a tuner if `product` is given."""
    torch.manual_seed(0)
    network = build_model(model, shape, 10)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    loss_fn = adma.AdmaLoss(a=0.2)
    x, y = torch.randn(BATCH * (EVERY + 4), *shape), torch.randint(10, (BATCH * (EVERY + 4),))
    tuner = None
    if product is not None:
        held_out = (x[: 4 * BATCH], y[: 4 * BATCH])
        tuner = adma.flex.ShapeTuner(loss_fn, network, optimizer, held_out, every=EVERY, product=product)
    batches = list(zip(x.split(BATCH)[4:], y.split(BATCH)[4:], strict=True))

    def run() -> None:
        network.train()
        for inputs, target in batches:
            optimizer.zero_grad()
            loss_fn(network(inputs), target).backward()
            optimizer.step()
            if tuner is not None:
                tuner.step(inputs, target)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--settings", nargs="+", default=SETTINGS, metavar="NETWORK:IMAGES")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    random.seed(0)
    rows = []
    for setting in options.settings:
        model, _, images = setting.rpartition(":")
        shape = tuple(map(int, images.split("x")))
        runs = {"without": training(model, shape, None)}
        runs |= {product: training(model, shape, product) for product in ("forward", "difference")}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(options.rounds + 1):
            names = list(runs)
            random.shuffle(names)
            for name in names:
                start = time.perf_counter()
                runs[name]()
                if turn:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
        for name in ("forward", "difference"):
            ratios = [a / b for a, b in zip(seconds[name], seconds["without"], strict=True)]
            row = {
                "model": model,
                "images": images,
                "product": name,
                "ratio": round(statistics.median(ratios), 3),
                "min": round(min(ratios), 3),
                "max": round(max(ratios), 3),
                "ms_a_step": round(1e3 * statistics.median(seconds[name]) / EVERY, 2),
                "rounds": options.rounds,
            }
            rows.append(row)
            print(f"{model:>8} {images:>8} {name:<10} {row['ratio']:.3f} [{row['min']:.3f}, {row['max']:.3f}]  "
                  f"{row['ms_a_step']:8.2f} ms a step", flush=True)  # fmt: skip
    finish(rows, options.out, f"Adam, batches of {BATCH}, a step of the shape every {EVERY} steps")


if __name__ == "__main__":
    main()
