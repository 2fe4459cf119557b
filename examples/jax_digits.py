"""Scikit-learn's digits in JAX, with optax and equinox; needs adma[jax], optax and equinox.

python examples/jax_digits.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from adma.jax import adma_loss, posterior

train, test, y, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0, test_size=500)
model = eqx.nn.MLP(64, 10, 64, 1, key=jax.random.key(0))
optimizer = optax.adam(3e-3)
state = optimizer.init(eqx.filter(model, eqx.is_array))


@eqx.filter_jit
def step(model, state, x, y):
    value, gradient = eqx.filter_value_and_grad(lambda m: adma_loss(jax.vmap(m)(x), y, a=0.26).mean())(model)
    updates, state = optimizer.update(gradient, state)
    return eqx.apply_updates(model, updates), state, value


train, test = jnp.asarray(train / 16), jnp.asarray(test / 16)
for epoch in range(1, 16):
    for batch in jax.random.permutation(jax.random.key(epoch), len(y))[:1280].reshape(20, 64):
        model, state, value = step(model, state, train[batch], y[batch])
logits = jax.vmap(model)(test)
print(f"test accuracy {100 * (logits.argmax(-1) == y_test).mean():.1f}%")
print(f"posterior of the first: class {posterior('adma:a=0.26', logits)[0].argmax()}, in truth {y_test[0]}")
