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
NEEDED = {  # by other examples
    "accelerate_loop": ["accelerate"],
    "boosting": ["lightgbm"],
    "hf_text_classifier": ["transformers", "accelerate"],
    "jax_digits": ["jax", "optax", "equinox"],
    "metric_learning": ["pytorch_metric_learning"],
    "skorch_grid": ["skorch"],
}


def test_every_example_has_a_test():
    others = {"posterior", "learn_loop", "language_model_head", "plain_loop", "fastai_callback"}
    others |= {"soft_targets", "distillation"}
    assert set(EXAMPLES) == {*SHAPES, *others, *NEEDED}


def ran(name: str, *by: str | Path) -> str:
    """What an example prints; by another program, if one is given."""
    for module in NEEDED.get(name, ()):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: examples/{name}.py WAS NOT RUN")
    done = subprocess.run(
        [sys.executable, *by, EXAMPLES[name]], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracy(printed: str) -> float:
    return float(re.findall(r"test accuracy ([\d.]+)%", printed)[-1])


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
    rows = dict(re.findall(r"^([\w:.=-]+) +([\d. ]+)$", ran("boosting"), re.MULTILINE))
    mean = {name: sum(map(float, row.split())) / 3 for name, row in rows.items()}
    assert set(mean) == {"built-in", "cce", "adma:a=0.26", "adma:a=0.5", "gce:q=0.7"}
    assert abs(mean["cce"] - mean["built-in"]) < 0.02
    assert mean["adma:a=0.5"] > mean["built-in"] + 0.005


@pytest.mark.slow
def test_digits_are_learned_in_jax():
    printed = ran("jax_digits")
    assert float(re.findall(r"test accuracy ([\d.]+)%", printed)[0]) > 93
    assert re.search(r"class (\d), in truth \1$", printed, re.MULTILINE)


@pytest.mark.slow
def test_a_plain_loop_ends_in_probabilities():
    printed = ran("plain_loop")
    assert accuracy(printed) > 93
    p = [float(value) for value in re.findall(r"\b[01]\.\d{3}\b", printed)]
    assert len(p) == 10
    assert sum(p) == pytest.approx(1, abs=0.006)


@pytest.mark.slow
def test_mixtures_of_two_samples_are_learned_from():
    found = dict(re.findall(r"^(\w+) +test accuracy ([\d.]+)%$", ran("soft_targets"), re.MULTILINE))
    assert list(found) == ["mixup", "cutmix"]
    assert all(float(value) > 90 for value in found.values())


@pytest.mark.slow
def test_a_student_knows_its_teachers_probabilities_by_the_losss_own_map():
    printed = ran("distillation")
    pattern = r"^student, (\S+) +test accuracy ([\d.]+)%  nats from the teacher: softmax ([\d.]+), recovered ([\d.]+)$"
    found = {name: tuple(map(float, values)) for name, *values in re.findall(pattern, printed, re.MULTILINE)}
    assert list(found) == ["cce", "adma:a=0.26"]
    assert all(right > 90 for right, _, _ in found.values())
    assert found["cce"][1] == found["cce"][2]
    assert found["adma:a=0.26"][2] < found["adma:a=0.26"][1] / 2


@pytest.mark.slow
def test_it_learns_under_accelerate():
    assert accuracy(ran("accelerate_loop")) > 93


@pytest.mark.slow
def test_a_text_classifier_by_the_trainer():
    printed = ran("hf_text_classifier")
    assert float(re.findall(r"accuracy on unseen ones ([\d.]+)%", printed)[0]) > 75  # the largest class is under 60%
    found = dict(re.findall(r"(asyncio|email|unittest) ([\d.]+)", printed.splitlines()[-1]))
    p = {package: float(value) for package, value in found.items()}
    assert sum(p.values()) == pytest.approx(1, abs=0.02)
    assert max(p, key=p.get) == "email"


@pytest.mark.slow
def test_a_grid_over_the_losses_parameter_by_skorch():
    printed = ran("skorch_grid")
    rows = dict(re.findall(r"^a ([\d.]+) +accuracy on held-out folds ([\d.]+)%$", printed, re.MULTILINE))
    assert list(map(float, rows)) == [0.05, 0.26, 0.5]
    best = re.findall(r"^best a ([\d.]+)", printed, re.MULTILINE)[0]
    assert float(rows[best]) == max(map(float, rows.values()))
    assert len(set(rows.values())) > 1  # the parameter reaches the loss
    assert accuracy(printed) > 80  # of clean labels, though 40% of those that it learned from were false
    assert "probabilities sum to 1.000" in printed


@pytest.mark.slow
def test_a_metric_loss_beside_it_orders_the_embeddings():
    pattern = r"^(adma.*?) +test accuracy ([\d.]+)%  nearest neighbour ([\d.]+)%$"
    found = {name: (float(a), float(n)) for name, a, n in re.findall(pattern, ran("metric_learning"), re.MULTILINE)}
    assert list(found) == ["adma", "adma + triplet", "adma + contrastive"]
    assert all(right > 90 for right, _ in found.values())
    alone = found.pop("adma")[1]
    assert all(neighbours > alone for _, neighbours in found.values())


@pytest.mark.slow
def test_a_callback_of_fastai_moves_the_shape():
    standing_in = [] if importlib.util.find_spec("fastai") else [Path(__file__).with_name("fastai_protocol.py")]
    printed = ran("fastai_callback", *standing_in)
    found = [float(a) for a in re.findall(r"^epoch \d  a ([\d.]+)$", printed, re.MULTILINE)]
    last = 37 / 38  # of an epoch's 38 batches
    assert found == pytest.approx([0.05 + 0.25 * (epoch + last) / 5 for epoch in range(5)], abs=1e-3)
    assert accuracy(printed) > 90
    assert "probabilities sum to 1.000" in printed
