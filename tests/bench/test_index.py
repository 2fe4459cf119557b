"""The index says what the folders say, and is never believed against them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adma.bench import index as index_module
from adma.bench.folder import Folder
from adma.bench.index import Index
from adma.bench.result import COLUMNS, DIVERGED, DONE, FAILED, MISSING, CellResult
from adma.bench.study import Setting, Study

STUDY = Study(Setting("digits", "0123456789abcdef", epochs=2), ("cce", "adma:a=learn"), tuple(range(6)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(index_module, "_LEAST", 3)
    made = Folder(tmp_path / "out")
    made.open(STUDY, about={})
    statuses = [DONE] * 8 + [DIVERGED, FAILED]  # two are missing
    for number, (cell, status) in enumerate(zip(STUDY.cells(), statuses, strict=False)):
        epochs = {name: np.array([number, 2 if name == "epoch" else np.nan]) for name in COLUMNS}
        trace = {"step": np.arange(3), "a": np.full(3, 0.1 * number)} if "learn" in cell.loss else {}
        made.write(CellResult(cell, status, f"why {number}", number / 7, epochs, {"shared": {"init": number}}, trace))
    return made


def same(one: CellResult, other: CellResult) -> bool:
    def bits(columns: dict[str, np.ndarray]) -> dict[str, bytes]:
        return {name: np.asarray(v, np.float64).tobytes() for name, v in columns.items()}

    return (
        replace(one, epochs={}, trace={}, env={}) == replace(other, epochs={}, trace={}, env={})
        and bits(dict(one.epochs)) == bits(dict(other.epochs))
        and bits(dict(one.trace)) == bits(dict(other.trace))
        and dict(one.env) == dict(other.env)
    )


def test_read_through_the_index_every_cell_is_as_in_its_folder(folder: Folder) -> None:
    cells = STUDY.cells()
    for _ in range(2):  # from the folders, then from the index that this has made
        found = Index(folder).read(cells)
        assert all(same(one, folder.read(cell)) for one, cell in zip(found, cells, strict=True))
        assert (folder.root / "index.parquet").exists()
    known = Index(folder).known(cells)
    assert [known[c.key].status for c in cells] == [DONE] * 8 + [DIVERGED, FAILED, MISSING, MISSING]


def test_a_folder_that_changed_or_went_is_read_again(folder: Folder) -> None:
    cells = STUDY.cells()
    Index(folder).read(cells)
    folder.set_aside_broken(cells)
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
def test_an_index_that_is_none_is_made_again_from_the_folders(folder: Folder, content: bytes | None) -> None:
    cells = STUDY.cells()
    Index(folder).read(cells)
    path = folder.root / "index.parquet"
    whole = path.read_bytes()
    path.write_bytes(content if content is not None else whole[:-20])
    assert [r.status for r in Index(folder).read(cells)][:9] == [DONE] * 8 + [DIVERGED]
    assert len(path.read_bytes()) == pytest.approx(len(whole), rel=0.05)


def test_a_folder_that_may_only_be_read_needs_no_index(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise index_module.BenchError("read-only")

    monkeypatch.setattr(index_module, "write_whole", refused)
    assert len(Index(folder).read(STUDY.cells())) == 12
    assert not (folder.root / "index.parquet").exists()
