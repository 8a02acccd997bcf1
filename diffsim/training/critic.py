"""The critic: what is still to come from what is seen, fitted to TD(λ) targets."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

from diffsim._types import Tree
from diffsim.training.policy import MLP


def td_lambda(
    rewards: jax.Array, values: jax.Array, ended: jax.Array, discount: float, decay: float
) -> jax.Array:
    """G_t = r_t + γ [(1 − λ) V_{t+1} + λ G_{t+1}], without the bracket where the episode ended.

    Args:
        rewards: (T,).
        values: V of what was seen after each step, (T,); G_T = V_T.
        ended: whether the step ended the episode, (T,) bool.
        discount: γ.
        decay: λ.

    Source: Sutton & Barto 2018, §12.1.

    >>> td_lambda(jnp.ones(2), jnp.array([3.0, 5.0]), jnp.zeros(2, bool), 1.0, 1.0).tolist()
    [7.0, 6.0]
    """

    def step(later, row):
        reward, value, ended = row
        rest = (1 - decay) * value + decay * later
        total = reward + discount * jnp.where(ended, 0, rest)
        return total, total

    return jax.lax.scan(step, values[-1], (rewards, values, ended), reverse=True)[1]


@struct.dataclass
class CriticState:
    """Parameters, their slow copy that makes the targets, and the optimiser's state."""

    params: Tree
    target: Tree
    optimizer: optax.OptState


@struct.dataclass
class Critic:
    """V(obs) by a network.

    Attributes:
        graph: of the network.
        optimizer: an optax transformation.
        epochs, minibatches: of each fit.
        slowness: share of the slow copy that a fit keeps.
    """

    graph: nnx.GraphDef = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)
    epochs: int = struct.field(pytree_node=False, default=4)
    minibatches: int = struct.field(pytree_node=False, default=4)
    slowness: float = struct.field(pytree_node=False, default=0.2)

    @classmethod
    def create(
        cls, inputs: int, hidden: tuple[int, ...], learning_rate: float, key: jax.Array
    ) -> tuple["Critic", CriticState]:
        """A critic and its first state: V = 0."""
        graph, params = nnx.split(MLP(inputs, hidden, 1, rngs=nnx.Rngs(key)))
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))
        return cls(graph, optimizer), CriticState(params, params, optimizer.init(params))

    def value(self, params: Tree, obs: jax.Array) -> jax.Array:
        """V, one for each row of ``obs``."""
        return nnx.merge(self.graph, params)(obs)[..., 0]

    def fit(
        self, state: CriticState, obs: jax.Array, goals: jax.Array, live: jax.Array, key: jax.Array
    ) -> CriticState:
        """Some epochs of gradient steps on the mean of (V − G)² over the live rows.

        Args:
            obs: (n, observations).
            goals: G, (n,).
            live: which rows count, (n,) bool.
        """
        size = obs.shape[0] // self.minibatches

        def loss(params, rows):
            error = jnp.where(live[rows], self.value(params, obs[rows]) - goals[rows], 0)
            return jnp.sum(error**2) / jnp.maximum(jnp.sum(live[rows]), 1).astype(error.dtype)

        def step(carry, rows):
            params, optimizer = carry
            slope = jax.grad(loss)(params, rows)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes precisions
                updates, optimizer = self.optimizer.update(slope, optimizer, params)
                return (optax.apply_updates(params, updates), optimizer), None

        keys = jax.random.split(key, self.epochs)
        orders = jax.vmap(lambda key: jax.random.permutation(key, obs.shape[0]))(keys)
        batches = orders[:, : size * self.minibatches].reshape(-1, size)
        (params, optimizer), _ = jax.lax.scan(step, (state.params, state.optimizer), batches)
        target = jax.tree.map(
            lambda old, new: self.slowness * old + (1 - self.slowness) * new, state.target, params
        )
        return CriticState(params, target, optimizer)
