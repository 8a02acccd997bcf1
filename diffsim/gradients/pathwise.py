"""The pathwise (reparameterisation) gradient: differentiate the simulator itself."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.gradients.base import Draws, Sampled
from diffsim.gradients.laws import Law, check_law

BLIND = "where the loss jumps, which its interval does not show"


@struct.dataclass
class Pathwise(Sampled):
    """ĝ = (1/n) Σ ∂f(x + σ ε_i)/∂x; without a law, ∂f/∂x by automatic differentiation.

    Exact for smooth losses, and of the lowest variance there: σ²‖A‖_F² a sample on a quadratic,
    0 in antithetic pairs. Blind to jumps (a step has derivative 0 almost everywhere) and wild in
    chaos, where ‖∂f/∂x‖ grows exponentially.

    Attributes:
        law: noise on x, None for the derivative at x alone.
        samples: draws of the noise, or of a stochastic loss's key.
        antithetic: use ±ε, averaged, and ``samples`` of those pairs.
        mode: "reverse" (one backward pass) or "forward" (d tangents; no memory, no while-loop
            trouble).

    Source: Mohamed et al. 2020, "Monte Carlo Gradient Estimation in Machine Learning", §5.
    """

    law: Law | None = None
    samples: int = struct.field(pytree_node=False, default=1, kw_only=True)
    antithetic: bool = struct.field(pytree_node=False, default=False)
    mode: str = struct.field(pytree_node=False, default="reverse")

    @property
    def objective(self) -> str:  # type: ignore[override]
        return "f" if self.law is None else "smoothed"

    @property
    def bias(self) -> str:  # type: ignore[override]
        return "" if self.law is None else BLIND

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.law is not None

    @property
    def spreads(self) -> bool:  # type: ignore[override]
        return self.law is not None

    def check(self, least: int = 1) -> None:
        super().check(least)
        if self.mode not in ("reverse", "forward"):
            raise ValueError(f"mode: expected 'reverse' or 'forward', got {self.mode!r}")
        if self.law is None and self.antithetic:
            raise ValueError("antithetic: expected a law to draw pairs from, got law=None")
        if self.law is not None:
            check_law(self.law, self.antithetic)
            if hasattr(self.law, "discretize"):
                raise TypeError(f"law: expected a continuous law, got {self.law!r}")

    def draw(self, problem) -> Draws:
        if self.law is None:
            count = self.samples if problem.loss_key is not None else 1
            values, terms = problem.differentiate(
                lambda x, _: x, None, count, self.chunk, self.mode
            )
            return Draws(values, terms, evaluations=count)
        noise, path = reparameterized(problem, self.law, self.samples)
        if self.antithetic:
            noise = jnp.concatenate([noise, -noise])
        values, terms = problem.differentiate(path, noise, self.samples, self.chunk, self.mode)
        count = len(values)
        if self.antithetic:
            pairs = (values.reshape(2, -1), terms.reshape(2, -1, terms.shape[1]))
            values, terms = (jnp.mean(pair, axis=0) for pair in pairs)
        return Draws(values, terms, evaluations=count)


def reparameterized(problem, law: Law, samples: int) -> tuple[jax.Array, Any]:
    """Noise (n, d) and the path from x and one draw to the point."""
    noise = law.sample(problem.key, (samples, problem.dimension), problem.x.dtype)

    def path(x, drawn):
        mean, placed = problem.place(law, x)
        return placed.reparameterize(mean, drawn)

    return noise, path
