"""Gradients of a closed loop's return in the policy's parameters: one function for each.

All share one objective, the return of a stretch of T steps
(:func:`~diffsim.training.unroll.discounted`), so they can be compared; only how they get its
gradient differs. Their names are those of :data:`diffsim.gradients.METHODS`, but for shac, which
has a critic.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree

from diffsim import gradients
from diffsim._types import Tree
from diffsim.envs import Env, EnvState
from diffsim.gradients.inverse_variance import cross_fitted
from diffsim.gradients.rewards import policy_gradient_objective
from diffsim.training.critic import Critic
from diffsim.training.sharding import averaged, divided
from diffsim.training.unroll import Actor, Stretch, discounted, unroll

FOLDS = 4


@struct.dataclass
class Loop:
    """A policy in its task, and how far to look.

    Attributes:
        env: the task.
        actor: the policy.
        critic: what stands for the rest of an episode.
        discount: γ.
    """

    env: Env
    actor: Actor
    critic: Critic
    discount: float = struct.field(pytree_node=False, default=0.99)

    def play(self, params: Tree, state: EnvState, noise: jax.Array) -> tuple[EnvState, Stretch]:
        """See :func:`unroll`."""
        return unroll(self.env, self.actor, params, state, noise)

    def cost(self, params, critic, state, noise) -> tuple[jax.Array, tuple[EnvState, Stretch]]:
        """Minus the return of one stretch; with a critic's parameters, bootstrapped by it."""
        end, stretch = self.play(params, state, noise)
        value = 0.0 if critic is None else self.critic.value(critic, end.obs)
        return -discounted(stretch, end, self.discount, value), (end, stretch)


@struct.dataclass
class Slope:
    """What an estimator hands back: the cost, its gradient, and the stretches it saw.

    Attributes:
        value: mean cost of a step, ().
        grad: tree like the parameters.
        end: states at the end of each stretch.
        stretch: the stretches, leaves (batch, T, …).
        info: the estimator's own numbers.
    """

    value: jax.Array
    grad: Tree
    end: EnvState
    stretch: Stretch
    info: dict[str, jax.Array] = struct.field(default_factory=dict)


def _pathwise(loop, shared, rows):
    """Costs (n,), gradients (leaves (n, …)), and ends and stretches of each row."""
    one = jax.value_and_grad(loop.cost, has_aux=True)
    (costs, seen), terms = jax.vmap(one, (None, None, 0, 0))(*shared, *rows)
    return costs, terms, seen


def _backpropagated(loop, params, critic, states, noise) -> Slope:
    """Their means; every device averages its own rows."""

    def share(shared, rows):
        costs, terms, seen = _pathwise(loop, shared, rows)
        return (jnp.mean(costs), _mean(terms)), seen

    (cost, grad), seen = divided(share)((params, critic), (states, noise))
    return Slope(cost, grad, *seen)


def _values_only(loop, params, states, noise):
    """Costs, ends and stretches of each row, without a derivative."""

    def share(params, rows):
        return (), jax.vmap(loop.cost, (None, None, 0, 0))(params, None, *rows)

    costs, seen = divided(share)(params, (states, noise))[1]
    return costs, *seen


def _score(loop, stretch: Stretch) -> tuple[Callable, tuple[jax.Array, ...]]:
    """Σ_t w_t log π(u_t | obs_t) of a row, and all rows; w makes the mean's slope the estimate.

    Each action answers for the costs after it, less their mean over the other rollouts.
    """
    costs = -stretch.reward / stretch.reward.shape[1]
    weights = jax.grad(policy_gradient_objective)(jnp.zeros_like(costs), costs, loop.discount)

    def scored(params, obs, command, weight):
        logs = jax.vmap(loop.actor.log_prob, (None, 0, 0))(params, obs, command)
        return jnp.sum(weight * logs)

    weights = jnp.where(stretch.live, weights.shape[0] * weights, 0)
    return scored, (stretch.obs, stretch.command, weights)


def pathwise(loop, params, critic, states, noise, key) -> Slope:
    """Backpropagation through policy and physics over the stretch, which is simply cut."""
    return _backpropagated(loop, params, None, states, noise)


def shac(loop, params, critic, states, noise, key) -> Slope:
    """The same, with the critic's value of the last state for what comes after (SHAC)."""
    return _backpropagated(loop, params, critic, states, noise)


def score_function(loop, params, critic, states, noise, key) -> Slope:
    """The score function with reward-to-go and a leave-one-out baseline: values only."""
    costs, end, stretch = _values_only(loop, params, states, noise)
    scored, rows = _score(loop, stretch)

    def mean(params, rows):
        return jnp.mean(jax.vmap(scored, (None, 0, 0, 0))(params, *rows))

    return Slope(jnp.mean(costs), averaged(jax.grad(mean))(params, rows), end, stretch)


def inverse_variance(loop, params, critic, states, noise, key) -> Slope:
    """Pathwise and score function weighted by inverse variance, cross-fitted over rollouts."""
    count = noise.shape[0]
    if count % FOLDS:
        raise ValueError(f"batch: expected a multiple of {FOLDS}, got {count}")

    def smooth_terms(params, rows):
        costs, terms, seen = _pathwise(loop, (params, None), rows)
        return jnp.mean(costs), (_flat(terms), *seen)

    def rough_terms(params, rows):
        return (), _flat(jax.vmap(jax.grad(scored), (None, 0, 0, 0))(params, *rows))

    # Weights want all terms at once, so each device is sent the others'.
    cost, (smooth, end, stretch) = divided(smooth_terms)(params, (states, noise))
    scored, rows = _score(loop, stretch)
    rough = divided(rough_terms)(params, rows)[1]
    alphas = cross_fitted(smooth, rough, FOLDS)
    weight = jnp.repeat(alphas, count // FOLDS)[:, None]
    mixed = jnp.mean(weight * smooth + (1 - weight) * rough, axis=0)
    grad = ravel_pytree(params)[1](mixed)
    return Slope(cost, grad, end, stretch, {"alpha": jnp.mean(alphas)})


def by_method(method: gradients.Method) -> Callable[..., Slope]:
    """Any estimator of :mod:`diffsim.gradients`, perturbing the parameters: ES, SPSA, …"""

    def slope(loop, params, critic, states, noise, key) -> Slope:
        def mean(params):
            return jnp.mean(_values_only(loop, params, states, noise)[0])

        costs, end, stretch = _values_only(loop, params, states, noise)
        loss = gradients.surrogate(mean, method)
        return Slope(jnp.mean(costs), jax.grad(loss)(params, key=key), end, stretch)

    return slope


GRADIENTS: dict[str, Callable[..., Slope]] = {
    "pathwise": pathwise,
    "shac": shac,
    "score-function": score_function,
    "inverse-variance": inverse_variance,
    "evolution-strategies": by_method(gradients.EvolutionStrategies(sigma=0.03, samples=8)),
}


def _flat(tree):
    """Rows of a tree as rows of a matrix."""
    return jax.vmap(lambda row: ravel_pytree(row)[0])(tree)


def _mean(tree):
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), tree)
