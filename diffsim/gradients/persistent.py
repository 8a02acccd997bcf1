"""Persistent and noise-reuse evolution strategies: truncated unrolls without truncation bias."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim._types import ArrayLike, Tree
from diffsim.gradients.base import Draws, Sampled, check_count
from diffsim.gradients.problem import Problem, mapped
from diffsim.gradients.unrolled import FlatLoss, UnrolledLoss, flat_loss, settled


@struct.dataclass
class Particles:
    """Antithetic pairs in the middle of an unroll.

    Attributes:
        states: flat states of both sides, (n, 2, q).
        noise: ξ, the sum of all perturbations so far, (n, d).
        windows: unrolled so far, int32.
    """

    states: jax.Array
    noise: jax.Array
    windows: jax.Array


@struct.dataclass
class PersistentES(Sampled):
    """Unroll K steps at a time with n pairs x ± σε, ε fresh each window (PES) or kept (NRES):

    ĝ_window = (1/n) Σ ξ_i [L⁺ − L⁻]/2σ, ξ = Σ ε so far (PES), ξ = ε (NRES),

    L± the window's cost from states carried on, never reset. Summed over an episode it is
    unbiased for the smoothed total loss, where truncated backpropagation or truncated ES would
    forget what early steps did to late ones. NRES varies less when costs are alike along the
    episode. A plain loss is one window: antithetic evolution strategies.

    As a method it runs the whole loss; to update between windows, call :meth:`start` once
    and :meth:`advance` for each window.

    Attributes:
        sigma: perturbation deviation, in the units of x; scalar or (d,).
        window: K; must divide the length. None for the whole loss.
        reuse: keep ε through the episode (NRES).

    Source: Vicol, Metz & Sohl-Dickstein 2021 (PES); Li et al. 2023 (NRES).
    """

    sigma: ArrayLike = 0.1
    samples: int = struct.field(pytree_node=False, default=32, kw_only=True)
    window: int | None = struct.field(pytree_node=False, default=None)
    reuse: bool = struct.field(pytree_node=False, default=False)

    def check(self, least: int = 1) -> None:
        super().check(least)
        _check.in_range("sigma", self.sigma, 0.0, open_low=True)
        if self.window is not None:
            check_count("window", self.window)

    def start(self, unrolled: UnrolledLoss, x: Tree) -> Particles:
        """All pairs at the first state, nothing perturbed yet."""
        flat, problem = _flat(unrolled, x)
        return self._start(flat, problem.x.size)

    def advance(
        self, unrolled: UnrolledLoss, particles: Particles, x: Tree, key: jax.Array
    ) -> tuple:
        """One window: (gradient terms (n, d) in x flattened, losses (n, 2), particles after)."""
        self.check()
        flat, problem = _flat(unrolled, x)
        return self._advance(flat, self._window(flat), particles, problem.x, key)

    def draw(self, problem) -> Draws:
        if problem.stochastic:
            raise TypeError("loss: PersistentES needs a deterministic loss, got a stochastic loss")
        unrolled = flat_loss(problem)
        window = self._window(unrolled)

        def step(particles, key):
            _, losses, particles = self._advance(unrolled, window, particles, problem.x, key)
            return particles, (losses, particles.noise)

        windows = unrolled.length // window
        keys = jax.random.split(problem.key, windows)
        _, (losses, noise) = jax.lax.scan(step, self._start(unrolled, problem.x.size), keys)
        values, losses, _ = settled(problem, losses)
        terms = jnp.sum(self._terms(losses, noise), axis=0)
        return Draws(jnp.mean(values, axis=1), terms, evaluations=2 * self.samples)

    def _terms(self, losses, noise):
        """ξ [L⁺ − L⁻]/2σ of losses (…, 2) and ξ (…, d)."""
        slope = (losses[..., 0] - losses[..., 1])[..., None]
        return slope * noise / (2 * jnp.asarray(self.sigma).astype(noise.dtype))

    def _window(self, unrolled: FlatLoss) -> int:
        window = unrolled.length if self.window is None else self.window
        if unrolled.length % window:
            raise ValueError(f"window: expected a divisor of {unrolled.length}, got {window}")
        return window

    def _start(self, unrolled: FlatLoss, dimension: int) -> Particles:
        states = jnp.broadcast_to(unrolled.start, (self.samples, 2, unrolled.start.size))
        noise = jnp.zeros((self.samples, dimension), unrolled.start.dtype)
        return Particles(states, noise, jnp.int32(0))

    def _advance(self, unrolled, window, particles, x, key):
        sigma = jnp.asarray(self.sigma).astype(x.dtype)
        fresh = jax.random.normal(key, (self.samples, x.size), x.dtype)
        if self.reuse:
            fresh = jnp.where(particles.windows == 0, fresh, particles.noise)
        total = fresh if self.reuse else particles.noise + fresh
        places = x + sigma * jnp.stack([fresh, -fresh], axis=1)

        def unroll(state, place):
            def step(state, _):
                state = unrolled.move(state, place)
                return state, unrolled.cost(state)

            state, costs = jax.lax.scan(step, state, length=window)
            return state, jnp.sum(costs)

        states, losses = mapped(jax.vmap(unroll), self.chunk, particles.states, places)
        particles = Particles(states, total, particles.windows + 1)
        return self._terms(losses, total), losses, particles


def _flat(unrolled: UnrolledLoss, x: Tree):
    problem = Problem(unrolled, x, has_aux=False, keys=(None,) * 3, stochastic=False)
    return flat_loss(problem), problem
