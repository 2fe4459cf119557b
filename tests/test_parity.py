"""One table: every loss x backend x type, value and gradient against the float64 reference, on hostile logits."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed: THE PARITY TABLE WAS NOT TESTED")

import parity
from adma.classic import LargeMarginSoftmax

# relative to the truth (of a soft target's gradient: to its two terms, which may cancel). float32 loses at most the
# rounding of a logit gap of 80, 4e-6, twice; results in bfloat16 have 8 bits; what Keras gives is float32 but for the
# gradient. PyTorch computes rows in float64.
TOLERANCE = {
    "torch": {"float64": 1e-12, "float32": 2e-6, "bfloat16": 4e-3},
    "jax": {"float64": 1e-12, "float32": 2e-5, "bfloat16": 4e-3},
    "keras": {"float64": 1e-12, "float32": 2e-5, "bfloat16": 4e-3},
}
# below it a number may be 0: of the type's, with room for a sum's terms; outside the family, a difference's rounding
FLOOR = {"float64": 1e-280, "float32": 1e-30, "bfloat16": 1e-30}
CLASSIC_FLOOR = {"float64": 1e-13, "float32": 1e-5, "bfloat16": 1e-5}
BACKENDS = ["torch", "torch-eager", "torch-composed", "jax", "keras-torch", "keras-jax", "keras-tensorflow"]


def check(backend: str, name: str, dtype: str, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    loss = parity.LOSSES[name]
    logits, index, soft = parity.inputs(dtype)
    rtol = TOLERANCE[backend.split("-")[0]][dtype]
    family = name not in parity.exact.CLASSICS
    floor = (FLOOR if family else CLASSIC_FLOOR)[dtype]
    for kind, target in zip(parity.KINDS, (index, soft), strict=True):
        if kind not in found:
            continue
        rows, gradient, size = parity.truth(loss, logits, target)
        got_rows, got_gradient = found[kind]
        where = f"{backend} {dtype} {name} {kind}"
        with np.errstate(invalid="ignore"):
            off = np.where(got_rows == rows, 0.0, np.abs(got_rows - rows))  # equal infinities are equal, NaN is not
        np.testing.assert_array_less(off, rtol * np.abs(rows) + floor, err_msg=where)
        np.testing.assert_array_less(np.abs(got_gradient - gradient), rtol * size + floor, err_msg=where)


def need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: ITS ROWS OF THE PARITY TABLE WERE NOT TESTED")


@pytest.fixture(scope="module")
def by_keras(tmp_path_factory):
    """What each backend of Keras gives, from a process of its own."""
    made: dict[str, dict[str, np.ndarray]] = {}

    def get(backend: str) -> dict[str, np.ndarray]:
        if backend not in made:
            out = tmp_path_factory.mktemp("parity") / f"{backend}.npz"
            environment = {
                **os.environ,
                "KERAS_BACKEND": backend,
                "CUDA_VISIBLE_DEVICES": "",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            }
            done = subprocess.run(
                [sys.executable, Path(parity.__file__), "keras", out],
                env=environment, capture_output=True, text=True, timeout=600, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-4000:]
            made[backend] = dict(np.load(out))
        return made[backend]

    return get


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_agrees_with_the_reference(backend, dtype, by_keras):
    logits, index, soft = parity.inputs(dtype)
    library, _, part = backend.partition("-")
    need(library, *([part] if library == "keras" else []))
    if (backend, dtype) == ("keras-jax", "float64"):
        pytest.skip("Keras on JAX has no float64 but by JAX's own switch; adma.jax is tested with it")
    for name, loss in parity.LOSSES.items():
        found = {}
        for kind, target in zip(parity.KINDS, (index, soft), strict=True):
            if library == "keras":
                table = by_keras(part)
                found[kind] = tuple(table[f"{dtype}|{name}|{kind}|{what}"] for what in ("rows", "gradient"))
            elif library == "jax":
                found[kind] = parity.by_jax(loss, dtype, logits, target)
            elif not part:
                found[kind] = parity.by_torch(loss, dtype, logits, target)
            elif kind == "index" and name not in parity.exact.CLASSICS:
                found[kind] = parity.by_torch(loss, dtype, logits, target, part)
        check(backend, name, dtype, found)


def test_the_table_has_every_loss():
    from adma.spec import known

    built_in = {kind for kind in known().values() if kind.__module__.startswith("adma.")}
    assert {type(loss) for loss in parity.LOSSES.values()} == built_in - {LargeMarginSoftmax}  # it is of a layer
