"""The losses in JAX: pure functions with a value for each example, in optax's manner.

Classes are the last axis (`axis`), labels are class indices or class probabilities, `where` says which classes there
are. Derivatives of every order, in the logits, in soft labels and in a loss's parameters, are JAX's own, of terms that
are exact in both tails; `jit`, `vmap`, `grad`, `jvp` and `hessian` go through. Half types are computed in float32.

>>> import jax, jax.numpy as jnp
>>> logits, labels = jnp.array([[2.0, 0.0, -1.0]]), jnp.array([0])
>>> adma_loss(logits, labels, a=0.26).round(4)
Array([0.1149], dtype=float32)
>>> jax.grad(lambda a: adma_loss(logits, labels, a=a).mean())(0.26).round(4)
Array(0.4092, dtype=float32, weak_type=True)
>>> loss("gce:q=0.7", logits, labels).shape
(1,)
"""

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise ImportError("adma.jax needs JAX: pip install 'adma[jax]'") from error

from adma.jax.losses import binary_loss, binary_posterior, loss, posterior
from adma.jax.named import (
    active_passive_loss,
    adma_loss,
    asymmetric_exponential_loss,
    asymmetric_generalized_cross_entropy,
    asymmetric_unhinged_loss,
    bi_tempered_loss,
    binary_adma_loss,
    binary_asymmetric_exponential_loss,
    binary_asymmetric_generalized_cross_entropy,
    binary_asymmetric_unhinged_loss,
    binary_cross_entropy,
    binary_focal_loss,
    binary_generalized_cross_entropy,
    binary_mean_absolute_error,
    binary_poly1_loss,
    binary_taylor_cross_entropy,
    cross_entropy,
    focal_loss,
    generalized_cross_entropy,
    mean_absolute_error,
    mean_squared_error,
    poly1_loss,
    semantic_cross_entropy,
    smoothed_cross_entropy,
    squared_hinge,
    symmetric_cross_entropy,
    taylor_cross_entropy,
)

__all__ = [
    "active_passive_loss",
    "adma_loss",
    "asymmetric_exponential_loss",
    "asymmetric_generalized_cross_entropy",
    "asymmetric_unhinged_loss",
    "bi_tempered_loss",
    "binary_adma_loss",
    "binary_asymmetric_exponential_loss",
    "binary_asymmetric_generalized_cross_entropy",
    "binary_asymmetric_unhinged_loss",
    "binary_cross_entropy",
    "binary_focal_loss",
    "binary_generalized_cross_entropy",
    "binary_loss",
    "binary_mean_absolute_error",
    "binary_poly1_loss",
    "binary_posterior",
    "binary_taylor_cross_entropy",
    "cross_entropy",
    "focal_loss",
    "generalized_cross_entropy",
    "loss",
    "mean_absolute_error",
    "mean_squared_error",
    "poly1_loss",
    "posterior",
    "semantic_cross_entropy",
    "smoothed_cross_entropy",
    "squared_hinge",
    "symmetric_cross_entropy",
    "taylor_cross_entropy",
]
