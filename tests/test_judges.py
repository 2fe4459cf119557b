"""Other libraries' own tests as judges: what they ask of their cross-entropy is asked of ours.

optax's and Keras's wheels carry their tests: the library's function is replaced by ours and its test classes run.
Liger-kernel's wheel carries none.

Of Keras's, those are left out that ask for what ours is not: probabilities of 0 and 1 clipped to 1e-7 (three of the
binary tests: ours is infinite there, as -log 0 is), arithmetic in bfloat16 (ours refuses it, logits may be), and a
target (N, 1) refused by the class that takes indices too; on JAX, that another axis of the classes is refused.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

OPTAX = """
import sys
from functools import partial
import jax
from adma import jax as ours
from optax.losses import _classification, _classification_test as judge


@partial(jax.jit, static_argnames="axis")  # compiled as one, not operation by operation
def soft(logits, labels, axis=-1, where=None):
    return ours.cross_entropy(logits, labels, axis=axis, where=where)


@partial(jax.jit, static_argnames="axis")
def poly(logits, labels, epsilon=2.0, axis=-1, where=None):
    return ours.poly1_loss(logits, labels, axis=axis, where=where, epsilon=epsilon)


_classification.softmax_cross_entropy = soft
_classification.safe_softmax_cross_entropy = soft
_classification.softmax_cross_entropy_with_integer_labels = soft
_classification.sigmoid_binary_cross_entropy = jax.jit(ours.binary_cross_entropy)
_classification.poly_loss_cross_entropy = poly
sys.exit(judge.absltest.main(module=judge, argv=["judge", *sys.argv[1:]]))
"""
KERAS = """
import sys
import adma
import pytest
from adma import keras as ours
from keras.src.losses import losses, losses_test as judge

losses.CategoricalCrossentropy = losses.SparseCategoricalCrossentropy = ours.CrossEntropy
losses.BinaryCrossentropy = ours.BinaryCrossEntropy
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", judge.__file__, "-k", sys.argv[1]]))
"""

CHOSEN = (
    "CrossentropyTest and not Focal and not dtype_arg and not (CategoricalCrossentropyTest and shape_mismatch)"
    " and not (BinaryCrossentropyTest and (sample_weighted or scalar_weighted or test_unweighted))"
)

pytestmark = pytest.mark.slow


def need(*files: str) -> None:
    """Skip where a file of an installed package is not there; packages are not imported for it."""
    for file in files:
        package, _, inside = file.partition("/")
        found = importlib.util.find_spec(package)
        if found is None or not (Path(found.submodule_search_locations[0]) / inside).exists():
            pytest.skip(f"{file} is not installed: ITS TESTS DID NOT JUDGE")


def judged(program: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return said


def test_optax_judges_cross_entropy_and_poly1():
    need("jax/", "optax/losses/_classification_test.py")
    classes = ["SoftmaxCrossEntropyTest", "SafeSoftmaxCrossEntropyTest", "SoftmaxCrossEntropyWithIntegerLabelsTest",
               "SigmoidCrossEntropyTest", "PolyLossTest"]  # fmt: skip
    said = judged(OPTAX, *classes)
    assert int(re.findall(r"Ran (\d+) tests", said)[-1]) >= 30


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_keras_judges_cross_entropy(backend):
    need("keras/src/losses/losses_test.py", f"{backend}/")
    chosen = CHOSEN if backend == "torch" else f"{CHOSEN} and not different_axis"
    said = judged(KERAS, chosen, KERAS_BACKEND=backend)
    assert int(re.findall(r"(\d+) passed", said)[-1]) >= 25
