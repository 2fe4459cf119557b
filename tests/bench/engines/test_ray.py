"""A real Ray cluster of two nodes on this machine: what it trains is what this machine trains, whatever is lost."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hanging
import numpy as np
import pytest

from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.engines import Began, Event, Finished, Reached, Retried, Stopped
from adma.bench.engines.local import LocalEngine
from adma.bench.engines.work import Worker
from adma.bench.errors import BenchError
from adma.bench.result import DONE, FAILED, CellResult
from adma.bench.study import Cell, Setting
from adma.cli import main

pytest.importorskip("ray", reason="Ray is not installed: pip install 'adma[ray]'; nothing of --engine ray is tested")
from ray.cluster_utils import Cluster

from adma.bench.engines.ray import RayEngine

pytestmark = pytest.mark.slow
SOON = {  # a node that is killed, and so refuses to answer, is missed soon; one that is slow to answer is not
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
    "health_check_timeout_ms": 20_000,
    "worker_niceness": 0,  # else other tests beside these leave trainings next to nothing of a core
}


LONG = 300  # epochs: some seconds, as the engine looks at the board twice a second
SMALL = {"model": "mlp", "train_size": 300, "eval_size": 100}


def digits(cell: Cell) -> Dataset:
    if cell.seed == 99:
        raise RuntimeError("no such seed")
    return load("digits")


def cell(seed: int, epochs: int = 2, **more: Any) -> Cell:
    setting = Setting("digits", load("digits").fingerprint, epochs=epochs, **{**SMALL, **more})
    return Cell(setting, "cce", seed)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": SOON},
    )
    yield found
    found.shutdown()


def results(events: list[Event]) -> dict[str, CellResult]:
    ended = [event.result for event in events if isinstance(event, Finished)]
    assert max(Counter(result.cell.key for result in ended).values()) == 1
    return {result.cell.key: result for result in ended}


def assert_same(ours: CellResult, theirs: CellResult) -> None:
    assert (ours.status, theirs.status) == (DONE, DONE), (ours.reason, theirs.reason)
    for name, column in theirs.epochs.items():
        if name != "seconds":
            np.testing.assert_array_equal(ours.epochs[name], column, err_msg=name)
    for what in ("weights", "shared", "sizes", "threads"):
        assert ours.env[what] == theirs.env[what]


def test_a_node_is_killed_in_mid_study(cluster: Cluster, tmp_path: Path) -> None:
    """Every cell ends once, with the rows of an undisturbed run; the lost one goes on from its checkpoint."""
    cells = [cell(seed, epochs=LONG) for seed in range(2)]
    second = cluster.add_node(num_cpus=1)
    engine = RayEngine(Worker(digits, checkpoints=tmp_path, every=0.1), jobs=2, address=cluster.address)
    events: list[Event] = []
    reached: set[str] = set()
    for event in engine.run(cells):
        events.append(event)
        if isinstance(event, Reached) and event.epoch >= 3:
            reached.add(event.cell.key)
            if len(reached) == 2 and second is not None:  # one runs on each node
                cluster.remove_node(second, allow_graceful=False)
                second = None
    retried = [event for event in events if isinstance(event, Retried)]
    assert len(retried) == 1
    assert "node" in retried[0].reason
    found = results(events)
    lost = found[retried[0].cell.key]
    assert lost.env["resumed_at"] > [1, 0]
    assert lost.env["faults"] == [retried[0].reason]
    reference = results(list(LocalEngine(Worker(digits), jobs=1).run(cells)))
    assert found.keys() == reference.keys()
    for key, result in reference.items():
        assert_same(found[key], result)
    rows = [event.row for event in events if isinstance(event, Reached) and event.cell == cells[0]]
    assert rows[-1]["val_accuracy"] == found[cells[0].key].epochs["val_accuracy"][-1]
    assert not list(tmp_path.glob("checkpoints/.seen-*"))


def test_a_process_that_is_killed_is_replaced_and_its_cell_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    one = cell(0, epochs=LONG)
    engine = RayEngine(Worker(digits, checkpoints=tmp_path, every=0.1), jobs=1, address=cluster.address)
    events: list[Event] = []
    where = ""
    for event in engine.run([one]):
        events.append(event)
        if isinstance(event, Began) and not where:
            where = event.worker
        if isinstance(event, Reached) and event.epoch == 3 and not any(isinstance(e, Retried) for e in events):
            os.kill(int(where.rpartition(" ")[2]), signal.SIGKILL)
    (retried,) = {event for event in events if isinstance(event, Retried)}
    found = results(events)[one.key]
    assert found.env["resumed_at"] > [1, 0]
    assert found.env["faults"] == [retried.reason]
    assert_same(found, results(list(LocalEngine(Worker(digits), jobs=1).run([one])))[one.key])


def test_a_training_that_hangs_is_ended_with_its_stack_and_its_cell_tried_once_more(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cell hangs again and has failed; the other one hangs so that its process cannot end itself, and then not."""
    hanging.write_module(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("adma.bench.engines.ray._GRACE", 25.0)  # a busy machine needs it to write the stack
    __import__(hanging.MODULE)
    twice, once = (cell(0, model=f"{hanging.MODULE}:{way}") for way in ("hangs", "locked"))
    second = cluster.add_node(num_cpus=1)
    try:
        engine = RayEngine(Worker(digits), jobs=2, address=cluster.address, hang_after=30)
        events = list(engine.run([twice, once]))
    finally:
        cluster.remove_node(second)
        del sys.modules[hanging.MODULE]
    found = results(events)
    retried = {event.cell.key: event.reason for event in events if isinstance(event, Retried)}
    assert len([event for event in events if isinstance(event, Retried)]) == 2
    assert "no sign of life" in retried[once.key]
    assert "no sign of life" in retried[twice.key]
    assert f"{hanging.MODULE}.py" in retried[twice.key]  # the line where it hung
    assert found[twice.key].status == FAILED
    assert f"{hanging.MODULE}.py" in found[twice.key].reason
    assert found[twice.key].reason.endswith("it was lost 2 times")
    assert found[twice.key].env["faults"] == [retried[twice.key]]
    assert found[once.key].status == DONE, found[once.key].reason
    assert found[once.key].env["faults"] == [retried[once.key]]


def test_a_core_trains_one_cell_at_a_time(cluster: Cluster) -> None:
    """A training that asks whether to stop does not hand its core to the next one meanwhile."""
    cluster.wait_for_nodes(60)  # one that was killed may not be missed yet
    long, short = cell(0, epochs=LONG), cell(1, epochs=1)
    engine = RayEngine(Worker(digits), jobs=2, address=cluster.address)
    events = list(engine.run([long, short]))
    last = next(at for at, event in enumerate(events) if isinstance(event, Reached) and event.epoch == LONG)
    assert [event.cell for event in events[last:] if isinstance(event, Began)] == [short]


def test_stop_leaves_checkpoints_and_cells_go_on_from_them(cluster: Cluster, tmp_path: Path) -> None:
    cluster.wait_for_nodes(60)  # one that was killed may not be missed yet
    cells = [cell(0, epochs=3000), cell(1, epochs=3000)]  # the second one waits for room

    def engine() -> RayEngine:
        return RayEngine(Worker(digits, checkpoints=tmp_path), jobs=2, address=cluster.address)

    first, events = engine(), []
    for event in first.run(cells):
        events.append(event)
        if isinstance(event, Reached):
            first.stop()
    assert {event.cell for event in events if isinstance(event, Stopped)} == set(cells)
    assert not [event for event in events if isinstance(event, Finished)]
    assert len(list(tmp_path.glob("checkpoints/*"))) == 1  # a folder of one cell: the other one was never trained

    third = engine()
    for event in third.run(cells[:1]):  # before its process has begun
        events.append(event)
        third.stop()
    assert isinstance(events[-1], Stopped)

    second, epochs = engine(), []
    for event in second.run(cells[:1]):
        if isinstance(event, Reached):
            epochs.append(event.epoch)
            second.cancel(cells[0])
    last = max(event.epoch for event in events if isinstance(event, Reached))
    assert epochs[0] == last + 1


def test_a_cell_without_data_fails_alone(cluster: Cluster) -> None:
    found = results(list(RayEngine(Worker(digits), jobs=2, address=cluster.address).run([cell(99), cell(1)])))
    assert [found[cell(seed).key].status for seed in (99, 1)] == ["failed", DONE]
    assert "no such seed" in found[cell(99).key].reason


def test_a_node_with_another_torch_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import torch\ntorch.__version__ = '1.2.3'\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    node = cluster.add_node(num_cpus=2, env_vars={"PYTHONPATH": path})
    try:
        # two cores: that node alone has them
        engine = RayEngine(Worker(digits, threads=2), jobs=1, address=cluster.address)
        with pytest.raises(BenchError, match=r"has torch 1\.2\.3, here \d.*install the same versions"):
            list(engine.run([cell(0)]))
    finally:
        cluster.remove_node(node)


def test_modules_of_the_current_folder_are_shipped(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "widths.py").write_text("WIDTH = 24\n")
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\nfrom widths import WIDTH\n\n"
        "def build(in_channels, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, num_classes))\n"
    )
    (tmp_path / "own_loss_there.py").write_text(
        "from torch.nn.functional import cross_entropy\n\n"
        "def half():\n    return lambda logits, target: cross_entropy(logits, target) / 2\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_loss_there  # noqa: F401
    import own_network  # noqa: F401

    own = replace(cell(0, epochs=1, model="own_network:build"), loss="own_loss_there:half")
    found = results(list(RayEngine(Worker(digits), jobs=1, address=cluster.address, modules=["widths"]).run([own])))
    reference = results(list(LocalEngine(Worker(digits), jobs=1).run([own])))
    assert_same(found[own.key], reference[own.key])
    for name in ("own_loss_there", "own_network", "widths"):
        del sys.modules[name]


def test_the_command_trains_on_the_cluster(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "compare",
        "digits",
        "--loss",
        "cce",
        "--loss",
        "adma:a=0.3",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--model",
        "mlp",
        "--train-size",
        "300",
    ]
    here = ["--engine", "ray", "--address", cluster.address, "--out", str(tmp_path / "runs")]
    assert main([*arguments, *here]) == 0
    assert "1 at a time" in capsys.readouterr().out  # the cluster has one core
    assert len(list((tmp_path / "runs" / "cells").iterdir())) == 2
    assert main([*arguments, *here, "--cpus-per-cell", "3"]) == 2
    assert "no node of the cluster has room for a cell of 3 CPUs" in capsys.readouterr().err
