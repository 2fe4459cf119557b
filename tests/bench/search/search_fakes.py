"""A search whose trainings take no time: accuracy is a known function of the cell."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adma.bench.folder import Folder
from adma.bench.lease import Leases
from adma.bench.result import COLUMNS, DIVERGED, DONE, CellResult
from adma.bench.search.driver import Driver
from adma.bench.search.ledger import Ledger, Rules
from adma.bench.search.space import Space, parse_lr, parse_template
from adma.bench.search.storage import Place, open_storage
from adma.bench.search.trials import Trial
from adma.bench.study import Cell, Setting
from adma.spec import parse

SETTING = Setting("fake", "0123456789abcdef", epochs=3)
TOP = (0.1, 2e-3)  # the best a and learning rate


def accuracy(cell: Cell) -> float:
    """A hill in log a and log lr, with noise that is drawn from the cell and a shift that is drawn from its seed."""
    shape = next(iter(parse(cell.loss).parameters().values()), TOP[0])
    hill = math.log(shape / TOP[0]) ** 2 + math.log(cell.setting.lr / TOP[1]) ** 2
    return 0.9 - 0.02 * hill + 0.004 * noise(cell.key) + 0.02 * noise(str(cell.seed))


def noise(text: str) -> float:
    """Between -1 and 1."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**31 - 1


def result(cell: Cell, value: float | None = None, status: str = DONE, reason: str = "") -> CellResult:
    value = accuracy(cell) if value is None else value
    column = np.full(cell.setting.epochs, value)
    nothing = np.full(cell.setting.epochs, math.nan)
    numbers = np.arange(1, cell.setting.epochs + 1)
    measured = {"epoch": numbers, "val_accuracy": column, "test_accuracy": column - 0.01}
    epochs = {**dict.fromkeys(COLUMNS, nothing), **measured}
    return CellResult(cell, status, reason, 0.1, epochs, {"shared": {"split": f"s{cell.seed}"}})


def diverged(cell: Cell) -> CellResult:
    return result(cell, math.nan, DIVERGED, "epoch 1: the training loss is inf")


def rules(seeds: int = 2, *, pruner: str = "none", seed: int = 0, size: int = 4, **shared: object) -> Rules:
    return Rules(tuple(range(seeds)), seed, size, pruner, {"data_hash": SETTING.data_hash, **shared})


def space(loss: str = "adma", lr: str | None = None) -> Space:
    return Space(parse_template(loss), *parse_lr(lr, 1e-3))


def ledger(root: Path, loss: str = "adma", budget: int = 8, given: Rules | None = None, **more: object) -> Ledger:
    """A ledger in the folder's journal, or in the database `url`."""
    root.mkdir(parents=True, exist_ok=True)
    place = Place(root, more.pop("url", None))  # type: ignore[arg-type]
    lr = more.pop("lr", None)
    storage, _ = open_storage(place)
    return Ledger(storage, place, "study", space(loss, lr), given or rules(), budget, **more)  # type: ignore[arg-type]


def store_in(root: Path) -> Folder:
    store = Folder(root)
    store.cells_dir.mkdir(parents=True, exist_ok=True)
    return store


def run(
    ledgers: list[Ledger], root: Path, train: Callable[[Cell], CellResult] = result, stop_after: int | None = None
) -> list[Cell]:
    """Search with one instant worker.

    Args:
        stop_after: leave after so many trainings, without a word, as a killed process does.

    Returns:
        What was trained, in its order.
    """
    store = store_in(root)
    leases = Leases(root)
    driver = Driver(ledgers, SETTING, store, leases)
    trained: list[Cell] = []
    try:
        for cell in driver.cells():
            if cell is None:  # what is left is another process's
                time.sleep(0.05)
                continue
            if stop_after is not None and len(trained) == stop_after:
                return trained
            outcome = train(cell)
            store.write(outcome)
            trained.append(cell)
            driver.take(outcome)
            leases.release(cell)
    finally:
        leases.close()  # as those of a process that has ended
    return trained


def trials_of(one: Ledger) -> list[Trial]:
    found = one.trials(fresh=True)
    return [found[index] for index in sorted(found)]


def points(trials: list[Trial]) -> list[tuple[object, ...]]:
    """What must not depend on who ran a trial, or when."""
    return [(t.index, t.state, sorted(t.params.items()), sorted(t.values.items()), t.diverged) for t in trials]
