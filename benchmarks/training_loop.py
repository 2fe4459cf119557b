"""Images per second of the bench's training loop beside a plain DataLoader loop, interleaved in one run.

    python benchmarks/training_loop.py [--images 2000] [--rounds 5] [--device cuda] [--processes 4] [--out FILE.csv]

All train the paper's ConvNet on images of MNIST's size (random pixels, batches of 64, Adam, cross-entropy), plain
and with the paper's augmentation (rotation by 30 degrees, shift by a fifth). The plain loop is a tutorial's: a
Dataset that scales and augments one image at a time, a DataLoader, `loss.item()` summed, the network as torch makes
it. The floor is the network's arithmetic alone: one batch, in memory from the start, again and again, in the layout
that the bench uses. A round times one epoch of each, in shuffled order; a figure is the median over the rounds of the
ratio within a round. The bench's epoch also measures the network on 128 other images.

A study trains many networks, so the bench keeps every core busy with a training of its own, on one thread (`--jobs`):
the last two rows are so many processes at once (as many as there are cores, if not said otherwise), each with a
replicate of its own, their images summed; the plain loop too, for who would start it by hand as many times.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, NamedTuple

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
BATCH = 64
EVALUATED = 64  # images of the validation and the test part: all but nothing


class Task(NamedTuple):
    """What is trained on: so many images, augmented or not, on a device."""

    images: int
    augmented: bool
    device: str


@cache
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

    def __init__(self, task: Task, workers: int) -> None:
        torch.manual_seed(0)
        self.device = task.device
        data = made_up(task.images)
        self.loader = DataLoader(
            OneAtATime(data.x[: task.images], data.y[: task.images], task.augmented), batch_size=BATCH, shuffle=True,
            num_workers=workers, persistent_workers=workers > 0,
        )  # fmt: skip
        model = build_model("convnet", (1, 28, 28), 10)
        self.model = model.to(memory_format=torch.contiguous_format).to(task.device)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)

    def epoch(self) -> float:
        """Seconds of one epoch."""
        torch.use_deterministic_algorithms(False)  # the bench's loop wants them
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


class Floor:
    """The network's arithmetic alone."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.model = build_model("convnet", (1, 28, 28), 10).to(task.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)
        self.x = torch.randn(BATCH, 1, 28, 28, device=task.device)
        self.y = torch.randint(0, 10, (BATCH,), device=task.device)

    def epoch(self) -> float:
        """Seconds of an epoch's steps."""
        torch.use_deterministic_algorithms(False)
        start = time.perf_counter()
        for _ in range(math.ceil(self.task.images / BATCH)):
            loss = F.cross_entropy(self.model(self.x), self.y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        loss.item()  # waits for the device
        return time.perf_counter() - start


def bench_epoch(task: Task, seed: int = 0, epochs: int = 1) -> float:
    """Seconds of an epoch of the bench's loop, the median of some after a first that is left out."""
    data = made_up(task.images)
    setting = Setting(
        "random", data.fingerprint, model="convnet", epochs=epochs + 1, train_size=task.images, eval_size=EVALUATED,
        val_fraction=EVALUATED / len(data.y), test_fraction=EVALUATED / len(data.y), batch_size=BATCH,
        augment=AUGMENT if task.augmented else "none",
    )  # fmt: skip
    found = train(Cell(setting, "cce", seed), data, device=task.device)
    return float(np.median(found.epochs["seconds"][1:]))


@cache
def plain_of_this_process(task: Task) -> Plain:
    return Plain(task, workers=0)


def one_of_many(loop: str, task: Task, seed: int) -> float:
    """Seconds of an epoch in a process that has one thread."""
    torch.set_num_threads(1)
    return bench_epoch(task, seed) if loop == "adma" else plain_of_this_process(task).epoch()


def at_once(pool: Pool, processes: int, loop: str, task: Task) -> float:
    """Seconds of one replicate's share of an epoch, with a replicate in every process."""
    seconds = pool.map(partial(one_of_many, loop, task), range(processes), chunksize=1)
    return statistics.median(seconds) / processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, help="at once; as many as there are cores if left out, on a GPU 4")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    processes = options.processes or ((os.cpu_count() or 1) if options.device == "cpu" else 4)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(processes))
        for augmented in (False, True):
            task = Task(options.images, augmented, options.device)
            loops: dict[str, Callable[[], float]] = {
                f"DataLoader, {workers} workers": Plain(task, workers).epoch for workers in (0, 2)
            }
            loops["arithmetic alone"] = Floor(task).epoch
            loops["adma"] = partial(bench_epoch, task)
            loops[f"DataLoader, {processes} processes"] = partial(at_once, pool, processes, "DataLoader", task)
            loops[f"adma, {processes} processes"] = partial(at_once, pool, processes, "adma", task)
            rows += measured(loops, task, options.rounds)
    finish(rows, options.out, f"{options.images} images, batches of {BATCH}", device=options.device)


def measured(loops: dict[str, Callable[[], float]], task: Task, rounds: int) -> list[dict[str, Any]]:
    """A row for each loop; the rounds interleave them. The first loop is what the others are compared with."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(rounds + 1):
        for name in random.sample(list(loops), len(loops)):
            took = loops[name]()
            if turn:  # the first round warms up
                seconds[name].append(took)
    rows = []
    first = next(iter(loops))
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(seconds[first], values, strict=True)]
        row = {
            "augmented": AUGMENT if task.augmented else "none",
            "loop": name,
            "images_per_second": round(task.images / statistics.median(values)),
            "speed": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
            "rounds": rounds,
        }
        rows.append(row)
        print(
            f"augmented {row['augmented']:<20} {name:<24} {row['images_per_second']:8d} images/s  "
            f"{row['speed']:6.2f} [{row['min']:.2f}, {row['max']:.2f}] times the plain loop",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    main()
