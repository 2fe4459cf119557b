"""A worker on its way to another machine: without the data, and with the folder as other machines see it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines.work import Worker
from adma.bench.errors import BenchError
from adma.bench.result import DONE
from adma.bench.study import Cell, Setting


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture
def cell(digits: Dataset) -> Cell:
    return Cell(Setting("digits", digits.fingerprint, model="mlp", epochs=1, train_size=64, eval_size=50), "cce", 0)


def test_it_is_sent_without_its_data_and_trains_with_those_that_are_there(
    digits: Dataset, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    worker = Worker(lambda cell: digits, checkpoints=Path("results"), keep=True, origin={"command": "adma"})
    sent = pickle.dumps(worker.to_send())
    assert len(sent) < 1000
    monkeypatch.chdir("/")  # as another machine has another current folder
    result = pickle.loads(sent).there(digits, sees=True).train(cell, lambda number, row: None)
    assert result.status == DONE, result.reason
    assert result.env["command"] == "adma"
    assert list((tmp_path / "results" / "checkpoints").iterdir())


def test_where_its_folder_is_not_seen_it_keeps_no_checkpoints(digits: Dataset, cell: Cell, tmp_path: Path) -> None:
    there = Worker(lambda cell: digits, checkpoints=tmp_path, keep=True).to_send().there(digits, sees=False)
    result = there.train(cell, lambda number, row: None)
    assert result is not None
    assert result.status == DONE, result.reason
    assert not list(tmp_path.iterdir())


def test_a_cell_of_several_devices_is_not_sent(digits: Dataset) -> None:
    with pytest.raises(BenchError, match="devices=2: on a cluster"):
        Worker(lambda cell: digits, devices=2).to_send()
