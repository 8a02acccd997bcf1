"""What an unseen spin costs: the best answers to serves whose spin is known, and to others."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffsim._adam import adam
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

    def search(weights, starts, key):
        """Answers to each serve, and to each spin of each, from one answer a serve."""
        judged, descent = jax.random.split(key)

        def spread(tree):
            return jax.tree.map(lambda leaf: jnp.repeat(leaf, spins, axis=0), tree)

        def facing(key):
            rows = spread(starts)
            noise = jax.random.normal(key, rows.spin.shape, rows.spin.dtype)
            return rows.replace(spin=task.serves.spin * noise)

        def loss(answers, key):
            both = jax.tree.map(lambda *rows: jnp.concatenate(rows), facing(key), faced)
            unknown, known = answers
            rows = jnp.concatenate([spread(unknown), known])
            return jnp.sum(jax.vmap(task.loss)(rows, both))

        faced, keys = facing(judged), jax.random.split(descent, updates)
        rate = optax.cosine_decay_schedule(0.03, updates)
        unknown, known = adam(loss, (weights, spread(weights)), keys, rate)
        return faced, {"unknown_spin_cm": spread(unknown), "known_spin_cm": known}

    sample = jax.vmap(task.sample)
    starts = jax.eval_shape(lambda key: sample(jax.random.split(key, serves)), jax.random.key(0))
    kind = jnp.result_type(*jax.tree.leaves(starts))
    weights = jax.ShapeDtypeStruct((serves, task.weight_count), kind)
    compiled = jax.jit(search).lower(weights, starts, jax.random.key(0)).compile()

    def find(policy, key):
        serve_key, search_key = jax.random.split(key)
        starts = sample(jax.random.split(serve_key, serves))
        first = jax.vmap(lambda start: policy(task.observe(start)))(starts)
        faced, answers = compiled(first, starts, search_key)
        found = {}
        for name, weights in answers.items():
            played = player.outcomes(weights, faced)
            errors = 100 * played["landing_error"].reshape(serves, spins)
            legal = played["legal"].reshape(serves, spins)
            means = [np.mean(row[good]) for row, good in zip(errors, legal) if good.any()]
            found[name] = mean_interval(np.array(means))
        return found

    return find


def rows(found: dict[str, Interval]) -> list[tuple[str, str]]:
    """What :func:`spin_floor` found as text, for a table."""
    names = {
        "unknown_spin_cm": "least error, spin unseen",
        "known_spin_cm": "least error, spin seen",
    }
    return [(label, of_legal(found[name], "cm")) for name, label in names.items()]
