"""The rows of the parity table: every loss on hostile logits, by each backend. As a program: by Keras, into a file.

KERAS_BACKEND=jax python tests/parity.py keras OUT.npz
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager

import ml_dtypes
import numpy as np

import exact
from adma import numpy as reference
from adma.family import Loss, Member
from adma.spec import parse

LOSSES: dict[str, Loss] = {exact.name(m): m for m in exact.EACH} | {s: parse(s) for s in exact.CLASSICS}
DTYPES = {"float64": np.float64, "float32": np.float32, "bfloat16": ml_dtypes.bfloat16}
KINDS = ("index", "soft")


def inputs(dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (N, 5) that the type holds exactly, class indices and class probabilities; all in float64.

    Ties; margins of 80 either way, so t near 0 and near 80; 1e4; masked classes; ordinary rows.
    """
    rng = np.random.default_rng(0)
    inf = np.inf
    hostile = np.array(
        [
            [0, 0, 0, 0, 0], [3, 3, -1, 0, 0], [80, 0, 1, 2, 3], [0, 80, 1, 2, 3], [1e4, -1e4, 0, 0, 1],
            [-1e4, 1e4, 0, 0, 1], [1, 2, -inf, 0, -inf], [2, 1, 0, -inf, -inf], [40, 0, -inf, 1, 2],
            [-500, -501, -502, -503, -504],
        ]
    )  # fmt: skip
    spread = rng.normal(size=(22, 5)) * np.geomspace(0.1, 30, 22)[:, None]
    logits = np.concatenate([hostile, spread]).astype(DTYPES[dtype]).astype(np.float64)
    index = np.concatenate([np.zeros(10, int), rng.integers(0, 5, 22)])
    # in eighths, so that they sum to 1 in every type; on classes that are possible
    possible = np.isfinite(logits)
    soft = np.stack([rng.multinomial(8, row / row.sum()) for row in possible]) / 8
    soft[:4] = np.eye(5)[[0, 1, 0, 0]]
    return logits, index, soft


def truth(loss: Loss, logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, their gradient in float64, and the size of the gradient's two terms, which may cancel.

    The reference has no gradient of the losses outside the family: there it is PyTorch's in float64.
    """
    rows = reference.loss(loss, logits, target, reduction="none")
    if not isinstance(loss, Member):
        gradient = by_torch(loss, "float64", logits, target)[1]
        return rows, gradient, np.abs(gradient).max(1, keepdims=True) + np.zeros_like(gradient)
    gradient = reference.gradient(loss, logits, target, reduction="sum")
    if target.ndim == 1:
        return rows, gradient, np.abs(gradient)
    t = reference.nll(logits)
    slope = np.where(target == 0, 0.0, target * loss.slope(t, np))
    return rows, gradient, np.exp(-t) * slope.sum(1, keepdims=True) + slope


def by_torch(
    loss: Loss, dtype: str, logits: np.ndarray, target: np.ndarray, engine: str = ""
) -> tuple[np.ndarray, ...]:
    """Rows and gradient by PyTorch: the engine that it chooses, or "eager" or "composed"."""
    import torch

    from adma import make_loss
    from adma.torch.kernels import eager

    z = torch.tensor(logits, dtype=getattr(torch, dtype), requires_grad=True)
    y = torch.tensor(target) if target.ndim == 1 else torch.tensor(target, dtype=z.dtype)
    if engine:
        compute = eager.index_rows if engine == "eager" else eager.composed_index_rows
        rows = compute(z[:, :, None], y[:, None], loss)[:, 0]
    else:
        rows = make_loss(loss, reduction="none")(z, y)
    (gradient,) = torch.autograd.grad(rows.sum(), z)
    return rows.detach().double().numpy(), gradient.double().numpy()


def jax_doubles(enabled: bool = True) -> AbstractContextManager[None]:
    """JAX with float64, or without, for a while: by the name that this version has for it."""
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax.experimental import enable_x64

    return enable_x64(enabled)


def by_jax(loss: Loss, dtype: str, logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows and gradient by JAX."""
    import jax
    import jax.numpy as jnp

    from adma import jax as adma_jax

    with jax_doubles(dtype == "float64"):
        z = jnp.asarray(logits, dtype)
        y = jnp.asarray(target) if target.ndim == 1 else jnp.asarray(target, dtype)

        def rows(z):
            out = adma_jax.loss(loss, z, y)
            return out.sum(), out

        gradient, out = jax.grad(rows, has_aux=True)(z)
        return np.asarray(out, np.float64), np.asarray(gradient, np.float64)


def by_keras(loss: Loss, dtype: str, logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows and gradient by the backend of Keras that runs."""
    import keras
    from keras import ops

    from adma.keras import make_loss

    shaped = make_loss(loss, from_logits=True, reduction=None, dtype="float64" if dtype == "float64" else "float32")
    z = ops.convert_to_tensor(logits, dtype=dtype)
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        rows, pull = jax.vjp(lambda z: shaped(target, z), z)
        (gradient,) = pull(np.ones_like(rows))
    elif backend == "torch":
        import torch

        z.requires_grad_()
        rows = shaped(target, z)
        (gradient,) = torch.autograd.grad(rows.sum(), z)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(z)
            rows = shaped(target, z)
        gradient = tape.gradient(rows, z)
    as_numpy = [ops.convert_to_numpy(ops.stop_gradient(ops.cast(x, "float64" if backend != "jax" else "float32")))
                for x in (rows, gradient)]  # fmt: skip
    return as_numpy[0].astype(float), as_numpy[1].astype(float)


if __name__ == "__main__":
    import keras

    found = {}
    for dtype in DTYPES:
        if dtype == "float64" and keras.config.backend() == "jax":
            continue  # it has float64 only where all of it has
        logits, index, soft = inputs(dtype)
        for name, loss in LOSSES.items():
            for kind, target in zip(KINDS, (index, soft), strict=True):
                rows, gradient = by_keras(loss, dtype, logits, target)
                found[f"{dtype}|{name}|{kind}|rows"], found[f"{dtype}|{name}|{kind}|gradient"] = rows, gradient
    np.savez(sys.argv[2], **found)
