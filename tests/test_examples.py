"""Every example runs as its first lines say, and prints what it is there to show."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = {path.stem: path for path in (Path(__file__).resolve().parents[1] / "examples").glob("*.py")}
ELSEWHERE = {"posterior"}  # has a test of its own
SHAPES = {  # what it needs, and a after each epoch
    "schedule_loop": ([], [0.01 + 0.049 * k for k in range(1, 11)]),
    "schedule_lightning": (["lightning"], [0.01 + 0.29 * 19 / 30, 0.3, 0.3]),
    "schedule_hf_trainer": (["transformers", "accelerate"], [0.1075, 0.3025, 0.4]),
}


def test_every_example_has_a_test():
    assert set(EXAMPLES) == set(SHAPES) | ELSEWHERE


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_schedule_is_seen_at_work(name):
    needed, expected = SHAPES[name]
    for module in needed:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: examples/{name}.py WAS NOT RUN")
    done = subprocess.run([sys.executable, EXAMPLES[name]], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^epoch +(\d+)  a ([\d.]+)", done.stdout, re.MULTILINE)
    assert [int(epoch) for epoch, _ in found] == list(range(1, len(expected) + 1))
    assert [float(a) for _, a in found] == pytest.approx(expected, abs=6e-4)
    if name == "schedule_loop":  # it learns, though 40% of the labels are drawn at random
        assert float(re.findall(r"test accuracy ([\d.]+)", done.stdout)[-1]) > 90
