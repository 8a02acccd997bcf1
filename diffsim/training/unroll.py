"""Play a policy in a step-wise task: a stochastic policy, a stretch of steps, and its returns."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx, struct

from diffsim._types import Tree
from diffsim.envs import Env, EnvState
from diffsim.training.policy import MLP


@struct.dataclass
class Actor:
    """A Gaussian policy on commands u ~ N(mean(obs), e^{2 s}); the action is tanh u.

    Attributes:
        graph: of the network, observation to mean.

    >>> actor, params = Actor.create(3, 2, (8,), jax.random.key(0))
    >>> actor.mean(params, jnp.ones(3)).tolist()
    [0.0, 0.0]
    """

    graph: nnx.GraphDef = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls, inputs: int, outputs: int, hidden: tuple[int, ...], key: jax.Array, deviation=0.3
    ) -> tuple["Actor", dict[str, Tree]]:
        """The policy and its first parameters; ``deviation`` is e^s of each command."""
        graph, network = nnx.split(MLP(inputs, hidden, outputs, rngs=nnx.Rngs(key)))
        spread = jnp.full(outputs, math.log(deviation))
        return cls(graph), {"network": network, "log_deviation": spread}

    def mean(self, params: dict[str, Tree], obs: jax.Array) -> jax.Array:
        """Of the command, (actions,)."""
        return nnx.merge(self.graph, params["network"])(obs)

    def log_prob(self, params: dict[str, Tree], obs: jax.Array, command: jax.Array) -> jax.Array:
        """log π(u | obs) up to a constant, ()."""
        spread = params["log_deviation"]
        z = (command - self.mean(params, obs)) * jnp.exp(-spread)
        return -jnp.sum(0.5 * z**2 + spread)


@struct.dataclass
class Stretch:
    """A stretch of T steps; after the end of an episode nothing changes any more, at reward 0.

    Attributes:
        obs: seen before each step, (T, observations).
        command: u, (T, actions).
        reward: (T,).
        live: whether the episode was still on before the step, (T,) bool.
    """

    obs: jax.Array
    command: jax.Array
    reward: jax.Array
    live: jax.Array


def unroll(
    env: Env, actor: Actor, params: Tree, state: EnvState, noise: jax.Array
) -> tuple[EnvState, Stretch]:
    """Play ``len(noise)`` steps from ``state``; ``jax.vmap`` it for many.

    Each step is recomputed in reverse mode (``jax.checkpoint``), so that a long stretch keeps
    only its states.

    Args:
        noise: standard normal, (T, actions); zeros play the mean.

    Returns:
        the state at the end, and the steps.
    """

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def step(state, noise):
        command = actor.mean(params, state.obs) + jnp.exp(params["log_deviation"]) * noise
        after = env.step(state, jnp.tanh(command))
        return after, Stretch(state.obs, command, after.reward, ~state.done)

    return jax.lax.scan(step, state, noise)


def discounted(
    stretch: Stretch, end: EnvState, discount: float, value: jax.Array | float = 0.0
) -> jax.Array:
    """(1/T) [Σ_t γ^t r_t + γ^T V], V dropped where the episode ended: SHAC's objective.

    Args:
        discount: γ.
        value: V, of the state at the end, (); 0 for a return that is simply cut there.

    Source: Xu et al. 2022, "Accelerated policy learning with parallel differentiable simulation",
    eq. 5.
    """
    length = stretch.reward.shape[0]
    weights = jnp.asarray(discount, stretch.reward.dtype) ** jnp.arange(
        length + 1, dtype=stretch.reward.dtype
    )
    rest = jnp.where(end.done, 0, value)
    return (jnp.sum(weights[:-1] * stretch.reward) + weights[-1] * rest) / length
