"""Images per second of the bench's training loop beside a plain DataLoader loop, interleaved in one run.

    python benchmarks/training_loop.py [--images 2000] [--rounds 5] [--device cuda] [--processes 4] [--out FILE.csv]

Both train the paper's ConvNet on images of MNIST's size (random pixels, batches of 64, Adam, cross-entropy), plain
and with the paper's augmentation (rotation by 30 degrees, shift by a fifth). The plain loop is a tutorial's: a
Dataset that scales and augments one image at a time, a DataLoader, `loss.item()` summed, the network as torch makes
it. A round times one epoch of each, in shuffled order; a figure is the median over the rounds of the ratio within a
round. With --processes the bench's loop runs in so many processes at once, each with a replicate of its own, and their
images are summed.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from table import finish
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from adma.bench.data import Dataset
from adma.bench.models import build_model
from adma.bench.study import Cell, Setting
from adma.bench.train import train

AUGMENT = "rotate=30,shift=0.2"
EVALUATED = 64  # images of the validation and the test part: all but nothing


def made_up(images: int) -> Dataset:
    """Random images of MNIST's size."""
    draw = np.random.default_rng(0)
    n = images + 2 * EVALUATED + 50  # some more, as the parts are drawn by class
    x = draw.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8)
    return Dataset("random", x, draw.integers(0, 10, n), tuple(map(str, range(10))))


class OneAtATime(TorchDataset[tuple[torch.Tensor, int]]):
    """Images scaled, and rotated and shifted, one by one."""

    def __init__(self, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], augmented: bool) -> None:
        self.x, self.y, self.augmented = x, y, augmented

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        image = (torch.from_numpy(self.x[i]).float() / 255 - 0.5) / 0.3
        if self.augmented:
            angle = math.radians(random.uniform(-30, 30))
            dx, dy = random.uniform(-0.4, 0.4), random.uniform(-0.4, 0.4)
            rows = [[math.cos(angle), -math.sin(angle), dx], [math.sin(angle), math.cos(angle), dy]]
            grid = F.affine_grid(torch.tensor([rows]), [1, 1, 28, 28], align_corners=False)
            image = F.grid_sample(image[None], grid, align_corners=False)[0]
        return image, int(self.y[i])


class Plain:
    """The tutorial's loop."""

    def __init__(self, data: Dataset, images: int, augmented: bool, device: str, workers: int) -> None:
        torch.manual_seed(0)
        self.device = device
        self.loader = DataLoader(
            OneAtATime(data.x[:images], data.y[:images], augmented), batch_size=64, shuffle=True, num_workers=workers,
            persistent_workers=workers > 0,
        )  # fmt: skip
        self.model = build_model("convnet", (1, 28, 28), 10).to(memory_format=torch.contiguous_format).to(device)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)

    def epoch(self) -> float:
        """Seconds of one epoch."""
        start, total = time.perf_counter(), 0.0
        self.model.train()
        for x, y in self.loader:
            x, y = x.to(self.device), y.to(self.device)
            loss = F.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return time.perf_counter() - start


def bench_epochs(data: Dataset, images: int, augmented: bool, device: str, epochs: int, seed: int = 0) -> float:
    """Seconds of an epoch of the bench's loop, the first left out."""
    setting = Setting(
        "random", data.fingerprint, model="convnet", epochs=epochs + 1, train_size=images, eval_size=EVALUATED,
        val_fraction=EVALUATED / len(data.y), test_fraction=EVALUATED / len(data.y),
        augment=AUGMENT if augmented else "none",
    )  # fmt: skip
    found = train(Cell(setting, "cce", seed), data, device=device)
    return float(np.median(found.epochs["seconds"][1:]))


def replicate(images: int, augmented: bool, device: str, epochs: int, seed: int) -> float:
    """`bench_epochs` in a process of its own."""
    torch.set_num_threads(1)
    return bench_epochs(made_up(images), images, augmented, device, epochs, seed)


def packed(images: int, augmented: bool, device: str, processes: int) -> float:
    """Seconds of an epoch of one replicate's share, with so many processes at once."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        seconds = pool.map(partial(replicate, images, augmented, device, 3), range(processes), chunksize=1)
    return statistics.median(seconds) / processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.use_deterministic_algorithms(False)
    data, rows = made_up(options.images), []
    for augmented in (False, True):
        loops: dict[str, Callable[[], float]] = {
            f"DataLoader, {workers} workers": Plain(data, options.images, augmented, options.device, workers).epoch
            for workers in (0, 2)
        }
        loops["adma"] = partial(bench_epochs, data, options.images, augmented, options.device, 1)
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for turn in range(options.rounds + 1):
            names = list(loops)
            random.shuffle(names)
            for name in names:
                took = loops[name]()
                if turn:  # the first round warms up
                    seconds[name].append(took)
        if options.processes:
            seconds[f"adma, {options.processes} processes"] = [
                packed(options.images, augmented, options.device, options.processes) for _ in range(options.rounds)
            ]
        for name, values in seconds.items():
            ratios = [a / b for a, b in zip(seconds["DataLoader, 0 workers"], values, strict=True)]
            row = {
                "augmented": AUGMENT if augmented else "none",
                "loop": name,
                "images_per_second": round(options.images / statistics.median(values)),
                "speed": round(statistics.median(ratios), 3),
                "min": round(min(ratios), 3),
                "max": round(max(ratios), 3),
                "rounds": options.rounds,
            }
            rows.append(row)
            print(
                f"augmented {row['augmented']:<20} {name:<24} {row['images_per_second']:8d} images/s  "
                f"{row['speed']:6.2f} [{row['min']:.2f}, {row['max']:.2f}] times the plain loop",
                flush=True,
            )
    finish(rows, options.out, f"{options.images} images, batches of 64", device=options.device)


if __name__ == "__main__":
    main()
