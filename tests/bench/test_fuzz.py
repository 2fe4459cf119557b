"""Whatever lies in a file: it is read, or it is refused in words; nothing else is raised, and nothing is made up.

Each property takes bytes that were good and does something to them: a few dozen examples, always the same.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from adma.bench.checkpoint import Keeper, Position
from adma.bench.data import Dataset
from adma.bench.data.catalog import load
from adma.bench.errors import BenchError
from adma.bench.index import Index
from adma.bench.result import COLUMNS, DONE, FAILED, MISSING, CellResult
from adma.bench.store import Store
from adma.bench.study import Cell, Setting
from adma.bench.studyfile import read_study, tasks

some = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
few = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])

# what is done to good bytes: (what, where as a share of their length, how long, with what)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "drop", "put", "end"]),
        st.floats(0, 1),
        st.integers(1, 64),
        st.binary(max_size=16),
    ),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    data = bytearray(content)
    for what, where, length, new in changes:
        at = int(where * max(0, len(data) - 1))
        if what == "flip" and data:
            data[at] ^= length
        elif what == "cut":
            del data[at:]
        elif what == "drop":
            del data[at : at + length]
        elif what == "put":
            data[at:at] = new
        else:
            data += new
    return bytes(data)


@contextmanager
def folder() -> Iterator[Path]:
    """Hypothesis runs one test function many times: a folder for each."""
    path = Path(tempfile.mkdtemp(prefix="adma-fuzz-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def read_or_refused(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except BenchError as error:
        words = str(error)
    assert words.strip()
    return None


# -- study files ---------------------------------------------------------------------------------------------

STUDY = b"""# a study
title: one
data: [digits]
losses: [cce, "adma:a=0.26"]
model: mlp
epochs: 2
seeds: 2
lr: 1e-3
variants:
  fast: {lr: 1.0e-2}
scales:
  smoke: {epochs: 1}
"""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["digits", "adma:a=0.26", "learn", "1e-3", "smoke", "paper", "5x5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
KEYS = st.sampled_from(
    ["title", "data", "losses", "model", "epochs", "seeds", "lr", "variants", "scales", "extends", "per_data", "table"]
) | st.text(max_size=8)


@some
@given(CHANGES)
def test_a_changed_study_file(changes: list[tuple[str, float, int, bytes]]) -> None:
    with folder() as path:
        (path / "study.yaml").write_bytes(changed(STUDY, changes))
        study = read_or_refused(lambda: read_study(path / "study.yaml"))
        if study is not None:
            read_or_refused(lambda: list(tasks(study)))


@some
@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_any_study_file(content: dict[str, Any]) -> None:
    with folder() as path:
        (path / "study.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        study = read_or_refused(lambda: read_study(path / "study.yaml"))
        if study is not None:
            read_or_refused(lambda: list(tasks(study)))


# -- data ----------------------------------------------------------------------------------------------------


@cache
def picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), value, dtype=np.uint8)).save(buffer, "PNG" if value % 2 else "JPEG")
    return buffer.getvalue()


PICTURES = {f"{name}/{i}.{'png' if i % 2 else 'jpg'}": i for name in ("cat", "dog") for i in range(4)}


@cache
def archive(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == ".npz":
        np.savez(buffer, x=np.arange(96, dtype=np.uint8).reshape(6, 1, 4, 4), y=np.array([0, 1, 2, 0, 1, 2]))
    elif kind == ".zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
            for name, value in PICTURES.items():
                out.writestr(name, picture(value))
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if kind == ".tar.gz" else "w") as tar:
            for name, value in PICTURES.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(picture(value))
                tar.addfile(entry, io.BytesIO(picture(value)))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [".npz", ".zip", ".tar", ".tar.gz"])
def test_the_unchanged_archive_is_read(kind: str) -> None:
    with folder() as path:
        (path / f"data{kind}").write_bytes(archive(kind))
        assert len(load(str(path / f"data{kind}")).y) == (6 if kind == ".npz" else 8)


@some
@given(st.sampled_from([".npz", ".zip", ".tar", ".tar.gz"]), CHANGES, st.booleans())
def test_a_changed_archive(kind: str, changes: list[tuple[str, float, int, bytes]], skip_bad: bool) -> None:
    with folder() as path:
        (path / f"data{kind}").write_bytes(changed(archive(kind), changes))
        found = read_or_refused(lambda: load(str(path / f"data{kind}"), skip_bad=skip_bad))
        assert found is None or sound(found)
        assert os.listdir(path) == [f"data{kind}"]  # nothing is unpacked beside it


@few
@given(st.sampled_from(sorted(PICTURES)), CHANGES, st.booleans())
def test_a_folder_with_a_changed_picture(
    name: str, changes: list[tuple[str, float, int, bytes]], skip_bad: bool
) -> None:
    with folder() as path:
        for other, value in PICTURES.items():
            (path / other).parent.mkdir(exist_ok=True)
            (path / other).write_bytes(picture(value))
        (path / name).write_bytes(changed(picture(PICTURES[name]), changes))
        found = read_or_refused(lambda: load(str(path), skip_bad=skip_bad))
        assert found is None or sound(found)
        if skip_bad:
            assert found is not None
            assert len(found.y) >= 7


def sound(data: Dataset) -> bool:
    """What a data set promises."""
    return len(data.x) == len(data.y) > 0 and set(np.unique(data.y)) <= set(range(data.num_classes))


# -- what a run leaves ---------------------------------------------------------------------------------------

CELL = Cell(Setting("digits", "0" * 16, model="mlp", epochs=3), "adma:a=0.26", 0)


def result() -> CellResult:
    chance = np.random.default_rng(0)
    epochs = {name: chance.random(3) for name in COLUMNS} | {"epoch": np.arange(1, 4)}
    return CellResult(CELL, DONE, "", 1.5, epochs, {"versions": {"torch": "2"}}, {"step": np.arange(3.0)})


def same(found: CellResult) -> bool:
    true = result()
    return (found.status, found.seconds, dict(found.env)) == (DONE, 1.5, dict(true.env)) and all(
        np.array_equal(found.epochs[name], true.epochs[name]) for name in true.epochs
    )


@some
@given(st.sampled_from(["config.json", "epochs.parquet", "env.json", "status.json", "trace.parquet"]), CHANGES)
def test_a_changed_cell_is_what_was_written_or_runs_again(
    name: str, changes: list[tuple[str, float, int, bytes]]
) -> None:
    with folder() as path:
        store = Store(path)
        store.prepare()
        store.write(result())
        file = store.cells_dir / CELL.key / name
        good = file.read_bytes()
        file.write_bytes(changed(good, changes))
        found = store.read(CELL)
        if file.exists() and file.read_bytes() == good:
            assert same(found)
        else:
            assert found.status in (MISSING, FAILED) or (same(found) and name == "status.json")
            assert found.status != FAILED or "cannot be read" in found.reason


@few
@given(st.floats(0, 0.999), CHANGES)
def test_a_changed_index_changes_nothing(which: float, changes: list[tuple[str, float, int, bytes]]) -> None:
    with folder() as path:
        store = Store(path)
        store.prepare()
        store.write(result())
        index = Index(store)
        index.read([CELL])
        files = sorted(p for p in path.rglob("*.parquet") if "cells" not in p.parts)
        for file in files[int(which * len(files)) :][:1]:
            file.write_bytes(changed(file.read_bytes(), changes))
        assert Index(store).known([CELL])[CELL.key].status == DONE
        assert same(Index(store).read([CELL])[0])


@some
@given(CHANGES, st.booleans())
def test_a_changed_checkpoint_is_never_gone_on_from(changes: list[tuple[str, float, int, bytes]], before: bool) -> None:
    import torch

    with folder() as path:
        keeper = Keeper(path, CELL)
        if before:
            keeper.save(Position(1, 2), {"w": torch.arange(5.0)})
        keeper.save(Position(2, 1), {"w": torch.arange(6.0)})
        (file,) = (p for p in (path / "checkpoints").rglob(CELL.key))
        good = file.read_bytes()
        file.write_bytes(changed(good, changes))
        found = Keeper(path, CELL).load()
        if file.exists() and file.read_bytes() == good:
            assert found is not None
            assert found[0] == Position(2, 1)
        elif found is not None and found[0] == Position(2, 1):  # the change did not touch what it holds
            assert torch.equal(found[1]["w"], torch.arange(6.0))
        elif before:
            assert found is not None
            assert found[0] == Position(1, 2)
            assert torch.equal(found[1]["w"], torch.arange(5.0))
        else:
            assert found is None
