"""What the options say of where cells are trained."""

from __future__ import annotations

import socket
import sys

import pytest

from adma.cli import main

COMPARE = ["compare", "digits", "--epochs", "1", "--seeds", "1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--address", "here:6379"], "--address has a use only with --engine ray"),
        (["--cpus-per-cell", "2"], "--cpus-per-cell has a use only with --engine ray"),
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
