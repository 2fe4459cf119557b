"""What the house's rules say holds: the layers, the doctests, and modules that say what they are for."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import adma
from adma import spec

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(Path(adma.__file__).parent.rglob("*.py"))


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Examples register losses: not for the other tests."""
    monkeypatch.setattr(spec, "_REGISTRY", dict(spec._REGISTRY))
    monkeypatch.setattr(spec, "_ALIASES", dict(spec._ALIASES))


def test_the_layers_hold():
    program = Path(sys.executable).parent / "lint-imports"
    if not program.exists():
        pytest.skip(f"import-linter is not installed: there is no {program}; THE LAYERS WERE NOT CHECKED")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(Path(adma.__file__).parent)) for path in FILES])
def test_a_module_says_what_it_is_for(path):
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert said, f"{path} has no docstring"
    first = said.splitlines()[0]
    assert len(first.split()) >= 4, f"{path}: the first line {first!r} says nothing"


@pytest.mark.parametrize(
    "name",
    [
        "adma",
        "adma.spec",
        "adma.numpy",
        "adma.testing",
        "adma.torch.modules",
        "adma.torch.functional",
        "adma.torch.classic",
        "adma.torch.distributed",
        "adma.torch.linear_modules",
        "adma.torch.make",
        "adma.torch.posterior_head",
        "adma.flex.schedule",
        "adma.flex.spec",
        "adma.flex.learn",
    ],
)
def test_doctests(name):
    module = importlib.import_module(name)
    assert module.__name__ == name
    failed, attempted = doctest.testmod(module, verbose=False, report=True)
    assert attempted > 0
    assert failed == 0
