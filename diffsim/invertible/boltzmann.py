"""Learned starts with tied weights: restricted Boltzmann machines and deep belief nets."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from diffsim import _check
from diffsim._types import ArrayLike, Tree
from diffsim.invertible.base import normal, parameter
from diffsim.invertible.learned import standard


class RBM(nnx.Module):
    """Gaussian visible units of variance 1 and binary hidden ones, one weight both ways.

    p(h = 1 | v) = σ(W v + c), E(v | h) = Wᵀ h + b.
    """

    def __init__(self, weight: ArrayLike, visible: ArrayLike, hidden: ArrayLike):
        self.weight = parameter("weight", weight, ("hidden", "visible"))
        self.visible = parameter("visible", visible, self.weight.shape[1:])
        self.hidden = parameter("hidden", hidden, self.weight.shape[:1])

    def up(self, v: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(self.weight[...] @ v + self.hidden[...])

    def down(self, h: jax.Array) -> jax.Array:
        return self.weight[...].T @ h + self.visible[...]


def train_rbm(
    v: jax.Array, hidden: int, *, key: jax.Array, steps: int, batch: int, rate: float
) -> RBM:
    """One-step contrastive divergence with momentum ½ on standardised rows of v, (count, n).

    Hinton, A practical guide to training restricted Boltzmann machines, 2010, sections 3 and 13.
    """
    first, later = jax.random.split(key)
    weight = 0.1 * normal(nnx.Rngs(params=first), (hidden, v.shape[1]), v.dtype)
    start = RBM(weight, jnp.zeros(v.shape[1], v.dtype), jnp.zeros(hidden, v.dtype))
    graph, state = nnx.split(start)

    def statistics(v, h):
        return RBM(h.T @ v / v.shape[0], jnp.mean(v, axis=0), jnp.mean(h, axis=0))

    @jax.jit
    def run(state, v):
        def step(carry, key):
            state, speed = carry
            model = nnx.merge(graph, state)
            rows, coins = jax.random.split(key)
            data = v[jax.random.randint(rows, (batch,), 0, v.shape[0])]
            up = jax.vmap(model.up)
            likely = up(data)
            fired = jax.random.bernoulli(coins, likely).astype(v.dtype)
            again = jax.vmap(model.down)(fired)
            positive = nnx.state(statistics(data, likely))
            negative = nnx.state(statistics(again, up(again)))
            speed = jax.tree.map(
                lambda s, p, n: 0.5 * s + rate * (p - n), speed, positive, negative
            )
            return (jax.tree.map(jnp.add, state, speed), speed), None

        zero = jax.tree.map(jnp.zeros_like, state)
        return jax.lax.scan(step, (state, zero), jax.random.split(later, steps))[0][0]

    return nnx.merge(graph, run(state, v))


class BeliefNet(nnx.Module):
    """RBMs on x, and on top one that joins their features with y.

    Made by :func:`train_dbn`; call it on y, or give it to ``invert`` as ``start``.
    """

    def __init__(self, stack: Sequence[RBM], top: RBM, scales: Tree, sweeps: int):
        self.stack, self.top, self.sweeps = nnx.List(stack), top, sweeps
        self.scales = nnx.Variable(scales)

    def __call__(self, y: jax.Array) -> jax.Array:
        """x for y (m,): mean-field sweeps with y held, then down with the tied weights."""
        x_mean, x_scale, y_mean, y_scale, middle, spread = self.scales.get_value()
        held = (y - y_mean) / y_scale

        def sweep(_, features):
            return self.top.down(self.top.up(jnp.concatenate([features, held])))[: middle.size]

        features = jax.lax.fori_loop(0, self.sweeps, sweep, jnp.zeros_like(middle))
        if not len(self.stack):
            return x_mean + x_scale * features
        value = jnp.clip(middle + spread * features, 0, 1)
        for rbm in reversed(list(self.stack)):
            value = rbm.down(value)
        return x_mean + x_scale * value


def train_dbn(
    network: Callable,
    x: Tree,
    *,
    key: jax.Array,
    hidden: Sequence[int] = (64, 64),
    steps: int = 2000,
    batch: int = 64,
    rate: float = 5e-3,
    sweeps: int = 20,
) -> BeliefNet:
    """Train a deep belief net on pairs (x, f(x)), layer by layer, to reconstruct x from y.

    Each hidden width but the last makes an RBM on what is below it; the last one's RBM sees the
    topmost features of x beside y. One width makes a single RBM on (x, y).

    Args:
        network: f, of one vector (n,) → (m,).
        x: samples of the inputs, (count, n).
        key: of first weights, samples and coins.
        hidden: widths from the bottom.
        steps: updates of each RBM.
        batch: samples an update.
        rate: of contrastive divergence.
        sweeps: of mean field at each call of the result.

    Source: Hinton, Osindero & Teh, A fast learning algorithm for deep belief nets, 2006.

    >>> x = jax.random.normal(jax.random.key(0), (256, 1))
    >>> g = train_dbn(lambda x: 3 * x, x, key=jax.random.key(1), hidden=(32,), steps=500)
    >>> bool(abs(g(jnp.array([1.5]))[0] - 0.5) < 0.25)
    True
    """
    x = _check.in_range("x", x)
    if x.ndim != 2 or not hidden:
        raise ValueError(
            f"x, hidden: expected shape (count, n) and widths, got {x.shape}, {hidden}"
        )
    y = jax.vmap(network)(x)
    (x_mean, x_scale), (y_mean, y_scale) = standard(x), standard(y)
    below, seen = (x - x_mean) / x_scale, (y - y_mean) / y_scale
    keys = jax.random.split(key, len(hidden))
    settings: dict[str, Any] = {"steps": steps, "batch": batch, "rate": rate}
    stack = []
    for width, used in zip(hidden[:-1], keys):
        stack.append(train_rbm(below, width, key=used, **settings))
        below = jax.vmap(stack[-1].up)(below)
    middle, spread = standard(below) if stack else (x_mean * 0, x_scale * 0 + 1)
    joined = jnp.concatenate([(below - middle) / spread, seen], axis=1)
    top = train_rbm(joined, hidden[-1], key=keys[-1], **settings)
    return BeliefNet(stack, top, (x_mean, x_scale, y_mean, y_scale, middle, spread), sweeps)
