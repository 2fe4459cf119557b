"""The index says what the folders say, and is never believed against them."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adma.bench import index as index_module
from adma.bench import pieces as pieces_module
from adma.bench.folder import Folder
from adma.bench.index import Index
from adma.bench.pieces import Pieces, to_merge
from adma.bench.result import COLUMNS, DIVERGED, DONE, FAILED, MISSING, CellResult
from adma.bench.store import Store
from adma.bench.study import Cell, Setting, Study

STUDY = Study(Setting("digits", "0123456789abcdef", epochs=2, lr=0.1), ("cce", "adma:a=learn"), tuple(range(6)))


def result(cell: Cell, number: int, status: str = DONE) -> CellResult:
    epochs = {name: np.array([number, 2 if name == "epoch" else np.nan]) for name in COLUMNS}
    trace = {"step": np.arange(3), "a": np.full(3, 0.1 * number)} if "learn" in cell.loss else {}
    return CellResult(cell, status, f"why {number}", number / 7, epochs, {"shared": {"init": number}}, trace)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(index_module, "_LEAST", 3)
    made = Folder(tmp_path / "out")
    made.open(STUDY, about={})
    statuses = [DONE] * 8 + [DIVERGED, FAILED]  # two are missing
    for number, (cell, status) in enumerate(zip(STUDY.cells(), statuses, strict=False)):
        made.write(result(cell, number, status))
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the cells whose folders are read."""
    found: list[str] = []
    read = Store.read

    def noted(self: Store, cell: Cell) -> CellResult:
        found.append(cell.key)
        return read(self, cell)

    monkeypatch.setattr(Store, "read", noted)
    return found


def same(one: CellResult, other: CellResult) -> bool:
    def bits(columns: dict[str, np.ndarray]) -> dict[str, bytes]:
        return {name: np.asarray(v, np.float64).tobytes() for name, v in columns.items()}

    return (
        replace(one, epochs={}, trace={}, env={}) == replace(other, epochs={}, trace={}, env={})
        and bits(dict(one.epochs)) == bits(dict(other.epochs))
        and bits(dict(one.trace)) == bits(dict(other.trace))
        and dict(one.env) == dict(other.env)
    )


def pieces(folder: Folder) -> list[Path]:
    return sorted((folder.root / "index").glob("*.parquet"))


def test_read_through_the_index_every_cell_is_as_in_its_folder(folder: Folder, reads: list[str]) -> None:
    cells = STUDY.cells()
    reference = [folder.read(cell) for cell in cells]
    for _ in range(2):  # from the folders, then from the index that this has made
        reads.clear()
        found = Index(folder).read(cells)
        assert all(same(one, other) for one, other in zip(found, reference, strict=True))
        assert pieces(folder)
    assert reads == [cells[9].key], "what failed is looked at again, the rest is in the index"
    known = Index(folder).known(cells)
    assert [known[c.key].status for c in cells] == [DONE] * 8 + [DIVERGED, FAILED, MISSING, MISSING]
    assert [known[c.key].seconds for c in cells[:9]] == [number / 7 for number in range(9)]


def test_some_cells_in_any_order(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces_module, "_GROUP", 2)
    cells = STUDY.cells()
    Index(folder).read(cells)
    some = [cells[n] for n in (7, 0, 10, 3, 3)]
    found = Index(folder).read(some)
    assert all(same(one, folder.read(cell)) for one, cell in zip(found, some, strict=True))


def test_a_folder_that_changed_or_went_is_read_again(folder: Folder) -> None:
    cells = STUDY.cells()
    Index(folder).read(cells)
    (folder.cells_dir / cells[0].key / "env.json").unlink()  # changes the folder
    assert Index(folder).read(cells)[0].status == FAILED
    for path in (folder.cells_dir / cells[1].key).iterdir():
        path.unlink()
    (folder.cells_dir / cells[1].key).rmdir()
    assert Index(folder).read(cells)[1].status == MISSING


def test_a_file_changed_in_its_place_is_found_where_that_is_asked_for(folder: Folder) -> None:
    cells = STUDY.cells()
    Index(folder).read(cells)
    path = folder.cells_dir / cells[2].key / "epochs.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert Index(folder).known(cells, checked=True)[cells[2].key].status == FAILED


@pytest.mark.parametrize("content", [b"", b"PAR1 not really", None])
def test_what_is_no_piece_is_made_again_from_the_folders(
    folder: Folder, content: bytes | None, reads: list[str]
) -> None:
    cells = STUDY.cells()
    Index(folder).read(cells)
    (path,) = pieces(folder)
    whole = path.read_bytes()
    path.write_bytes(content if content is not None else whole[:-20])
    assert [r.status for r in Index(folder).read(cells)][:9] == [DONE] * 8 + [DIVERGED]
    reads.clear()
    assert [r.status for r in Index(folder).read(cells)][:9] == [DONE] * 8 + [DIVERGED]
    assert len(reads) == 1


def test_a_piece_that_is_not_as_it_was_written_is_made_again(folder: Folder) -> None:
    """Whichever byte of it a disk has lost: no number comes out wrong, and nothing fails."""
    cells = STUDY.cells()
    before = Index(folder).read(cells)
    (path,) = pieces(folder)
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        for other in pieces(folder):
            other.unlink()
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert set(Index(folder).cells()) >= set(cells[:9]), at
        assert all(same(one, other) for one, other in zip(Index(folder).read(cells), before, strict=True)), at
        known = Index(folder).known(cells, checked=True)
        assert [known[r.cell.key].status for r in before] == [r.status for r in before], at


def test_a_damaged_piece_is_no_hindrance_where_pieces_are_merged(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces_module, "_MOST", 1)
    cells = STUDY.cells()
    Index(folder).read(cells)
    (path,) = pieces(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes(200) + whole[240:])
    index = Index(folder)
    for number, cell in enumerate(Cell(STUDY.setting, "mse", seed) for seed in range(3)):
        folder.write(result(cell, number))
        index.add(result(cell, number))
    assert path not in pieces(folder)
    assert [r.status for r in Index(folder).read(cells)][:9] == [DONE] * 8 + [DIVERGED]


def test_without_its_folder_the_index_is_made_again(folder: Folder, reads: list[str]) -> None:
    cells = STUDY.cells()
    before = Index(folder).read(cells)
    for path in pieces(folder):
        path.unlink()
    (folder.root / "index").rmdir()
    assert all(same(one, other) for one, other in zip(Index(folder).read(cells), before, strict=True))
    reads.clear()
    assert all(same(one, other) for one, other in zip(Index(folder).read(cells), before, strict=True))
    assert reads == [cells[9].key]


def test_the_one_file_of_earlier_versions_gives_way(folder: Folder) -> None:
    old = folder.root / "index.parquet"
    old.write_bytes(b"PAR1 of an earlier version")
    assert [r.status for r in Index(folder).read(STUDY.cells())][:9] == [DONE] * 8 + [DIVERGED]
    assert not old.exists()


def test_a_folder_that_may_only_be_read_needs_no_index(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise index_module.BenchError("read-only")

    monkeypatch.setattr(index_module, "add", refused)
    assert len(Index(folder).read(STUDY.cells())) == 12
    assert not pieces(folder)


def test_what_a_run_stores_is_in_the_index_without_being_read(folder: Folder, reads: list[str]) -> None:
    cells = [Cell(STUDY.setting, "mse", seed) for seed in range(7)]
    index = Index(folder)
    for number, cell in enumerate(cells):
        folder.write(result(cell, number))
        index.add(result(cell, number))
    assert len(pieces(folder)) == 2  # of three each
    found = Index(folder).read(cells)
    assert reads == [cells[6].key]
    assert all(same(one, folder.read(cell)) for one, cell in zip(found, cells, strict=True))


def test_all_cells_of_a_store_are_known_by_the_index_and_the_folders(folder: Folder, tmp_path: Path) -> None:
    in_folders = Index(folder).cells()
    assert {c.key: c for c in in_folders} == {c.key: c for c in STUDY.cells()[:10]}
    Index(folder).read(STUDY.cells())
    for path in folder.cells_dir.glob("*/config.json"):
        os.utime(path)
        path.write_text("")
    known = [c for c in in_folders if c != STUDY.cells()[9]]  # it failed, so it is in no index
    assert Index(folder).cells() == known
    assert Index(Folder(tmp_path / "nowhere")).cells() == []


# -- pieces --------------------------------------------------------------------------------------------------------


def test_pieces_are_merged_when_there_are_many_and_nothing_is_lost(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    monkeypatch.setattr(pieces_module, "_MOST", 4)
    cells = [Cell(STUDY.setting, "mse", seed) for seed in range(60)]
    index = Index(folder)
    most = 0
    for number, cell in enumerate(cells):
        folder.write(result(cell, number))
        index.add(result(cell, number))
        most = max(most, len(pieces(folder)))
    assert most <= 4
    found = Index(folder).read(cells)
    assert not reads
    assert all(same(one, folder.read(cell)) for one, cell in zip(found, cells, strict=True))


def test_of_two_rows_of_a_cell_the_one_of_its_folder_as_it_is_now_counts(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    cells = STUDY.cells()[:3]
    for number in (10, 20, 30):  # each time all are set aside and run again
        for cell in cells:
            folder.put_aside(cell)
            folder.write(result(cell, number))
        Index(folder).read(cells)
    assert len(pieces(folder)) == 3
    reads.clear()
    assert [r.reason for r in Index(folder).read(cells)] == ["why 30"] * 3
    assert not reads
    monkeypatch.setattr(pieces_module, "_MOST", 2)
    more = STUDY.cells()[3:6]
    Index(folder).read(more)  # which merges
    with Pieces(folder.root / "index") as merged:
        assert sorted(merged.column("key")) == sorted(cell.key for cell in [*cells, *more])
    reads.clear()
    assert [r.reason for r in Index(folder).read(cells)] == ["why 30"] * 3
    assert not reads


def test_several_processes_may_write_and_merge_at_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces_module, "_MOST", 3)
    errors: list[BaseException] = []

    def work(loss: str) -> None:
        try:
            index = Index(folder)
            cells = [Cell(STUDY.setting, loss, seed) for seed in range(40)]
            for number, cell in enumerate(cells):
                folder.write(result(cell, number))
                index.add(result(cell, number))
                if number % 8 == 0:
                    found = Index(folder).read(cells)
                    assert [r.status for r in found] == [DONE] * (number + 1) + [MISSING] * (39 - number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(loss,)) for loss in ("mse", "mae", "focal:gamma=2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    cells = [Cell(STUDY.setting, loss, seed) for loss in ("mse", "mae", "focal:gamma=2") for seed in range(40)]
    assert all(same(one, folder.read(cell)) for one, cell in zip(Index(folder).read(cells), cells, strict=True))


@given(st.lists(st.integers(256, 4096), min_size=1, max_size=400))
def test_pieces_stay_few_and_each_row_is_written_seldom(new: list[int]) -> None:
    sizes: list[int] = []
    written = 0
    for size in new:
        sizes.append(size)
        written += size
        if len(sizes) > 16:
            chosen = to_merge(sizes)
            merged = sum(sizes[n] for n in chosen)
            sizes = [s for n, s in enumerate(sizes) if n not in chosen] + [merged]
            written += merged
        assert len(sizes) <= 16
    assert sum(sizes) == sum(new)
    assert written <= sum(new) * (2 + np.log2(len(new)))
