"""The package installs with and without a C++ compiler, and works either way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "adma/torch/kernels/native/libadma_native.so"

pytestmark = pytest.mark.slow

PROGRAM = """
import torch, adma
from adma.torch.kernels.native import library
z = torch.tensor([[2.0, 0.0, -1.0]], requires_grad=True)
value = adma.AdmaLoss()(z, torch.tensor([0]))
value.backward()
print(f"{value.item():.6f} {z.grad.abs().sum().item():.6f}")
print(library.load())
"""


def source(folder: Path) -> Path:
    """What a build needs, without what was built here."""
    left_out = shutil.ignore_patterns("libadma_native*", "__pycache__")
    for name in ("src", "studies"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def build(folder: Path, **environment: str) -> Path:
    """A wheel, by the backend that pyproject.toml names."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: THE BUILD WAS NOT TESTED")
    code = "import hatchling.build; print(hatchling.build.build_wheel('out'))"
    (folder / "out").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out" / done.stdout.split()[-1]


def run_from(wheel: Path, folder: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return run_in(folder)


def run_in(folder: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    environment.pop("ADMA_NATIVE", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_without_a_compiler(tmp_path):
    wheel = build(source(tmp_path / "source"), CXX="no-such-compiler", PATH="")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert LIBRARY not in names
    assert "adma/torch/kernels/native/kernel.cpp" in names  # to be compiled later
    values, why = run_from(wheel, tmp_path / "installed")
    assert values == "0.114927 0.202327"
    assert "no C++ compiler when it was installed" in why


def test_with_a_compiler(tmp_path):
    if shutil.which("c++") is None:
        pytest.skip("there is no c++: THE BUILD WITH A COMPILER WAS NOT TESTED")
    folder = source(tmp_path / "source")
    wheel = build(folder)
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")
    assert LIBRARY in zipfile.ZipFile(wheel).namelist()
    values, loaded = run_from(wheel, tmp_path / "installed")
    assert values == "0.114927 0.202327"
    assert str(tmp_path / "installed" / LIBRARY) in loaded

    built = folder / "src" / LIBRARY
    made = built.stat().st_mtime_ns
    build(folder)
    assert built.stat().st_mtime_ns == made  # nothing changed
    kernel = built.with_name("kernel.cpp")
    kernel.write_text(kernel.read_text() + "// changed\n")
    build(folder)
    assert built.stat().st_mtime_ns > made


def test_a_library_of_other_sources_is_not_used(tmp_path):
    """As after `git pull`, before make has built it anew."""
    if shutil.which("c++") is None:
        pytest.skip("there is no c++: A STALE LIBRARY WAS NOT TESTED")
    wheel = build(source(tmp_path / "source"))
    run_from(wheel, tmp_path / "installed")
    kernel = (tmp_path / "installed" / LIBRARY).with_name("kernel.cpp")
    kernel.write_text(kernel.read_text() + "// changed\n")
    _, why = run_in(tmp_path / "installed")
    assert "made from other sources" in why
