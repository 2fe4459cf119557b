"""What `import adma` brings along: nothing but torch and NumPy, no file of anyone else, no network, no program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import json, sys, torch
before, events = set(sys.modules), []
def hook(event, args):
    if event in ("open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "subprocess.Popen", "os.system") or (
        event.startswith(("socket.", "urllib.", "shutil."))
    ):
        events.append([event, str(args[0]), str(args[1]) if event == "open" else ""])
sys.addaudithook(hook)
"""
USED = "import adma\nadma.flex.ShapeTuner, adma.AdmaLoss"  # torch's half is imported when it is asked for
TAIL = """
print(json.dumps({"modules": sorted(set(sys.modules) - before), "events": events}))
"""


def after(statement: str) -> dict[str, list]:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + statement + TAIL], capture_output=True, text=True, timeout=300, check=True
    )
    found: dict[str, list] = json.loads(done.stdout)
    return found


def test_the_library_imports_no_third_party_but_torch_and_numpy() -> None:
    """torch's compiler and sympy among them would double the time that torch takes; benchmarks/import_time.py."""
    found = after(USED)
    assert "adma.flex.learn" in found["modules"]
    foreign = {name.partition(".")[0] for name in found["modules"]} - {"adma"} - set(sys.stdlib_module_names)
    assert foreign == set()
    assert not [name for name in found["modules"] if name.startswith(("torch", "numpy"))]  # theirs are there already


def test_importing_reads_its_own_sources_and_no_more() -> None:
    events = after(USED)["events"]
    assert events  # the hook is at work: the sources were read
    where = [Path(p).resolve() for p in (sys.prefix, sys.base_prefix, Path(__file__).parents[1] / "src") if p]
    for event, name, mode in events:
        assert event in ("open", "os.listdir"), (event, name)
        assert mode in ("", "None", "r", "rb"), (name, mode)  # "None": opened by the importer
        path = Path(name).resolve()
        assert path.suffix in (".py", ".pyc", "")
        assert any(root in path.parents or root == path for root in where), name


@pytest.mark.parametrize(
    "name",
    [
        "adma",
        "adma.numpy",
        "adma.boosting",
        "adma.flex.spec",
        "adma.bench.status",
        "adma.bench.export",
        "adma.bench.commands",
    ],
)
def test_what_trains_nothing_goes_without_torch(name: str) -> None:
    code = f"import sys, {name}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "False"


def test_the_package_has_the_losses_as_its_own() -> None:
    """By name, by star, in `dir`; and a name that is none is refused as Python does."""
    code = """
import adma
assert "AdmaLoss" in dir(adma) and "AdmaLoss" not in vars(adma)
from adma import *
assert AdmaLoss is adma.AdmaLoss is adma.torch.AdmaLoss and functional is adma.functional and flex is adma.flex
here = {"__version__", "constraints", "flex", "functional", "parse", "register"}
assert {*adma.torch.__all__} | here == {*adma.__all__} <= {*globals()}
try:
    adma.AdmaLos
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "module 'adma' has no attribute 'AdmaLos'"


@pytest.mark.parametrize("name", ["family", "spec", "numpy", "testing", "boosting", "constraints"])
def test_every_public_module_is_imported_alone(name: str) -> None:
    found = after(f"import adma.{name}")
    assert f"adma.{name}" in found["modules"]
