"""adma status and adma export, as a user meets them."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from adma_command import ADMA, adma

from adma.bench import status as status_module
from adma.bench.export import FORMATS, tables_of
from adma.bench.folder import Folder
from adma.bench.lease import Lease, Leases
from adma.bench.owner import Owner
from adma.bench.result import COLUMNS, DIVERGED, DONE, FAILED, CellResult
from adma.bench.status import Status, look
from adma.bench.study import Entry, Plan, Setting, Study
from adma.cli import main

STUDY = Study(Setting("digits", "0123456789abcdef", epochs=4), ("cce", "adma:a=0.26"), (0, 1, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "out")
    made.open(STUDY, about={"command": "adma compare digits"})
    for number, (cell, came_out) in enumerate(zip(STUDY.cells(), (DONE, DONE, DIVERGED, FAILED), strict=False)):
        epochs = {name: np.array([1.0, 2.0, 3.0, number]) for name in COLUMNS}
        trace = {"step": np.array([0, 5]), "epoch": np.array([0.0, 0.5]), "a": np.array([0.1, 0.2])} if number else {}
        made.write(CellResult(cell, came_out, f"reason {number}\nmore", 10.0, epochs, {"weights": "ab"}, trace))
    return made


def test_what_is_done_what_failed_and_how_to_go_on(folder: Folder) -> None:
    run = adma("status", folder.root)
    assert run.returncode == 1  # a cell failed, and nothing runs
    rows = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines() if line.startswith("  ")}
    assert rows["cce"] == ["1", "1", "·", "·", "1"]
    assert rows["adma:a=0.26"] == ["1", "·", "·", "1", "1"]
    assert "diverged: cce seed 1: reason 2" in run.stdout
    assert "failed: adma:a=0.26 seed 1: reason 3" in run.stdout
    assert "more" not in run.stdout
    assert "3 to go, nothing runs; to go on: adma compare digits" in run.stdout


def test_what_runs_where_and_how_long_it_will_take(folder: Folder) -> None:
    leases = Leases(folder.root)
    cells = STUDY.cells()
    leases.take(cells[4])
    leases.note(cells[4], epoch=2, epochs=4)
    path = folder.root / "leases" / cells[5].key
    elsewhere = {"owner": str(Owner("node-7", 4321, "x")), "nonce": "n", "since": "2026-01-01T00:00:00+00:00"}
    path.write_text(json.dumps({**elsewhere, "cell": {}, "reached": {}}))
    run = adma("status", folder.root)
    assert run.returncode == 0
    assert "running: cce seed 2, epoch 2 of 4" in run.stdout
    assert "running: adma:a=0.26 seed 2, begun" in run.stdout
    assert "by node-7, process 4321" in run.stdout
    # half a cell, a whole one and the failed one, of 10 s each, two at a time
    assert look(folder.root).seconds_left == pytest.approx((5 + 10 + 10) / 2)
    assert "3 to go, about 12 s left" in run.stdout
    leases.close()


def test_plans_are_shown_study_by_study_and_a_strangers_folder_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "plans")
    folder.open_plan(
        Plan("table9", (Entry("digits", STUDY), Entry("digits/relu", STUDY))), about={"command": "adma run"}
    )
    run = adma("status", folder.root)
    assert "table9 digits/relu" in run.stdout
    assert "6 to go" in run.stdout
    (tmp_path / "other").mkdir()
    refused = adma("status", tmp_path / "other")
    assert refused.returncode == 2
    assert "holds no study" in refused.stderr


def test_watching_ends_when_all_is_done(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    study = Study(STUDY.setting, ("cce",), (0,))
    folder.open(study, about={})
    process = subprocess.Popen(
        [*ADMA, "status", str(folder.root), "--watch", "0.2"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    folder.write(CellResult(study.cells()[0], DONE))
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "all is done" in out


@pytest.mark.parametrize("has_trials", [False, True])
def test_a_search_is_not_done_while_it_runs(has_trials: bool, tmp_path: Path) -> None:
    """Its next cells follow from what comes out, so that of those that are there none may be left."""
    folder = Folder(tmp_path / "out")
    folder.open_search({}, {"settings": {}, "about": {"command": "adma tune digits"}})
    if has_trials:
        folder.note("trials.json", {"adma": [{"state": "COMPLETE"}]})
    done, running = STUDY.cells()[:2]
    folder.write(CellResult(done, DONE, "", 1.0, {name: np.array([0.5]) for name in COLUMNS}))
    leases = Leases(folder.root)
    leases.take(running)
    leases.note(running, epoch=2, epochs=4)
    run = adma("status", folder.root)
    assert run.returncode == 0
    assert "all is done" not in run.stdout
    assert f"running: {running.loss} seed {running.seed}, epoch 2 of 4" in run.stdout
    assert "a search runs" in run.stdout
    assert ("adma: 1 complete trials" in run.stdout) == has_trials
    command = [*ADMA, "status", str(folder.root), "--watch", "0.1"]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        watching.wait(timeout=6)
    leases.close()
    out, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert "nothing runs; to go on: adma tune digits" in out


@pytest.mark.parametrize(
    ("every", "runs", "looks"), [(2.0, "YNYYNNY" + "N" * 9, 11), (60.0, "YNY" + "N" * 9, 6), (2.0, "N" * 9, 4)]
)
def test_watching_a_search_does_not_end_between_two_cells(
    every: float, runs: str, looks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two cells it has no lease for a moment."""
    clock, seen = [0.0], iter(runs)

    def looked(where: Path) -> Status:
        lease = Lease("key", Owner("here", 1, "x"), "n", "2026-01-01T00:00:00+00:00", {}, 0)
        return Status(where, (), {}, (lease,) if next(seen) == "Y" else (), "adma tune", search=True)

    monkeypatch.setattr(status_module, "look", looked)
    monkeypatch.setattr(status_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(status_module.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(status_module, "_QUIET", 6.0)
    assert status_module.status(argparse.Namespace(dir=tmp_path, watch=every)) == 0
    assert len(runs) - len(list(seen)) == looks


@pytest.mark.parametrize(
    ("name", "altered"),
    [
        ("study.json", {"about": []}),
        ("study.json", {"about": {"dataset": ["digits"]}}),
        ("tune.json", {"settings": {}, "about": "nothing"}),
        ("plans/one.json", {"entries": [], "about": []}),
    ],
)
@pytest.mark.parametrize("command", ["status", "export"])
def test_a_header_that_was_altered_by_hand_is_named(
    command: str, name: str, altered: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"study": STUDY.config(), **altered} if name == "study.json" else altered))
    assert main([command, str(tmp_path)]) == 2
    assert f"{name} cannot be read as a" in capsys.readouterr().err


@pytest.mark.parametrize("altered", [{"since": "yesterday"}, {"reached": 3}, {"owner": 7}, {"cell": "cce"}])
def test_a_lease_that_was_altered_by_hand_is_none(altered: dict[str, object], folder: Folder) -> None:
    leases = Leases(folder.root)
    cell = STUDY.cells()[4]
    leases.take(cell)
    path = folder.root / "leases" / cell.key
    path.write_text(json.dumps({**json.loads(path.read_text()), **altered}))
    assert look(folder.root).leases == ()
    leases.close()


def test_tables_for_other_programs(folder: Folder) -> None:
    for kind in ("csv", "parquet"):
        run = adma("export", folder.root, "--format", kind)
        assert run.returncode == 0, run.stderr
        read = pyarrow.csv.read_csv if kind == "csv" else pq.read_table
        found = {name: read(folder.root / "export" / f"{name}.{kind}") for name in ("cells", "epochs", "traces")}
        assert found["cells"].num_rows == 4  # what has not run is left out
        assert found["cells"]["status"].to_pylist() == [DONE, DONE, DIVERGED, FAILED]
        assert found["cells"]["last_test_accuracy"].to_pylist() == [0, 1, 2, 3]
        assert found["cells"]["loss"].to_pylist()[:2] == ["cce", "adma:a=0.26"]
        assert found["epochs"].num_rows == 16
        assert found["epochs"].column_names == ["key", *COLUMNS]
        assert found["traces"].num_rows == 6
        assert found["traces"]["parameter"].to_pylist() == ["a"] * 6
        assert str(folder.root / "export" / f"traces.{kind}") in run.stdout.replace("\n", "")


def test_a_failed_cell_that_stands_first_takes_no_column_from_the_others(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    folder.open(STUDY, about={})
    failed, done = STUDY.cells()[:2]
    folder.write(CellResult(failed, FAILED, "no memory"))
    folder.write(CellResult(done, DONE, "", 1.0, {name: np.array([0.25, 0.5]) for name in COLUMNS}))
    cells = tables_of(folder.root)["cells"]
    assert cells["last_test_accuracy"].to_pylist() == [None, 0.5]
    assert [name for name in cells.column_names if name.startswith("last_")] == [f"last_{name}" for name in COLUMNS]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_tables_of_a_folder_in_which_nothing_has_run_have_their_columns(kind: str, tmp_path: Path) -> None:
    if kind == "duckdb":
        duckdb = pytest.importorskip("duckdb")
    folder = Folder(tmp_path / "out")
    folder.open(STUDY, about={})
    run = adma("export", folder.root, "--format", kind)
    assert run.returncode == 0, run.stderr
    out = folder.root / "export"
    if kind == "csv":
        found = (out / "cells.csv").read_text()
    elif kind == "parquet":
        found = str(pq.read_table(out / "cells.parquet").schema)
    else:
        with duckdb.connect(str(out / "adma.duckdb"), read_only=True) as database:
            found = str(database.execute("describe cells").fetchall())
    assert "loss" in found
    assert "last_test_accuracy" in found


def test_a_database_for_other_programs(folder: Folder, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    run = adma("export", folder.root, "--format", "duckdb", "--out", tmp_path / "db")
    assert run.returncode == 0, run.stderr
    with duckdb.connect(str(tmp_path / "db" / "adma.duckdb"), read_only=True) as database:
        best = database.execute(
            "select loss, max(test_accuracy) from cells join epochs using (key) group by loss order by loss"
        ).fetchall()
    assert best == [("adma:a=0.26", 3.0), ("cce", 3.0)]
