# %% [markdown]
# # Hit the ball into a bucket, with your own network and task
#
# A ball flies towards a paddle and is to land in a bucket on the floor. Everything here is yours to
# change: the world, the serve, the loss and the network. The simulator needs only a world, a ball
# and a path; the gradient of what happens goes back into the network. The paddle is large, because
# a ball that misses it leaves the loss without a slope; `HitToTarget` trains with a small one.

# %%
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from diffsim import BallState, World, floor, paddle, simulate
from diffsim.motion import MinimumJerk

world = World.create([floor(0.5, 0.4), paddle(0.6, 0.8, 0.4)])
swing = MinimumJerk.create(
    via_times=[0.6], duration=0.9, home=(-1.5, 0, 1, 0, 0, 0), normal=(1, 0, 0.4)
)
bucket = jnp.array([0.6, 0.4])  # x and y on the floor, m


def serve(key):
    """A ball that reaches the resting paddle after about 0.55 s, a little to the left or right."""
    side, speed = jax.random.uniform(key, (2,), minval=-1.0)
    start = jnp.array([0.8, 0.0, 1.0])
    velocity = jnp.array([-4.2, 0.0, 2.7]) + jnp.array([0.2 * speed, 0.2 * side, 0.0])
    return BallState.create(start, velocity)


# %% [markdown]
# The loss is the squared distance of the first landing on the floor from the bucket. Impacts are
# in order of time; `surface` is the index in the world's list. Where the ball has not landed yet,
# its last position stands in, so that there is a slope everywhere.


# %%
def loss(weights, start):
    flight = simulate(world, start, swing(weights), duration=2.0, step=0.1, max_impacts=4)
    landed = flight.impacts.valid & (flight.impacts.surface == 0)
    first = landed & (jnp.cumsum(landed) == 1)
    at = jnp.sum(jnp.where(first[:, None], flight.impacts.before.position, 0.0), axis=0)
    at = jnp.where(jnp.any(landed), at, flight.final.position)
    return jnp.sum((at[:2] - bucket) ** 2) + 1e-3 * jnp.sum(weights**2)


def batch_loss(answer, key):
    """Mean loss over 32 serves of a network ``answer(position and velocity) -> weights``."""
    starts = jax.vmap(serve)(jax.random.split(key, 32))
    seen = jnp.concatenate([starts.position, starts.velocity / 5], axis=1)
    return jnp.mean(jax.vmap(loss)(jax.vmap(answer)(seen), starts))


# %% [markdown]
# ## With flax
# Split the network once with `nnx.split`; inside the loop there are only plain `jax` transforms.


# %%
class Network(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(6, 32, rngs=rngs)
        self.outer = nnx.Linear(
            32, swing.weight_count, kernel_init=nnx.initializers.zeros, rngs=rngs
        )

    def __call__(self, x):
        return 0.3 * self.outer(jnp.tanh(self.inner(x)))


def train(params, answer_of, steps=150):
    """Adam on ``params``; ``answer_of(params)`` is the network. Gives the loss of each update."""
    optimiser = optax.adam(3e-2)
    state = optimiser.init(params)

    @jax.jit
    def update(params, state, key):
        value, slope = jax.value_and_grad(lambda p: batch_loss(answer_of(p), key))(params)
        change, state = optimiser.update(slope, state)
        return optax.apply_updates(params, change), state, value

    losses = []
    for key in jax.random.split(jax.random.key(1), steps):
        params, state, value = update(params, state, key)
        losses.append(float(value))
    return losses


graph, params = nnx.split(Network(nnx.Rngs(0)))
losses = train(params, lambda p: nnx.merge(graph, p))
print(f"flax: mean squared distance {losses[0]:.3f} m² before, {losses[-1]:.4f} m² after")
assert losses[-1] < 0.2 * losses[0]

# %% [markdown]
# ## With equinox
# The same loop; only how a network becomes arrays and back is equinox's.

# %%
import equinox as eqx  # noqa: E402

network = eqx.nn.MLP(6, swing.weight_count, 32, 1, jnp.tanh, key=jax.random.key(0))
arrays, rest = eqx.partition(network, eqx.is_array)
arrays = jax.tree.map(lambda leaf: 0.3 * leaf, arrays)  # begin near the resting paddle
losses = train(arrays, lambda p: eqx.combine(p, rest))
print(f"equinox: {losses[0]:.3f} m² before, {losses[-1]:.4f} m² after")
assert losses[-1] < 0.2 * losses[0]
