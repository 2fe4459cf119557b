"""A results folder in an object store: a real server of S3's interface, from moto, on this machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adma.bench.checkpoint import Keeper, Position
from adma.bench.errors import BenchError
from adma.bench.files import Local, Remote
from adma.bench.lease import Lease
from adma.bench.mirror import Mirror, folder_at
from adma.bench.owner import Owner
from adma.bench.remote_lease import RemoteLeases
from adma.bench.result import COLUMNS, DONE, FAILED, MISSING, CellResult
from adma.bench.store import Store
from adma.bench.study import Cell, Setting, Study
from adma.cli import main

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'adma[s3]'; folders behind URLs are not tested")
server_of = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[server]'")

SETTING = Setting("digits", "0123456789abcdef", model="mlp", epochs=1)
STUDY = Study(SETTING, ("cce", "mse"), (0, 1))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    import s3fs

    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket"
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    running.stop()


@pytest.fixture
def url(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that nothing is in yet; the copies lie in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    return f"{server}/{tmp_path.name}"


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "elsewhere") -> None:
    """As on another machine, which has no copy."""
    (tmp_path / name).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / name)


def result_of(cell: Cell, status: str = DONE, value: float = 0.5) -> CellResult:
    epochs = {name: np.array([value]) for name in COLUMNS if status == DONE}
    return CellResult(cell, status, "" if status == DONE else "no reason", 1.5, epochs, {"versions": {}})


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_the_same_verbs_do_the_same_here_and_there(kind: str, url: str, tmp_path: Path) -> None:
    files: Any = Local(tmp_path) if kind == "local" else Remote(url)
    assert files.names("some/folder") == []
    assert files.size("some/folder/a") == 0
    for name in ("b", "a"):
        files.write(f"some/folder/{name}", name.encode() * 5000)
    files.write("some/other", b"x")
    assert files.names("some/folder") == ["a", "b"]
    assert files.read("some/folder/a") == b"a" * 5000
    assert files.read("some/folder/a", 3) == b"aaa"
    files.move("some/folder/a", "some/folder/b")
    assert files.names("some/folder") == ["b"]
    assert files.size("some/folder/b") == 5000
    for _ in range(2):
        files.remove("some/folder/b")
    assert files.names("some/folder") == []
    with pytest.raises(FileNotFoundError):
        files.read("some/folder/b")


def test_cells_are_whole_there_or_missing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Mirror(url)
    here.open(STUDY, about={"command": "x"})
    first, second, third, _ = STUDY.cells()
    here.write(result_of(first))
    here.write(result_of(second, FAILED))
    there = Remote(url)
    elsewhere(tmp_path, monkeypatch)
    other = Mirror(url)
    assert other.study() == STUDY
    assert [other.read(cell).status for cell in STUDY.cells()] == [DONE, FAILED, MISSING, MISSING]
    np.testing.assert_array_equal(other.read(first).epochs["val_nll"], [0.5])

    here.write(result_of(third))  # after `other` was opened
    assert other.read(third).status == DONE
    other.write(result_of(second, value=0.25))  # a failed one is replaced
    assert here.read(second).final("val_nll") == 0.25
    other.write(result_of(first, value=0.75))  # a finished one is not
    assert Mirror(url).read(first).final("val_nll") == 0.5

    there.remove(f"cells/{second.key}/status.json")  # as when its writer was killed
    assert Mirror(url).read(second).status == MISSING
    there.write(f"cells/{first.key}/epochs.parquet", b"broken")
    broken = (elsewhere(tmp_path, monkeypatch, "third"), Mirror(url))[1]
    assert "its checksum differs" in broken.read(first).reason
    (line,) = broken.set_aside_broken([first])
    assert f"{url}/set-aside/{first.key}-1" in line
    assert there.read(f"set-aside/{first.key}-1/epochs.parquet") == b"broken"
    assert broken.read(first).status == MISSING


def test_a_folder_of_others_writes_nothing_outside_its_copy(url: str, tmp_path: Path) -> None:
    """A bucket may be anyone's, and its keys may hold any dots."""
    Mirror(url).open(STUDY, about={})
    cell, there = STUDY.cells()[0], Remote(url)
    outside = "../../../../../outside.txt"
    status = {"status": DONE, "reason": "", "seconds": 1.0, "files": {outside: "0"}}
    there.write(f"cells/{cell.key}/{outside}", b"evil")
    there.write(f"cells/{cell.key}/status.json", json.dumps(status).encode())
    there.write("cells/../status.json", json.dumps(status).encode())
    assert b"evil" in there.read_all([f"cells/{cell.key}/{outside}"]).values()
    folder = Mirror(url)
    assert folder.read(cell).status == FAILED
    assert not list(tmp_path.rglob("outside.txt"))
    assert folder.study() == STUDY


def test_a_broken_copy_is_brought_again(url: str) -> None:
    folder = Mirror(url)
    folder.open(STUDY, about={})
    cell = STUDY.cells()[0]
    folder.write(result_of(cell))
    (folder.cells_dir / cell.key / "epochs.parquet").write_bytes(b"broken")
    assert folder.read(cell).status == DONE


def test_what_could_not_be_sent_is_sent_next_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, cell = Mirror(url), STUDY.cells()[0]
    folder.open(STUDY, about={})
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "")

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError("no")

        patch.setattr(folder._files._fs, "pipe_file", refuse)
        with pytest.raises(BenchError, match=r"cannot be written \(PermissionError: no\)"):
            folder.write(result_of(cell))
    assert Store(folder.root).read(cell).status == DONE
    assert f"cells/{cell.key}/status.json" not in Remote(url).all_names("cells")
    Mirror(url)
    assert f"cells/{cell.key}/status.json" in Remote(url).all_names("cells")


def test_one_of_many_gets_a_lease_and_a_dead_ones_is_taken_over(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = STUDY.cells()[0]
    first, second = (RemoteLeases(Remote(url), beat=0.1, patience=0.5) for _ in range(2))
    far = Owner("far", 1, "")
    monkeypatch.setattr("adma.bench.owner.me", lambda: far)
    assert first.take(cell) is None
    monkeypatch.undo()
    holder = second.take(cell)
    assert isinstance(holder, Lease)
    assert holder.owner == far
    first.note(cell, epoch=3, epochs=10)
    until(lambda: [lease.reached for lease in second.all()] == [{"epoch": 3, "epochs": 10}])
    for _ in range(3):  # as long as it beats, it holds
        assert second.take(cell) is not None
    first._end.set()  # it is stopped
    until(lambda: second.take(cell) is None)
    first._end.clear()
    first._give_sign()
    assert first.lost == {cell.key}
    first.release(cell)
    assert [lease.nonce for lease in second.all()] == [second._nonce]
    second.close()
    assert Remote(url).names("leases") == [f"beat-{first._nonce}"]
    first.close()
    assert Remote(url).names("leases") == []


def test_who_slept_does_not_take_a_new_lease_of_the_same_number_for_its_own(url: str) -> None:
    """Numbers begin at 1 again when a lease has ended: taken over, ended, and taken once more while the first slept."""
    cell = STUDY.cells()[0]
    sleeper, second, third = (RemoteLeases(Remote(url), beat=60.0, patience=0.2) for _ in range(3))
    assert sleeper.take(cell) is None
    name = sleeper._held[cell.key]
    sleeper._give_sign()
    assert not sleeper.lost
    Remote(url).remove(name)  # by the second, as it took over
    assert second.take(cell) is None
    second.release(cell)
    assert third.take(cell) is None
    assert third._held[cell.key] == name
    time.sleep(0.2)
    sleeper._give_sign()
    assert sleeper.lost == {cell.key}
    third._give_sign()
    assert not third.lost
    sleeper.release(cell)
    assert [lease.nonce for lease in third.all()] == [third._nonce]
    for leases in (sleeper, second, third):
        leases.close()


def until(true: Any) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_checkpoints_are_kept_there(url: str) -> None:
    import torch

    cell = STUDY.cells()[0]
    keeper = Keeper(url, cell)
    for step in (1, 2):
        keeper.save(Position(1, step), {"x": torch.tensor([float(step)])})
    found = Keeper(url, cell).load()
    assert found is not None
    assert (found[0], found[1]["x"].item()) == (Position(1, 2), 2.0)
    files = Remote(url)
    (name,) = [n for n in files.all_names("checkpoints") if n.endswith(cell.key)]
    files.write(name, files.read(name)[:-1])  # cut short
    again = Keeper(url, cell)
    found = again.load()
    assert found is not None
    assert found[0] == Position(1, 1)
    assert "was moved to set-aside" in again.notes[0]
    again.tidy(keep=False)
    assert files.all_names("checkpoints") == []


@pytest.mark.slow
def test_the_command_works_behind_a_url(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", "digits", "--loss", "cce", "--seeds", "1", "--model", "mlp", "--train-size", "200"]
    arguments += ["--eval-size", "50", "--epochs", "2", "--jobs", "1", "--out", url]
    assert main(arguments) == 0
    there = Remote(url)
    assert b"<html" in there.read("report.html")
    assert len([name for name in there.all_names("cells") if name.endswith("status.json")]) == 1
    assert there.names("leases") == []
    assert len(there.all_names("checkpoints")) == 1
    elsewhere(tmp_path, monkeypatch)
    capsys.readouterr()
    assert main(["status", url]) == 0
    assert "all is done" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "[1/1]" not in capsys.readouterr().err  # nothing was trained again
    assert main([*arguments, "--lr", "0.1"]) == 2
    assert "this folder holds another study" in capsys.readouterr().err


def test_what_cannot_be_kept_there_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "digits", "--out", url]) == 2
    assert "name a database with --storage" in capsys.readouterr().err
    Remote(url).write("mine.txt", b"x")
    assert main(["compare", "digits", "--out", url]) == 2
    assert "is not empty and holds no study" in capsys.readouterr().err
    assert main(["compare", "digits", "--out", "nowhere://bucket/x"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert main(["compare", "digits", "--out", "s3://no-such-bucket/x"]) == 2
    assert "no-such-bucket" in capsys.readouterr().err
    files = Remote(url)
    files._fs.pipe_file, whole = (lambda path, value, **_: whole(path, value)), files._fs.pipe_file
    with pytest.raises(BenchError, match="two commands could not be kept apart"):
        RemoteLeases(files).take(STUDY.cells()[0])


def test_a_path_is_a_path(tmp_path: Path) -> None:
    assert folder_at(f"file://{tmp_path}").root == folder_at(tmp_path).root == tmp_path
    assert not isinstance(folder_at(tmp_path), Mirror)
    assert json.dumps(replace(STUDY).config())  # plain data, as headers are
