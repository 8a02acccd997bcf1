"""A program as a user writes it, for the type checker: every public part is called once."""

import jax
import jax.numpy as jnp
from flax import nnx

import diffsim
from diffsim import delay, gradients, invertible, losses, motion, quadrature, tasks, training
from diffsim.gradients import (
    Distribution,
    EvolutionStrategies,
    Gaussian,
    Pathwise,
    ScoreFunction,
    estimate,
    surrogate,
)
from diffsim.invertible import Chain, Dense, Diagonal, LeakyRelu, invert

world = diffsim.World.create([diffsim.table(), diffsim.net(), diffsim.paddle(0.08, 0.8, 0.4)])
ball = diffsim.BallState.create([1.3, 0.0, 1.0], [-5.0, 0.0, 1.0])
key: jax.Array = jax.random.key(0)


def miss(x: jax.Array) -> jax.Array:
    return jnp.sum(x**2)


found = estimate(miss, ScoreFunction(Gaussian(0.2), samples=512))(jnp.zeros(2), key=key)
slope: jax.Array = jax.grad(surrogate(miss, EvolutionStrategies(sigma=[0.1, 0.2], samples=8)))(
    jnp.zeros(2), key=key
)
named = gradients.make("spsa", samples=4)
print(named.objective, found.interval(0.9))
grid = quadrature.sphere_grid(9)
print(
    quadrature.integrate(jnp.ones(grid.shape), grid).value, quadrature.make("lebedev", 5).weights()
)
chain = Chain([Dense([[2.0, 0.0], [1.0, 1.0]]), LeakyRelu(0.5), Diagonal([1.0, 2.0])])
print(
    chain.inverse(jnp.ones(2)),
    invert(chain, jnp.ones(2)).status,
    chain.forward_and_log_det(jnp.ones(2))[1],
)
loss = losses.softmax_infogain(
    jnp.zeros((4, 3)), jnp.arange(4) % 3, [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]
)
loss += losses.softmax_infogain(
    jnp.zeros((4, 3)), jnp.arange(4) % 3, losses.SmoothingInfogain.create(0.1, 3)
)
samples = delay.FrequencySamples.create(jnp.ones(32, complex), step=1e6)
echoes = delay.estimate_delays(samples, maximum=3)
task = tasks.make("paddle", target=(1.0, 0.2))
trainer = training.Trainer(training.Traced(task), training.Settings(steps=3))
interval: training.Interval = trainer.evaluate(key, 10)["legal_rate"]
rngs = nnx.Rngs(0)
layer: invertible.Layer = invertible.LAYERS["dense"](3, rngs=rngs)
x = Distribution(jnp.zeros(2), 0.1)
print(loss, echoes.delays, interval.low, layer, x, Pathwise(mode="forward"), motion, world, ball)
