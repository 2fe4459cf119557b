"""What a study shows while it runs: a reader can tell which training a line is of."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from adma.bench.progress import LiveLine, PlainLines, duration
from adma.bench.result import DONE, FAILED, CellResult
from adma.bench.study import Cell, Setting

MNIST = Setting("mnist", "h1")


def lines(kind: type[PlainLines] | type[LiveLine], results: list[CellResult], kept: int = 0) -> list[str]:
    text = io.StringIO()
    display = kind(Console(file=text, width=200))
    display.start([result.cell for result in results], kept, 1)
    for result in results:
        display.begin(result.cell)
        for number in range(1, 1 + result.cell.setting.epochs * (result.status == DONE)):
            display.epoch(result.cell, number)
        display.end(result)
    display.close()
    return text.getvalue().splitlines()


def done(cell: Cell) -> CellResult:
    return CellResult(cell, DONE, "", 2.0, {"test_accuracy": np.array([0.5])})


def named(*settings: Setting) -> list[str]:
    """What stands before the loss of the one cell of each setting."""
    found = []
    for line in lines(PlainLines, [done(Cell(setting, "cce", 0)) for setting in settings]):
        name, _, rest = line.partition("] ")[2].partition(": cce seed 0: ")
        assert rest.startswith("test accuracy 50.00% (2.0 s)")
        found.append(name)
    return found


def test_one_setting_needs_no_more_than_loss_and_seed() -> None:
    first, second = Cell(MNIST, "cce", 0), Cell(MNIST, "mse", 1)
    got = lines(PlainLines, [done(first), CellResult(second, FAILED, "boom\nmore", 3.0)], kept=4)
    assert got[0].startswith("[5/6] cce seed 0: test accuracy 50.00% (2.0 s); about")
    assert got[1] == "[6/6] mse seed 1: failed: boom (3.0 s)"


def test_several_data_sets_are_named_without_what_differs_between_them() -> None:
    photos = Setting("photos", "h2", lr=0.1, epochs=3, train_size=100)
    assert named(MNIST, photos) == ["mnist", "photos"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "convnet:activation=relu"}, "model=convnet:activation=relu"),
        ({"optimizer": "sgd", "lr": 2e-4}, "optimizer=sgd lr=0.0002"),
        ({"epochs": 3}, "epochs=3"),
        ({"augment": "flip", "data_hash": "h2"}, "augment=flip"),
        ({"data_hash": "h2"}, "data_hash=h2"),  # another size of the same pictures
    ],
)
def test_variants_of_one_data_set_are_told_apart_by_what_differs(change: dict[str, object], words: str) -> None:
    plain, changed = named(MNIST, replace(MNIST, **change))  # type: ignore[arg-type]
    assert changed == f"mnist {words}"
    assert plain.startswith("mnist ")
    assert plain != changed
    other = Setting("digits", "h3", lr=0.5)
    assert named(other, MNIST, replace(MNIST, **change)) == ["digits", plain, changed]  # type: ignore[arg-type]


def test_no_two_settings_have_one_name() -> None:
    sized = replace(MNIST, data_hash="h2")
    names = named(MNIST, sized, replace(MNIST, lr=0.1), replace(sized, lr=0.1))
    assert len(set(names)) == 4


def test_the_live_line_names_what_failed_too() -> None:
    cells = [Cell(MNIST, "cce", 0), Cell(Setting("digits", "h3"), "mse", 2)]
    got = lines(LiveLine, [done(cells[0]), CellResult(cells[1], FAILED, "boom")])
    assert any(line.strip() == "digits: mse seed 2 failed: boom" for line in got)
    (alone,) = [line for line in lines(LiveLine, [CellResult(cells[0], FAILED, "boom")]) if "boom" in line]
    assert alone.strip() == "cce seed 0 failed: boom"


def test_the_time_left_is_by_the_pace_of_what_was_trained_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of epochs that a checkpoint brought, nor of those that a cell never came to."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    cells = [Cell(replace(MNIST, epochs=100), "cce", seed) for seed in range(4)]
    display = PlainLines(Console(file=io.StringIO()))
    display.start(cells, 0, 1)
    display.begin(cells[0])
    display.end(CellResult(cells[0], FAILED, "boom"))
    assert display.left() == ""
    display.begin(cells[1])
    clock[0] = 10.0
    display.epoch(cells[1], 91)
    assert display.left() == f"about {duration(10.0 * (9 + 200))} left"
    display.begin(cells[1])  # its process was lost, and it is gone on with from a checkpoint
    clock[0] = 30.0
    display.epoch(cells[1], 91)
    assert display.left() == f"about {duration(15.0 * (9 + 200))} left"
