"""What the bench costs beside the training: cells through the engine into the store, and the store when it is large.

    python benchmarks/engine.py                                  10,000 cells through the engine, 100,000 in the store
    python benchmarks/engine.py --cells 500 --stored 2000        a quick look

Prints, and with --out writes, the cost of a cell, the memory of the command over the run, and how long `status`,
`report`, the index and the results of a large store take, by the folders and by the index: the least and the greatest
of several times, and the least of the processor's time, as other programs may use the machine too. The cost of a cell
is that of each tenth of the run.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adma.bench import environment, status
from adma.bench.data import Dataset
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.work import Worker
from adma.bench.folder import Folder
from adma.bench.index import Index
from adma.bench.progress import Counter
from adma.bench.result import COLUMNS, DONE, CellResult
from adma.bench.run import run_cells
from adma.bench.study import Cell, Setting, Study

EPOCHS = 10
REPEATS = 3
Row = tuple[str, float, float, float, str]  # what, least, greatest, least of the processor's time, unit


def result_of(cell: Cell) -> CellResult:
    """As large as a training of ten epochs leaves."""
    chance = np.random.default_rng(int(cell.key, 16))
    epochs = {name: chance.random(EPOCHS) for name in COLUMNS} | {"epoch": np.arange(1, EPOCHS + 1)}
    versions = {f"package-{n}": "1.2.3" for n in range(10)}
    shared = dict.fromkeys(("split", "init", "order", "augment"), f"{cell.seed:016x}")
    return CellResult(cell, DONE, "", 0.0, epochs, {"versions": versions, "shared": shared, "weights": "0" * 16})


class Trivial(Worker):
    """Trains nothing."""

    def train(self, cell: Cell, on_epoch: Callable[[int, Any], None], pulse: Any = None) -> CellResult:
        on_epoch(1, {"val_accuracy": 0.5})
        return result_of(cell)


def no_data(cell: Cell) -> Dataset:
    raise AssertionError("nothing is loaded")


class Silent(Counter):
    """Counts, and looks at the clock and this process's memory after each tenth."""

    def __init__(self) -> None:
        super().__init__()
        self.memory: list[int] = []
        self.times: list[float] = []
        self.busy: list[float] = []
        self.ended = 0

    def end(self, result: CellResult) -> None:
        super().end(result)
        self.ended += 1
        if self.ended % max(1, len(self.cells) // 10) == 0:
            self.memory.append(resident())
            self.times.append(time.perf_counter())
            self.busy.append(time.process_time())

    def say(self, words: str) -> None:
        print(words)

    def close(self) -> None:
        return None


def processor() -> float:
    """Seconds of the processor that this process, and those that it has waited for, have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def resident() -> int:
    """MiB of this process now; its greatest where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def study_of(cells: int) -> Study:
    """A hundred losses (or fewer), each with as many seeds as it takes."""
    losses = min(100, cells)
    return Study(
        Setting("trivial", "0123456789abcdef", epochs=EPOCHS),
        tuple(f"adma:a={0.01 + n / 1000:.3f}" for n in range(losses)),
        tuple(range(cells // losses)),
    )


def through_the_engine(root: Path, cells: int, jobs: int) -> list[Row]:
    study = study_of(cells)
    folder = Folder(root)
    folder.open(study, about={})
    engine = LocalEngine(Trivial(no_data), jobs=jobs)
    display = Silent()
    started = time.perf_counter()
    run_cells(study.cells(), folder, engine, display)
    busy = np.diff(display.busy) * 1000 / (cells // 10)
    took = np.diff(display.times) * 1000 / (cells // 10)  # the first tenth holds the workers' start
    third = max(1, len(display.memory) // 3)
    memory = display.memory[third - 1], display.memory[-1]
    return [
        ("cells through the engine", cells, cells, math.nan, "cells"),
        ("the first tenth of them, with the start of the workers", *[display.times[0] - started] * 2, math.nan, "s"),
        ("a cell, from the supply to the store", took.min(), took.max(), busy.min(), "ms"),
        ("memory of the command after a third of the cells, and after all", *memory, math.nan, "MiB"),
    ]


def large_store(root: Path, cells: int) -> list[Row]:
    """A store that is filled without waiting for the disk, then read."""
    study = study_of(cells)
    folder = Folder(root)
    folder.open(study, about={})
    sync, os.fsync = os.fsync, lambda handle: None
    started, busy = time.perf_counter(), time.process_time()
    for cell in study.cells():
        folder.write(result_of(cell))
    os.fsync = sync
    a_cell, busy_cell = (1000 * t / cells for t in (time.perf_counter() - started, time.process_time() - busy))
    rows: list[Row] = [
        ("cells in the store", cells, cells, math.nan, "cells"),
        ("a cell written, without waiting for the disk", a_cell, a_cell, busy_cell, "ms"),
    ]

    def timed(name: str, act: Callable[[], object], repeats: int = REPEATS) -> None:
        times = []
        for _ in range(repeats):
            started, busy = time.perf_counter(), processor()
            act()
            times.append((time.perf_counter() - started, processor() - busy))
        rows.append((name, min(times)[0], max(times)[0], min(busy for _, busy in times), "s"))
        print(rows[-1], flush=True)

    timed("first look: every folder read and checked, the index written", lambda: _known(folder), 1)
    timed("the keys of all cells", lambda: [cell.key for cell in study.cells()])
    timed("what adma status looks at, and its table", lambda: status.render(status.look(root)))
    timed("what a run looks at before it starts: every file's size and time", lambda: _known(folder))
    timed("all results of the study", folder.results)
    few = replace(study, losses=study.losses[:4], seeds=study.seeds[:50])
    timed("the results of 4 losses x 50 seeds among them", lambda: folder.results_of(few, {}))
    timed("adma --help: a command's start", lambda: adma("--help"))
    timed("adma status, the whole command", lambda: adma("status", root))
    folder.open(few, about={}, resume=True)
    timed("adma report of 4 losses x 50 seeds in this store, the whole command", lambda: adma("report", root))
    folder.open(study, about={}, resume=True)
    timed("adma report of all cells, the whole command", lambda: adma("report", root), 1)
    size = sum(path.stat().st_size for path in (root / "index").iterdir()) / 2**20
    rows.append(("size of the index", size, size, math.nan, "MiB"))
    assert all(r.status == DONE for r in folder.results().cells)
    return rows


def _known(folder: Folder) -> object:
    return Index(folder).known(folder.study().cells(), checked=True)


def adma(*arguments: object) -> None:
    command = [sys.executable, "-m", "adma.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000, metavar="N", help="through the engine")
    parser.add_argument("--stored", type=int, default=100_000, metavar="N", help="in the large store")
    parser.add_argument("--jobs", type=int, default=environment.cores())
    parser.add_argument("--folder", type=Path, help="where the stores are made (default: a temporary folder)")
    parser.add_argument("--out", type=Path, metavar="FILE.csv")
    options = parser.parse_args(arguments)
    root = Path(tempfile.mkdtemp(prefix="adma-engine-", dir=options.folder))
    try:
        rows = through_the_engine(root / "engine", options.cells, options.jobs) + large_store(
            root / "store", options.stored
        )
    finally:
        shutil.rmtree(root, ignore_errors=True)
    for name, least, greatest, busy, unit in rows:
        print(f"{name:<75} {least:>12,.3f} {greatest:>12,.3f} {busy:>12,.3f} {unit}")
    if options.out is not None:
        hardware = environment.hardware("cpu")
        with options.out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["what", "least", "greatest", "processor_time", "unit", "processor", "cores"])
            for name, *numbers, unit in rows:
                values = [f"{value:.6g}" for value in numbers]
                writer.writerow([name, *values, unit, hardware["processor"], hardware["cores"]])


if __name__ == "__main__":
    main()
