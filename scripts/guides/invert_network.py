# %% [markdown]
# # Invert a trained network
#
# `invert(network, y)` finds x with network(x) = y, and gives an error estimate and a status for
# each sample. It is exact where the network is made of invertible layers, and searches where it is
# not.

# %%
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from diffsim.invertible import Chain, Dense, InversionStatus, LeakyRelu, invert

# %% [markdown]
# ## A network of invertible layers
# It is trained like any other, and then undone layer by layer.

# %%
rngs = nnx.Rngs(0)
network = Chain([Dense.random(4, rngs=rngs), LeakyRelu(0.5), Dense.random(4, rngs=rngs)])
graph, params = nnx.split(network)
optimiser = optax.adam(1e-2)
state = optimiser.init(params)


def wanted(x):
    return jnp.array([x[0] + 0.5 * x[1], x[1] - x[2], 2 * x[2], x[3] + jnp.tanh(x[0])])


@jax.jit
def update(params, state, key):
    x = jax.random.normal(key, (64, 4))

    def loss(params):
        return jnp.mean((jax.vmap(nnx.merge(graph, params))(x) - jax.vmap(wanted)(x)) ** 2)

    value, slope = jax.value_and_grad(loss)(params)
    change, state = optimiser.update(slope, state)
    return optax.apply_updates(params, change), state, value


for key in jax.random.split(jax.random.key(1), 300):
    params, state, value = update(params, state, key)
network = nnx.merge(graph, params)

y = wanted(jnp.array([0.3, -0.2, 0.5, 0.1]))
found = invert(network, y)
print(f"fit {value:.4f}", found)
assert int(found.status) == InversionStatus.OK
assert jnp.allclose(network(found.x), y, atol=1e-4)

# %% [markdown]
# ## Any other network
# A plain function with fewer outputs than inputs: x is then one of many, and `free` counts the
# directions that are left. A target that cannot be reached gets a status, not an answer.

# %%
found = invert(lambda x: jnp.array([x @ x]), jnp.array([4.0]), size=3, start=jnp.ones(3))
print(found)
assert abs(float(jnp.linalg.norm(found.x)) - 2) < 1e-3
never = invert(lambda x: x**2, jnp.array([-1.0]), size=1, start=jnp.ones(1), key=jax.random.key(0))
print(never)
assert int(never.status) != InversionStatus.OK
