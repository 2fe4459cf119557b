"""`--until-decided`: seeds grow while something is open, the call goes on after a kill, verdicts are sequential."""

from __future__ import annotations

import os
import re
import signal
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from adma_command import adma, start, wait_for_cells

from adma.bench.engines import Began, Finished
from adma.bench.errors import BenchError
from adma.bench.folder import Folder
from adma.bench.progress import Counter
from adma.bench.result import COLUMNS, DIVERGED, DONE, FAILED, CellResult
from adma.bench.run import DEFAULT, Conduct, OutOfTimeError
from adma.bench.statistics import BETTER, EQUIVALENT, UNDECIDED, WORSE, summarise, watch
from adma.bench.study import Setting, Study
from adma.bench.until import Look, Steps, run_until_decided
from adma.cli import main

LOSSES = ("cce", "adma:a=0.26", "mse")
TINY = ["--model", "mlp", "--epochs", "1", "--train-size", "60", "--eval-size", "60", "--loss", "cce", "--loss", "mse"]


class Quiet(Counter):
    def say(self, words: str) -> None:
        return None

    def close(self) -> None:
        return None


class Instant:
    """An engine whose test accuracies are a function of the cell."""

    jobs = 1

    def __init__(self, accuracy: Callable) -> None:
        self.accuracy, self.ran = accuracy, []

    def run(self, cells):
        for cell in cells:
            yield Began(cell)
            self.ran.append((cell.loss, cell.seed))
            value = self.accuracy(cell)
            env = {"shared": {"split": str(cell.seed)}}
            if isinstance(value, str):
                yield Finished(CellResult(cell, value, f"why {value}", 0.1, {}, env))
            else:
                yield Finished(CellResult(cell, DONE, "", 0.1, {name: np.array([value]) for name in COLUMNS}, env))


def drawn(means: dict[str, float], spread: float = 0.004) -> Callable:
    """Each seed has its own luck, which the losses share, and each loss a little of its own."""

    def accuracy(cell):
        luck = np.random.default_rng(cell.seed).normal(0.9, 0.02)
        own = np.random.default_rng([cell.seed, zlib.crc32(cell.loss.encode())]).normal(0, spread)
        return luck + means[cell.loss] + own

    return accuracy


def go(
    root: Path, engine: Instant, steps: Steps, losses=LOSSES, rope: float | None = None, conduct: Conduct = DEFAULT
) -> tuple[Folder, list[Look]]:
    store, looks = Folder(root), []
    study = Study(Setting("d", "h"), losses, tuple(range(steps.max_seeds)))
    run_until_decided(
        study, steps, store, engine, about={"until_decided": asdict(steps)}, baseline="cce", rope=rope,
        display=Quiet, conduct=conduct, looked=looks.append,
    )  # fmt: skip
    return store, looks


CLEAR = {"cce": 0.0, "adma:a=0.26": 0.03, "mse": -0.03}


def test_it_stops_as_soon_as_every_loss_is_decided(tmp_path: Path) -> None:
    engine = Instant(drawn(CLEAR))
    store, looks = go(tmp_path / "o", engine, Steps(3, 2, 30))
    verdicts = {s.loss: s.watched.verdict for s in looks[-1].comparison.losses if s.watched}
    assert verdicts == {"adma:a=0.26": BETTER, "mse": WORSE}
    assert 5 <= len(store.study().seeds) < 12
    assert all(look.waiting for look in looks[:-1])
    assert len(set(engine.ran)) == len(engine.ran) == 3 * len(store.study().seeds)  # all losses, all seeds, once
    comparison = summarise(store.results())
    assert comparison.winner == "adma:a=0.26"
    assert comparison.growth.looks == len(looks)
    assert "confidence sequence" in comparison.verdict.reason


def test_a_loss_that_stays_open_is_waited_for_up_to_the_most_seeds(tmp_path: Path) -> None:
    engine = Instant(drawn({**CLEAR, "mse": 0.002}, spread=0.02))
    store, looks = go(tmp_path / "o", engine, Steps(4, 3, 9))
    assert [len(look.comparison.seeds) for look in looks] == [4, 7, 9]
    assert "mse" in looks[-1].waiting
    assert store.study().seeds == tuple(range(9))
    assert "look 3, 9 seeds: adma:a=0.26" in looks[-1].words
    assert "mse undecided (" in looks[-1].words


def test_losses_that_are_alike_are_called_equivalent(tmp_path: Path) -> None:
    engine = Instant(drawn(dict.fromkeys(LOSSES, 0.0), spread=0.0015))
    _, looks = go(tmp_path / "o", engine, Steps(3, 1, 40), rope=0.004)
    assert {s.watched.verdict for s in looks[-1].comparison.losses if s.watched} == {EQUIVALENT}
    assert not looks[-1].waiting


def test_the_same_call_goes_on_after_a_kill_and_looks_the_same(tmp_path: Path) -> None:
    """Killed in the middle of the second step: what is done stays, the looks are those of an undisturbed run."""
    steps = Steps(3, 2, 30)
    _, expected = go(tmp_path / "whole", Instant(drawn(CLEAR)), steps)
    accuracy = drawn(CLEAR)

    def dies(cell):
        if cell.seed == 4:
            raise KeyboardInterrupt
        return accuracy(cell)

    first = Instant(dies)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "o", first, steps)
    assert Folder(tmp_path / "o").study().seeds == tuple(range(5))  # one study, whose seeds grew
    second = Instant(accuracy)
    store, looks = go(tmp_path / "o", second, steps)
    assert [look.words for look in looks] == [look.words for look in expected]
    assert not {seed for _, seed in second.ran} & {0, 1, 2, 3}
    third = Instant(accuracy)
    go(tmp_path / "o", third, steps)
    assert third.ran == []
    assert store.study().seeds == Folder(tmp_path / "whole").study().seeds


class Slow(Instant):
    """A cell takes a minute of a clock of its own; what is asked to stop begins no more."""

    def __init__(self, accuracy: Callable, clock: list[float]) -> None:
        super().__init__(accuracy)
        self.clock, self.stopping = clock, False

    def stop(self) -> None:
        self.stopping = True

    def run(self, cells):
        for event in super().run(cells):
            if self.stopping:
                return
            self.clock[0] += 60.0 * isinstance(event, Finished)
            yield event


@pytest.mark.parametrize(("minutes", "cells"), [(9.5, 10), (9.0, 9)])  # in the second look; between it and the first
def test_the_time_of_the_budget_is_for_all_looks_together(
    minutes: float, cells: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    engine = Slow(drawn(dict.fromkeys(LOSSES, 0.0), spread=0.02), clock)
    with pytest.raises(OutOfTimeError):
        go(tmp_path / "o", engine, Steps(3, 1, 12), conduct=Conduct(seconds=60 * minutes))
    assert sum(result.status == DONE for result in Folder(tmp_path / "o").results().cells) == cells


def test_a_loss_that_always_diverges_is_named_and_not_waited_for(tmp_path: Path) -> None:
    accuracy = drawn(CLEAR)
    engine = Instant(lambda cell: DIVERGED if cell.loss == "mse" else accuracy(cell))
    _, looks = go(tmp_path / "o", engine, Steps(3, 2, 30))
    assert looks[-1].hopeless == ("mse",)
    assert "mse has no finished run to compare and is not waited for" in looks[-1].words
    assert len(looks) < 10


def test_a_run_that_failed_is_not_tried_again_at_every_look(tmp_path: Path) -> None:
    accuracy = drawn({**CLEAR, "mse": 0.0}, spread=0.02)
    engine = Instant(lambda cell: FAILED if (cell.loss, cell.seed) == ("mse", 1) else accuracy(cell))
    go(tmp_path / "o", engine, Steps(3, 2, 9))
    assert engine.ran.count(("mse", 1)) == 1
    again = Instant(accuracy)
    go(tmp_path / "o", again, Steps(3, 2, 9))
    assert again.ran[0] == ("mse", 1)  # the next call does


def test_false_verdicts_over_whole_studies_stay_below_5_in_100() -> None:
    """Three equal losses, looks every 2 seeds from 3 to 29, 200 studies: the binomial 99.9% bound of 5% is 10%."""
    rng = np.random.default_rng(0)
    steps = Steps(3, 2, 29)
    false = 0
    for _ in range(200):
        runs = 0.9 + 0.01 * rng.standard_normal((3, 29))
        false += any(
            watch(runs[loss][:n] - runs[0][:n], rope=0.002, alpha=0.05 / 2).verdict in (BETTER, WORSE)
            for loss in (1, 2)
            for n in steps.counts()
        )
    assert false / 200 <= 0.10


def test_the_number_of_seeds_at_each_look() -> None:
    assert list(Steps(5, 2, 10).counts()) == [5, 7, 9, 10]
    assert list(Steps(5, 3, 5).counts()) == [5]
    with pytest.raises(BenchError, match="--max-seeds 4: is below the 5 seeds"):
        Steps(5, 2, 4)
    with pytest.raises(BenchError, match="nothing is decided below 3 seeds"):
        Steps(1, 1, 2)


# -- the folder --------------------------------------------------------------------------------------------------


def test_a_study_that_grew_is_the_same_study_only_for_until_decided(tmp_path: Path) -> None:
    store = Folder(tmp_path / "o")
    study = Study(Setting("d", "h"), LOSSES, (0, 1, 2))
    more = replace(study, seeds=(0, 1, 2, 3, 4))
    store.open(study, about={}, grows=True)
    store.open(more, about={}, grows=True)
    about = {"until_decided": asdict(Steps(3))}
    store.open(study, about=about, grows=True)
    assert store.study() == more  # it does not shrink
    assert store.results().about == about
    for fixed in (study, more):
        with pytest.raises(
            BenchError, match=r"its seeds were added until it was decided\); give --until-decided again"
        ):
            store.open(fixed, about={})
    for other in (replace(study, losses=("cce", "mse")), replace(study, seeds=(1, 2, 3))):
        with pytest.raises(BenchError, match="holds another study"):
            store.open(other, about={}, grows=True)
    with pytest.raises(BenchError, match="epochs"):
        store.open(replace(more, setting=replace(study.setting, epochs=3)), about={}, grows=True)
    assert store.study() == more


# -- the command --------------------------------------------------------------------------------------------------


def test_the_command_looks_resumes_after_a_kill_and_reports_the_sequence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "compare",
        "digits",
        *TINY,
        "--seeds",
        "2",
        "--until-decided",
        "--step",
        "2",
        "--max-seeds",
        "4",
        "--jobs",
        "1",
    ]
    process = start(*command, "--out", "o", cwd=tmp_path)
    wait_for_cells(tmp_path / "o", 4, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {c.cell.key for c in Folder(tmp_path / "o").results().cells if c.status == DONE}
    assert len(before) >= 4
    run = adma(*command, "--out", "o", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    looks = re.findall(r"^look (\d), (\d) seeds: mse (\w+)", run.stdout, re.MULTILINE)
    assert [look[:2] for look in looks][:1] == [("1", "2")]
    assert looks[-1][2] != UNDECIDED or looks[-1][1] == "4"
    said = " ".join(run.stdout.split())
    assert f"{len(looks)} look" in said
    assert "error rate held over all of them" in said
    page = (tmp_path / "o" / "report.html").read_text()
    assert "Anytime-valid p" in page
    assert "confidence sequence" in page
    assert "Wilcoxon: p" not in page
    assert "Student's t: p" not in page.replace("&#39;", "'")
    capsys.readouterr()
    assert main(["report", str(tmp_path / "o"), "--rope", "50", "--baseline", "mse"]) == 0
    assert "Against mse, seed by seed (less than 50 points is of no account" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--step", "2"], "--step has a use only with --until-decided"),
        (["--max-seeds", "9"], "--max-seeds has a use only with --until-decided"),
        (["--until-decided", "--max-seeds", "4"], "--max-seeds 4: is below the 5 seeds"),
        (["--until-decided", "--loss", "cce"], "name a second --loss"),
        (["--baseline", "mae"], "baseline 'mae' is not in the study"),
        (["--baseline", "adam"], "--baseline: loss 'adam' is not known, did you mean 'adma'"),
        (["--rope", "-1"], "must be a number from 0"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    losses = [] if "--loss" in arguments else ["--loss", "cce", "--loss", "mse"]
    try:
        code = main(["compare", "digits", *losses, *arguments])
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    assert code == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
