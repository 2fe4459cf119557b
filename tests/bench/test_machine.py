"""What the options say of where cells are trained."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
import torch

from adma.bench.engines.local import LocalEngine
from adma.bench.errors import BenchError
from adma.bench.folder import Folder
from adma.bench.machine import machine_of
from adma.cli import main
from adma.options import parser

COMPARE = ["compare", "digits", "--epochs", "1", "--seeds", "1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--address", "here:6379"], "--address has a use only with --engine ray"),
        (["--cpus-per-cell", "4096"], "--cpus-per-cell 4096: this machine has"),
        (["--engine", "ray", "--device", "mps"], "--device mps: a cluster gives each cell its GPU"),
        (["--engine", "ray", "--device", "cpu", "--gpus-per-cell", "0.5"], "no use for a GPU with --device cpu"),
        (["--engine", "ray", "--gpus-per-cell", "2"], "--gpus-per-cell 2: a cell trains on one GPU"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPARE, *options]) == 2
    assert words in capsys.readouterr().err


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*COMPARE, "--engine", "ray"]) == 2
    assert "pip install 'adma[ray]'" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'adma[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens there
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert main([*COMPARE, "--engine", "ray", "--address", address]) == 2
    error = capsys.readouterr().err
    assert f"no cluster to work with at {address} (" in error
    assert "refused" in error


@pytest.mark.parametrize(
    ("options", "gpus", "shared", "jobs", "sure", "words"),
    [
        ([], 1, ["cuda:0"], 6, 1, "as many at a time as the GPU has memory for, at most 6"),
        (["--jobs", "auto"], 2, ["cuda:0", "cuda:1"], 6, 2, "as many at a time as the 2 GPUs have memory for, at most"),
        (["--jobs", "3"], 2, ["cuda:0", "cuda:1"], 3, 3, "3 at a time"),
        (["--device", "cuda:1"], 2, ["cuda:1"], 6, 1, "as many at a time as the GPU has"),
        (["--device", "cpu"], 2, [], 6, 6, "6 at a time"),
        (["--devices", "2"], 2, [], 1, 1, "1 at a time"),
    ],
)
def test_trainings_are_spread_over_the_gpus_of_this_machine(
    options: list[str], gpus: int, shared: list[str], jobs: int, sure: int, words: str,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("adma.bench.machine.usable_device", lambda name: "cuda" if name == "auto" else name)
    monkeypatch.setattr("adma.bench.environment.cores", lambda: 6)
    given = parser().parse_args([*COMPARE, *options])
    given.command_line = "adma compare"
    machine = machine_of(given, 20)
    assert (list(machine.shared), machine.jobs, machine.sure_jobs) == (shared, jobs, sure)
    assert machine.at_a_time.startswith(words)
    engine = machine.engine(lambda cell: None, Folder(tmp_path))  # type: ignore[arg-type, return-value]
    assert isinstance(engine, LocalEngine)
    assert (engine._packing is not None) == bool(shared)
    if engine._packing is not None:
        assert engine._packing.measured == ("3" not in options)


@pytest.mark.parametrize(
    ("options", "allowed", "jobs", "threads"),
    [
        ([], None, 6, 1),
        (["--jobs", "2"], None, 2, 3),
        (["--jobs", "2"], "1", 2, 1),
        (["--jobs", "2"], "2,4", 2, 2),
        (["--jobs", "2"], "8", 2, 3),
        (["--jobs", "2"], "many", 2, 3),
        (["--cpus-per-cell", "2"], None, 3, 2),
        (["--cpus-per-cell", "2"], "1", 3, 2),
        (["--cpus-per-cell", "1", "--jobs", "1"], None, 1, 1),
        (["--cpus-per-cell", "4"], None, 1, 4),
        (["--cpus-per-cell", "4", "--jobs", "2"], None, 2, 4),
        (["--cpus-per-cell", "3", "--devices", "2"], None, 1, 3),
    ],
)
def test_cores_are_shared_out_or_as_asked_for(
    options: list[str], allowed: str | None, jobs: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adma.bench.environment.cores", lambda: 6)
    if allowed is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    given = parser().parse_args([*COMPARE, "--device", "cpu", *options])
    given.command_line = "adma compare"
    machine = machine_of(given, 20)
    assert (machine.jobs, machine.threads) == (jobs, threads)


def test_more_cores_than_there_are_for_every_process_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adma.bench.environment.cores", lambda: 6)
    given = parser().parse_args([*COMPARE, "--device", "cpu", "--cpus-per-cell", "4", "--devices", "2"])
    given.command_line = "adma compare"
    with pytest.raises(BenchError, match="--cpus-per-cell 4 for each of 2 processes: this machine has 6"):
        machine_of(given, 20)
