"""Real commands killed at random instants: what they leave goes on to the very bits of a run that nobody killed.

ADMA_SOAK says how many kills for each number of jobs (`make soak`: 30); by default a few.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from adma_command import ADMA

from adma.bench.folder import Folder
from adma.bench.result import DONE
from seen_processes import servers_of, workers_of

KINDS = ("command", "worker", "all", "server")
KILLS = int(os.environ.get("ADMA_SOAK", "4"))
STUDY = (
    "digits", "--model", "mlp", "--epochs", "60", "--train-size", "400", "--eval-size", "200", "--seeds", "2",
    "--augment", "shift=0.1", "--loss", "cce", "--loss", "adma:a=learn",
)  # fmt: skip


def start(root: Path, jobs: int) -> subprocess.Popen[str]:
    command = ["compare", *STUDY, "--checkpoint-every", "0.05s"]
    return subprocess.Popen(
        [*ADMA, *command, "--jobs", str(jobs), "--out", str(root)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def content(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for result in Folder(root).results().cells:
        assert result.status == DONE, result.reason
        epochs = {name: values.tobytes() for name, values in result.epochs.items() if name != "seconds"}
        trace = {name: values.tobytes() for name, values in result.trace.items()}
        found[result.cell.key] = (epochs, trace, result.env["weights"], result.env["shared"], result.env["threads"])
    return found


def states(root: Path) -> set[tuple[str, int]]:
    """The checkpoints that are there, each with its time."""
    found = set()
    for path in (root / "checkpoints").glob("*/*"):
        try:
            found.add((path.name, path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


@pytest.fixture(scope="module", params=[1, 2])
def untouched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[str, object]]:
    root = tmp_path_factory.mktemp("whole") / "out"
    process = start(root, request.param)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return request.param, content(root)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_at_random_instants_it_ends_bit_by_bit_the_same(
    tmp_path: Path, untouched: tuple[int, dict[str, object]]
) -> None:
    jobs, expected = untouched
    chance = random.Random(20261126 + jobs)
    killed = dict.fromkeys(KINDS, 0)
    resumed, rounds, number = 0, 1, 0
    root = tmp_path / "out-1"
    while sum(killed.values()) < KILLS:
        process = start(root, jobs)
        kind = KINDS[number % len(KINDS)]
        number += 1
        if number % 5 == 0:  # at any moment from the very start; else while something is being trained
            time.sleep(chance.uniform(0, 10))
        else:
            before = states(root)
            while process.poll() is None and states(root) == before:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 1))
        if process.poll() is not None:  # all was done before: once more, from nothing
            resumed += whole(root, expected, process)
            rounds += 1
            root = tmp_path / f"out-{rounds}"
            continue
        if kind in ("worker", "server"):
            for which in (workers_of if kind == "worker" else servers_of)(process.pid)[:1]:
                os.kill(which, signal.SIGKILL)
                killed[kind] += 1
            time.sleep(chance.uniform(0, 2))
        if kind == "all":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        killed[kind] += kind in ("command", "all")
        output, _ = process.communicate()
        assert "Traceback" not in output
    resumed += whole(root, expected, start(root, jobs))
    assert resumed > 0
    print(
        f"jobs {jobs}: killed {killed}; {resumed} of {rounds * len(expected)} trainings were gone on from a checkpoint"
    )


def whole(root: Path, expected: dict[str, object], process: subprocess.Popen[str]) -> int:
    """What is there after the last start is all, and as if nothing had been; how many were gone on with."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert content(root) == expected
    assert "set-aside" not in [p.name for p in root.iterdir()], output
    assert not list((root / "cells").glob(".*"))
    assert not list((root / "leases").glob("[!.]*"))
    records = [json.loads((folder / "env.json").read_text()) for folder in (root / "cells").iterdir()]
    return sum("resumed_at" in record for record in records)
