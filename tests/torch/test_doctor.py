"""`adma doctor`: what it says is what happens."""

from __future__ import annotations

import os
import subprocess
import sys

import torch

from adma.torch import doctor
from adma.torch.kernels import native
from adma.torch.kernels.native import library


def engines(text):
    """By call, the engine that is named for it."""
    lines = text.split("calls\n")[1].splitlines()
    return {line[2:47].strip(): line[48:].split()[0] for line in lines}


def test_it_says_which_engine_serves_which_call():
    found = engines(doctor.report())
    compiled = not isinstance(library.load(), str)
    assert found["float32, class indices, mean or sum"] == ("native" if compiled else "eager")
    assert found["class indices, label smoothing"] == ("native" if compiled else "eager")
    assert found["class probabilities"] == ("native" if compiled else "eager")
    assert found["a parameter that is learned by autograd"] == "composed"
    assert found["inside torch.func (vmap, grad, jvp, hessian)"] == "composed"
    assert f"torch {torch.__version__}" in doctor.report()


def test_it_says_why_there_is_no_compiled_kernel(monkeypatch):
    for module in (native, library):
        monkeypatch.setattr(module, "load", lambda: "there was no C++ compiler")
    text = doctor.report()
    assert "native    not here: there was no C++ compiler" in text
    assert "native" not in engines(text).values()


def test_the_command():
    environment = {**os.environ, "ADMA_NATIVE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "adma.cli", "doctor"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ADMA_NATIVE=0 turns the compiled kernel off" in done.stdout
