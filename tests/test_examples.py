"""Every example runs as its first lines say, and prints what it is there to show."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = {path.stem: path for path in (Path(__file__).resolve().parents[1] / "examples").glob("*.py")}
SHAPES = {  # what it needs, and a after each epoch
    "schedule_loop": ([], [0.01 + 0.049 * k for k in range(1, 11)]),
    "schedule_lightning": (["lightning"], [0.01 + 0.29 * 19 / 30, 0.3, 0.3]),
    "schedule_hf_trainer": (["transformers", "accelerate"], [0.1075, 0.3025, 0.4]),
}


def test_every_example_has_a_test():
    assert set(EXAMPLES) == {*SHAPES, "posterior", "learn_loop", "language_model_head", "boosting", "jax_digits"}


def ran(name: str) -> str:
    """What an example prints."""
    done = subprocess.run([sys.executable, EXAMPLES[name]], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_schedule_is_seen_at_work(name):
    needed, expected = SHAPES[name]
    for module in needed:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: examples/{name}.py WAS NOT RUN")
    printed = ran(name)
    found = re.findall(r"^epoch +(\d+)  a ([\d.]+)", printed, re.MULTILINE)
    assert [int(epoch) for epoch, _ in found] == list(range(1, len(expected) + 1))
    assert [float(a) for _, a in found] == pytest.approx(expected, abs=6e-4)
    if name == "schedule_loop":  # it learns, though 40% of the labels are drawn at random
        assert float(re.findall(r"test accuracy ([\d.]+)", printed)[-1]) > 90


def test_the_posterior_is_better_than_the_softmax_on_held_out_data():
    found = re.findall(r"^(\w+) +NLL ([\d.]+) +ECE ([\d.]+) %$", ran("posterior"), re.MULTILINE)
    assert [name for name, _, _ in found] == ["softmax", "posterior"]
    (_, *softmax), (_, *posterior) = ((name, float(nll), float(ece)) for name, nll, ece in found)
    assert posterior[0] < softmax[0]
    assert posterior[1] < softmax[1] / 2


@pytest.mark.slow
def test_a_learned_shape_stands_false_labels_better_than_cross_entropy():
    plain, learned = map(float, re.findall(r"test accuracy ([\d.]+)%", ran("learn_loop")))
    assert learned > plain + 2


@pytest.mark.slow
def test_token_weighting_raises_the_probability_and_cross_entropy_keeps_the_nats():
    pattern = r"^(\S+) +([\d.]+) nats  ([\d.]+)% probable  ([\d.]+)% right$"
    found = re.findall(pattern, ran("language_model_head"), re.MULTILINE)
    assert [name for name, *_ in found] == ["cross-entropy", "adma", "token-weighted"]
    plain, flexible, weighted = ([float(v) for v in values] for _, *values in found)
    assert plain[0] < flexible[0] < weighted[0]
    assert plain[1] < flexible[1] < weighted[1]
    assert all(run[2] > 20 for run in (plain, flexible, weighted))  # the commonest character is 16% of the text


@pytest.mark.slow
def test_boosting_stands_false_labels_better_with_a_bounded_loss():
    if importlib.util.find_spec("lightgbm") is None:
        pytest.skip("lightgbm is not installed: examples/boosting.py WAS NOT RUN")
    rows = dict(re.findall(r"^([\w:.=-]+) +([\d. ]+)$", ran("boosting"), re.MULTILINE))
    mean = {name: sum(map(float, row.split())) / 3 for name, row in rows.items()}
    assert set(mean) == {"built-in", "cce", "adma:a=0.26", "adma:a=0.5", "gce:q=0.7"}
    assert abs(mean["cce"] - mean["built-in"]) < 0.02
    assert mean["adma:a=0.5"] > mean["built-in"] + 0.005


@pytest.mark.slow
def test_digits_are_learned_in_jax():
    for module in ("jax", "optax", "equinox"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: examples/jax_digits.py WAS NOT RUN")
    printed = ran("jax_digits")
    assert float(re.findall(r"test accuracy ([\d.]+)%", printed)[0]) > 93
    assert re.search(r"class (\d), in truth \1$", printed, re.MULTILINE)
