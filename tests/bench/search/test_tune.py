"""The command `adma tune`: real processes that are killed, share a search, and lose their database."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from adma_command import cells_in, start, wait_for_cells
from postgres_cluster import PASSWORD, Cluster

from adma.bench.folder import Folder
from adma.bench.result import DONE
from adma.bench.search.trials import Trial
from adma.bench.tune import _read_trials
from adma.cli import main

QUICK = [
    "tune", "digits", "--model", "mlp", "--epochs", "2", "--train-size", "60", "--eval-size", "200", "--loss", "adma",
    "--trials", "6", "--seeds", "2", "--final-seeds", "2", "--jobs", "1",
]  # fmt: skip
CELLS = 6 * 2 + 2


def tried(root: Path) -> list[Trial]:
    """The trials that a folder tells of, without who ran them and under which number."""
    return [
        Trial(t.index, t.params, t.state, t.values, t.diverged, t.epochs, t.reason) for t in _read_trials(root)["adma"]
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole") / "out"
    assert main([*QUICK, "--out", str(root)]) == 0
    return root


def test_a_search_leaves_trials_winner_report_and_csv(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = tried(whole)
    assert [t.index for t in trials] == list(range(6))
    assert {t.state for t in trials} == {"complete"}
    assert {t.epochs for t in trials} == {4}
    assert len(cells_in(whole)) == CELLS
    lines = [line for line in (whole / "trials.csv").read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert len(rows) == 6
    winner = max(trials, key=lambda t: t.value)
    chosen = [row for row in rows if row["winner"]]
    assert [(row["a"], row["lr"]) for row in chosen] == [(repr(winner.params["a"]), repr(winner.params["lr"]))]
    assert float(chosen[0]["val_accuracy"]) == pytest.approx(winner.value)
    page = (whole / "tune.html").read_text()
    assert f"adma:a={winner.params['a']}" in page
    assert "<script" not in page
    capsys.readouterr()
    assert main(["report", str(whole)]) == 0  # the same, from what the folder holds
    told = capsys.readouterr().out
    assert f"adma.AdmaLoss(a={winner.params['a']})  # learning rate {winner.params['lr']:.3g}" in told
    assert (whole / "tune.html").read_text() == page


def test_the_winner_is_trained_with_fresh_seeds_and_test_plays_no_part_before(whole: Path) -> None:
    store = Folder(whole)
    winner = max(tried(whole), key=lambda t: t.value)
    configs = [json.loads((path / "config.json").read_text()) for path in cells_in(whole)]
    seeds = Counter(c["seed"] for c in configs)
    assert seeds == {0: 6, 1: 6, 2: 1, 3: 1}
    assert {(c["loss"], c["lr"]) for c in configs if c["seed"] > 1} == {
        (f"adma:a={winner.params['a']}", winner.params["lr"])
    }
    journal = (whole / "trials.journal").read_text()
    assert "test_accuracy" not in journal  # no measure of it is where the sampler looks
    told = [json.loads(line).get("intermediate_value") for line in journal.splitlines()]
    val = [value for t in tried(whole) for value in t.values.values()]
    assert sorted(v for v in told if v is not None) == sorted(val)
    assert store.search()["settings"]["seeds"] == 2


def test_killed_in_the_middle_and_started_again_it_ends_with_the_same_trials(tmp_path: Path, whole: Path) -> None:
    process = start(*QUICK, "--out", "out", cwd=tmp_path)
    wait_for_cells(tmp_path / "out", 5, process)
    process.kill()
    process.communicate(timeout=120)
    before = {path.name: path.stat().st_mtime_ns for path in cells_in(tmp_path / "out")}
    assert 5 <= len(before) < CELLS
    assert main([*QUICK, "--out", str(tmp_path / "out")]) == 0
    assert tried(tmp_path / "out") == tried(whole)
    assert {p.name for p in cells_in(tmp_path / "out")} == {p.name for p in cells_in(whole)}
    assert before.items() <= {p.name: p.stat().st_mtime_ns for p in cells_in(tmp_path / "out")}.items()
    assert not list((tmp_path / "out" / "cells").glob(".*"))


def test_two_processes_search_together_and_one_goes_on_when_the_other_is_interrupted(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = start(*QUICK, "--out", "out", cwd=tmp_path)
    wait_for_cells(tmp_path / "out", 1, other)

    def interrupt() -> None:
        wait_for_cells(tmp_path / "out", 8, other)
        os.killpg(other.pid, signal.SIGINT)

    capsys.readouterr()
    with meanwhile(interrupt):
        assert main([*QUICK, "--out", str(tmp_path / "out")]) == 0
    mine = capsys.readouterr().err
    told, theirs = other.communicate(timeout=240)
    assert other.returncode == 130, theirs
    assert "run the same command again to continue" in told
    lines = [[line for line in err.splitlines() if "val accuracy" in line] for err in (mine, theirs)]
    assert all(lines)  # both have trained
    names = [line.partition("] ")[2].partition(": val")[0] for some in lines for line in some]
    assert len(names) == len(set(names)) == CELLS  # nothing twice
    assert tried(tmp_path / "out") == tried(whole)


def test_a_team_searches_in_postgresql_which_goes_away_and_comes_back(
    tmp_path: Path, postgres: Cluster, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "out"
    command = [*QUICK, "--out", str(root), "--storage", postgres.url()]

    def stop() -> None:
        while len(cells_in(root)) < 5:
            time.sleep(0.02)
        postgres.stop()

    try:
        with meanwhile(stop):
            assert main(command) == 2
    finally:
        postgres.start()
    told = capsys.readouterr().err
    assert "run the same command again once it does" in told
    assert PASSWORD not in told
    kept = {path.name for path in cells_in(root)}
    assert 5 <= len(kept) < CELLS
    assert len(tried(root)) >= 2  # a report needs no database
    assert main(command) == 0
    assert tried(root) == tried(whole)
    assert kept < {p.name for p in cells_in(root)} == {p.name for p in cells_in(whole)}
    for file in ("tune.json", "tune.html", "trials.csv"):
        assert PASSWORD not in (root / file).read_text()


@contextmanager
def meanwhile(task: Callable[[], None]) -> Iterator[None]:
    """Do something beside the main thread, which a command needs for its signals."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(task)
        yield
        future.result(timeout=240)


def test_a_wrong_password_and_a_database_that_is_not_there_are_told(
    tmp_path: Path, postgres: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    for url, words in [
        (postgres.url(password="guess-of-mine"), "password authentication failed"),
        (postgres.url(database="nowhere"), 'database "nowhere" does not exist'),
    ]:
        assert main([*QUICK, "--out", str(tmp_path / "out"), "--storage", url]) == 2
        told = capsys.readouterr().err
        assert words in told
        assert "guess-of-mine" not in told
        assert PASSWORD not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "3"], "seeds: 2 there, 3 now"),
        (["--epochs", "1"], "epochs: 2 there, 1 now"),
        (["--lr", "0.001"], "lr:"),
        (["--train-size", "70"], "train_size: 60 there, 70 now"),
        (["--label-noise", "0.2"], "label_noise: 'none' there"),
        (["--seed", "1"], "seed: 0 there, 1 now"),
    ],
)
def test_a_folder_with_another_search_is_refused_and_stays(
    whole: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}
    assert main([*QUICK, "--out", str(whole), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert before == {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--loss", "adam"], "did you mean 'adma'"),
        (["--loss", "adma:a=0.5..0.1"], "LOW below HIGH"),
        (["--lr", "0..1"], "a learning rate is above 0"),
        (["--pruner", "wilcoxon"], "it would save nothing; --seeds 5 or more can, or --pruner none"),
        (["--pruner", "hyperband"], "not known"),
        (["--storage", "postgres"], "not a database's URL"),
        (["--storage", "postgresql+psycopg://me:secret@127.0.0.1:1/x"], "connection"),
        (["--trials", "0"], "must be a whole number from 1"),
        (["--final-seeds", "0"], "must be a whole number from 1"),
        (["--rope", "0"], "must be a number above 0"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main([*QUICK, "--out", str(tmp_path / "out"), *arguments])
    except SystemExit as stop:
        code = int(str(stop.code))
    told = capsys.readouterr().err
    assert code == 2
    assert words in told
    assert "secret" not in told
    assert not cells_in(tmp_path / "out")


def test_folders_of_other_commands_are_told_apart(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "digits", "--out", str(whole)]) == 2
    assert "holds a search of adma tune" in capsys.readouterr().err
    (tmp_path / "study.json").write_text("{}")
    assert main([*QUICK, "--out", str(tmp_path)]) == 2
    assert "holds a study of adma compare" in capsys.readouterr().err
    assert Folder(whole).read(next(iter_cells(whole))).status == DONE


@pytest.mark.parametrize("option", ["--metric", "--baseline", "--rope"])
def test_what_a_searchs_report_cannot_choose_is_refused_and_not_ignored(
    option: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(whole), option, "0"]) == 2
    assert f"{option}: {whole} holds a search of adma tune" in capsys.readouterr().err


def iter_cells(root: Path):  # type: ignore[no-untyped-def]
    from adma.bench.study import Cell

    for path in cells_in(root):
        yield Cell.from_config(json.loads((path / "config.json").read_text()))
