"""--log: other programs' clients are told every epoch, and their trouble is never the run's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adma.bench import sinks
from adma.bench.errors import BenchError
from adma.bench.result import DONE, CellResult
from adma.bench.sinks import Sinks
from adma.bench.study import Cell, Setting

CELLS = [Cell(Setting("digits", "0123456789abcdef", epochs=2), loss, 3) for loss in ("cce", "adma:a=0.26")]
ROWS = {1: {"epoch": 1, "val_accuracy": 0.5, "test_nll_posterior": float("nan")}, 2: {"epoch": 2, "val_accuracy": 0.75}}


def tell(names: list[str], root: Path) -> list[str]:
    """Two trainings that run at the same time."""
    said: list[str] = []
    told = Sinks(names, root, said.append)
    for cell in CELLS:
        told.begin(cell)
    for number, row in ROWS.items():
        for cell in CELLS:
            told.epoch(cell, number, row)
    for cell in CELLS:
        told.end(CellResult(cell, DONE))
    told.close()
    return said


def test_tensorboard_has_a_curve_a_run(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert tell(["tensorboard"], tmp_path) == []
    folders = sorted({path.parent for path in (tmp_path / "logs").rglob("events.*")})
    assert len(folders) == 2
    for folder in folders:
        found = event_accumulator.EventAccumulator(str(folder)).Reload()
        assert [(e.step, e.value) for e in found.Scalars("val_accuracy")] == [(1, 0.5), (2, 0.75)]
        assert "test_nll_posterior" not in found.Tags()["scalars"]


def test_mlflow_has_a_run_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    assert tell(["mlflow"], tmp_path) == []
    client = mlflow.tracking.MlflowClient()
    experiment = client.get_experiment_by_name("adma")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.params["loss"] for run in runs} == {"cce", "adma:a=0.26"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    history = client.get_metric_history(runs[0].info.run_id, "val_accuracy")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.75)]


def test_wandb_has_a_run_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert tell(["wandb"], tmp_path) == []
    files = list((tmp_path / "logs").rglob("*.wandb"))
    assert len(files) == 2
    for path in files:  # its own format, in which these words stand as they are
        content = path.read_bytes()
        assert content.count(b"val_accuracy") >= 2
        assert b"0123456789abcdef" in content  # of the settings


class Broken:
    def __init__(self, root: Path) -> None:
        self.told = 0

    def begin(self, cell: Cell) -> None:
        self.told += 1

    def epoch(self, cell: Cell, number: int, row: object) -> None:
        raise ConnectionError("the server is gone\nand more")

    def end(self, result: CellResult) -> None:
        raise AssertionError("it has ended")

    def close(self) -> None: ...


class Slow(Broken):
    def epoch(self, cell: Cell, number: int, row: object) -> None:
        time.sleep(1000)


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sinks, "SINKS", {**sinks.SINKS, "broken": Broken, "slow": Slow, "absent": absent})
    return None


def absent(root: Path) -> Broken:
    raise ModuleNotFoundError("No module named 'absent'")


@pytest.mark.usefixtures("clients")
def test_a_clients_trouble_is_said_once_and_ends_it_alone(tmp_path: Path) -> None:
    (line,) = tell(["broken"], tmp_path)
    assert line == "--log broken ended: ConnectionError: the server is gone; the run goes on without it"


@pytest.mark.usefixtures("clients")
def test_a_slow_client_slows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_LAST_SECONDS", 0.2)
    monkeypatch.setattr(sinks, "_WAITING", 3)
    said = tell(["slow"], tmp_path)
    assert len(said) == 2
    assert "left behind" in said[0]
    assert "messages were left out" in said[1]


@pytest.mark.usefixtures("clients")
def test_a_client_that_is_not_installed_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="--log absent: its client is not installed"):
        Sinks(["absent"], tmp_path, print)


def test_numbers_that_are_none_are_not_sent() -> None:
    assert sinks._measures({"epoch": 1, "a": float("nan"), "b": np.float64(0.5)}) == {"b": 0.5}
