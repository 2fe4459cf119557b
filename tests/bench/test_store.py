"""The store: whole cells or none, and clear words about folders that are not ours."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adma.bench import whole
from adma.bench.errors import BenchError
from adma.bench.folder import Folder
from adma.bench.owner import Owner, me, parse
from adma.bench.result import COLUMNS, DIVERGED, DONE, FAILED, MISSING, CellResult
from adma.bench.study import Setting, Study

STUDY = Study(Setting("digits", "0123456789abcdef", epochs=2), ("cce", "mse"), (0, 1))


def result(cell_index: int = 0, status: str = DONE) -> CellResult:
    epochs = {name: np.array([1.0, 2.0]) for name in COLUMNS}
    return CellResult(STUDY.cells()[cell_index], status, "why", 1.5, epochs, {"shared": {"split": "x"}})


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    opened = Folder(tmp_path / "out")
    opened.open(STUDY, about={"command": "adma compare digits"})
    return opened


def test_what_is_written_is_read_back(store: Folder) -> None:
    store.write(result())
    back = store.read(STUDY.cells()[0])
    assert (back.status, back.reason, back.seconds, back.env) == (DONE, "why", 1.5, {"shared": {"split": "x"}})
    assert list(back.epochs) == list(COLUMNS)
    assert back.final("test_accuracy") == 2.0
    assert [c.status for c in store.results().cells] == [DONE, MISSING, MISSING, MISSING]
    assert store.results().about == {"command": "adma compare digits"}


def test_nan_values_survive(store: Folder) -> None:
    epochs = {**result().epochs, "test_ece_posterior": np.array([np.nan, np.nan])}
    store.write(CellResult(STUDY.cells()[0], DONE, epochs=epochs))
    assert np.isnan(store.read(STUDY.cells()[0]).epochs["test_ece_posterior"]).all()


def test_a_cell_that_ran_again_replaces_the_failed_one(store: Folder) -> None:
    store.write(result(status=FAILED))
    store.write(result(status=DIVERGED))
    assert store.read(STUDY.cells()[0]).status == DIVERGED


def test_a_crash_while_writing_leaves_no_cell(store: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole.os, "fsync", full)
    with pytest.raises(BenchError, match="no space left"):
        store.write(result())
    assert store.read(STUDY.cells()[0]).status == MISSING
    assert list(store.cells_dir.iterdir()) == []


def test_a_cell_lies_on_the_disk_before_it_is_seen_and_its_name_before_it_is_said_to_be_stored(
    store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[int] = []
    sync, rename = os.fsync, os.replace
    before: list[set[int]] = []

    def fsync(handle: int) -> None:
        sync(handle)
        on_disk.append(os.fstat(handle).st_ino)

    def replaced(source: Path, target: Path) -> None:
        before.append(set(on_disk))
        on_disk.clear()
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replaced)
    assert store.write(result())
    folder = store.cells_dir / STUDY.cells()[0].key
    files = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert set(files) == {"config.json", "env.json", "epochs.parquet", "status.json"}
    assert before == [{*files.values(), folder.stat().st_ino}]
    assert on_disk == [store.cells_dir.stat().st_ino]


def test_a_cell_that_another_process_has_stored_meanwhile_stays(store: Folder) -> None:
    assert store.write(result())
    assert not store.write(replace(result(), seconds=99.0))
    assert store.read(STUDY.cells()[0]).seconds == 1.5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked")
def test_a_forked_process_stores_cells_too(store: Folder) -> None:
    store.write(result(0))
    child = multiprocessing.get_context("fork").Process(target=store.write, args=(result(1),))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert store.read(STUDY.cells()[1]).status == DONE


def part_of(who: Owner) -> str:
    return f".part-key~{who.host}~{who.pid}~{who.started}~x"


DEAD = Owner(me().host, 2**22 + 1, me().started)  # above the greatest process number


def test_what_dead_processes_left_half_made_is_swept_by_the_next_run(store: Folder) -> None:
    (store.cells_dir / part_of(DEAD)).mkdir()
    old = store.cells_dir / part_of(Owner("elsewhere", 1, "x"))
    old.mkdir()
    os.utime(old, (0, 0))
    store.open(STUDY, about={})
    assert list(store.cells_dir.iterdir()) == []


def test_what_a_living_process_is_making_is_left_alone(store: Folder) -> None:
    mine, away = store.cells_dir / part_of(me()), store.cells_dir / part_of(Owner("elsewhere", 1, "x"))
    mine.mkdir()
    away.mkdir()
    store.open(STUDY, about={})
    assert len(list(store.cells_dir.iterdir())) == 2


def test_a_process_whose_number_was_given_to_another_is_dead() -> None:
    assert me().alive
    boot, space, ticks, *machine = [*me().started.split("."), "", "", ""]
    earlier = ".".join([boot, space, f"{ticks}0", *machine])
    assert replace(me(), started=earlier).alive is False
    assert replace(me(), host="elsewhere").alive is None
    assert parse(str(me())) == me()
    assert parse("nobody") is None


def test_a_cell_that_another_process_has_just_finished_stays(store: Folder) -> None:
    store.write(result())
    path = store.cells_dir / STUDY.cells()[0].key / "status.json"
    before = path.stat().st_ino
    store.write(replace(result(), seconds=9.0))
    assert path.stat().st_ino == before
    assert store.read(STUDY.cells()[0]).seconds == 1.5
    assert [p.name for p in store.cells_dir.iterdir()] == [STUDY.cells()[0].key]


def test_processes_may_write_the_same_cells_at_once(store: Folder) -> None:
    context = multiprocessing.get_context("fork")
    some = [context.Process(target=write_often, args=(store,)) for _ in range(4)]
    for process in some:
        process.start()
    for process in some:
        process.join()
    assert [process.exitcode for process in some] == [0] * 4
    assert [c.status for c in store.results().cells] == [DONE] * 4
    assert not list(store.cells_dir.glob(".*"))


def write_often(store: Folder) -> None:
    for index in range(4):
        for status in (FAILED, FAILED, DONE):
            store.write(result(index, status))


@pytest.mark.parametrize("file", ["status.json", "env.json", "epochs.parquet"])
def test_a_damaged_cell_is_told_and_counts_as_failed(store: Folder, file: str) -> None:
    store.write(result())
    path = store.cells_dir / STUDY.cells()[0].key / file
    path.write_bytes(path.read_bytes()[:10])
    back = store.read(STUDY.cells()[0])
    assert back.status == FAILED
    assert "cannot be read" in back.reason
    (line,) = store.set_aside_broken(STUDY.cells())
    assert "runs again" in line
    assert store.read(STUDY.cells()[0]).status == MISSING
    (kept,) = (store.root / "set-aside").iterdir()
    assert {p.name for p in kept.iterdir()} >= {"status.json", "env.json", "epochs.parquet"}


def test_a_single_changed_bit_is_found_by_its_checksum(store: Folder) -> None:
    store.write(result())
    path = store.cells_dir / STUDY.cells()[0].key / "epochs.parquet"
    content = bytearray(path.read_bytes())
    at = content.find(np.array([1.0, 2.0]).tobytes())
    assert at > 0  # a number that no parser would object to
    content[at + 2] ^= 1
    path.write_bytes(content)
    assert "checksum" in store.read(STUDY.cells()[0]).reason


def test_a_cell_of_an_earlier_version_without_checksums_is_read(store: Folder) -> None:
    store.write(result())
    path = store.cells_dir / STUDY.cells()[0].key / "status.json"
    status = json.loads(path.read_text())
    del status["files"]
    path.write_text(json.dumps(status))
    assert store.read(STUDY.cells()[0]).status == DONE
    assert store.set_aside_broken(STUDY.cells()) == []


def test_another_study_is_refused_unless_resumed(store: Folder) -> None:
    store.write(result())
    other = replace(STUDY, setting=replace(STUDY.setting, epochs=3))
    with pytest.raises(BenchError, match=r"epochs: 2 there, 3 now"):
        store.open(other, about={})
    store.open(other, about={}, resume=True)
    assert store.study() == other
    store.open(STUDY, about={}, resume=True)
    assert store.read(STUDY.cells()[0]).status == DONE  # its cells were kept


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BenchError, match="holds no study"):
        Folder(tmp_path).open(STUDY, about={}, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["", "[]", '{"study": {}}', '{"study": {"setting": {"color": 1}}}'])
def test_a_study_file_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(BenchError, match="cannot be read as a study"):
        Folder(tmp_path).results()


def test_no_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="holds no study"):
        Folder(tmp_path / "nothing").results()


def test_files_are_json_and_parquet_only(store: Folder) -> None:
    store.write(result())
    names = {p.name for p in (store.cells_dir / STUDY.cells()[0].key).iterdir()}
    assert names == {"config.json", "env.json", "epochs.parquet", "status.json"}
    assert json.loads((store.cells_dir / STUDY.cells()[0].key / "config.json").read_text())["loss"] == "cce"
