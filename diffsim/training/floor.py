"""What an unseen spin costs: the best answers to serves whose spin is known, and to others."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffsim._intervals import Interval, mean_interval
from diffsim.training.evaluate import of_legal


def spin_floor(
    player: Any, *, serves: int = 16, spins: int = 16, updates: int = 150
) -> Callable[..., dict[str, Interval]]:
    """``find(policy, key)``, compiled: landing errors of the best answers to each serve alone.

    min_w E_spin[loss(w, serve, spin)] for an unknown spin, and min_w loss(w, serve, spin) for a
    known one, by Adam from the policy's answer. Each update of the first draws its spins anew, and
    so does the judgement, so that none is learned by heart. A network that does not see the spin
    does no better than the first, but for what the descent leaves.

    Args:
        player: of a :class:`diffsim.tasks.HitToTarget`.
        serves: how many.
        spins: drawn for each.
        updates: of each answer.

    Returns:
        from a policy, observation to trajectory weights, and a key: ``unknown_spin_cm`` and
        ``known_spin_cm``, mean landing errors of legal returns, over serves, with 95 % intervals.
    """
    task = player.task
    slopes = jax.vmap(jax.grad(task.loss))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, updates))

    def sample(key):
        starts = jax.vmap(task.sample)(jax.random.split(key, serves))
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, spins, axis=0), starts)

    def update(weights, state, starts, known):
        slope = slopes(weights, starts)
        mean = jnp.mean(slope.reshape(serves, spins, -1), axis=1)
        slope = jnp.where(known, slope, jnp.repeat(mean, spins, axis=0))
        with jax.numpy_dtype_promotion("standard"):  # optax mixes precisions
            change, state = optimizer.update(slope, state)
            return optax.apply_updates(weights, change), state

    starts = jax.eval_shape(sample, jax.random.key(0))
    kind = jnp.result_type(*jax.tree.leaves(starts))
    weights = jax.ShapeDtypeStruct((serves * spins, task.weight_count), kind)
    shapes = weights, jax.eval_shape(optimizer.init, weights), starts
    descend = jax.jit(update).lower(*shapes, jax.ShapeDtypeStruct((), bool)).compile()

    def find(policy, key):
        serve_key, *keys = jax.random.split(key, updates + 3)
        starts = sample(serve_key)
        first = jax.vmap(lambda start: policy(task.observe(start)))(starts)

        def drawn(key):
            noise = jax.random.normal(key, starts.spin.shape, starts.spin.dtype)
            return starts.replace(spin=task.serves.spin * noise)

        found = {}
        for known in (False, True):
            weights, state, faced = first, optimizer.init(first), drawn(keys[-1])
            for each in keys[:updates]:
                seen = faced if known else drawn(each)
                weights, state = descend(weights, state, seen, jnp.asarray(known))
            played = player.outcomes(weights, faced)
            errors = 100 * played["landing_error"].reshape(serves, spins)
            legal = played["legal"].reshape(serves, spins)
            means = [np.mean(row[good]) for row, good in zip(errors, legal) if good.any()]
            found["known_spin_cm" if known else "unknown_spin_cm"] = mean_interval(np.array(means))
        return found

    return find


def rows(found: dict[str, Interval]) -> list[tuple[str, str]]:
    """What :func:`spin_floor` found as text, for a table."""
    names = {"unknown_spin_cm": "best, spin unknown", "known_spin_cm": "best, spin known"}
    return [(label, of_legal(found[name], "cm")) for name, label in names.items()]
