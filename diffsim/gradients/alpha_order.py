"""AoBG, the alpha-order batched gradient: as pathwise as the score function can vouch for."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim._types import ArrayLike
from diffsim.gradients import mixtures
from diffsim.gradients.base import Draws, Sampled
from diffsim.gradients.concentration import Bernstein
from diffsim.gradients.laws import Gaussian, Law, check_law

BERNSTEIN = Bernstein()


@struct.dataclass
class AlphaOrder(Sampled):
    """ĝ = α ĝ₁ + (1 − α) ĝ₀, ĝ₁ pathwise, ĝ₀ score function, on one batch.

    α = v0/(v0 + v1) is the mix of least variance; it is capped at (γ − ε)/‖ĝ₁ − ĝ₀‖ so that the
    bias of ĝ₁, seen through ĝ₀'s own error ε, stays within γ; α = 0 where ε > γ.

    ε bounds ‖ĝ₀ − E ĝ₀‖ but for a FAILURE probability δ, by the paper's Bernstein bound. α comes
    from the same batch, which costs a bias O(1/n), and the reported variance is that for the α
    chosen. Where the loss jumps it is biased on purpose, by γ at most; its interval holds that of
    the score function of the same batch.

    Attributes:
        law: the noise.
        gamma: the bias tolerated, in units of the gradient; None for 2ε: as much as the
            sampling error, so α = ε/‖ĝ₁ − ĝ₀‖ at most.
        failure: δ, the probability that ε is exceeded.
        bound: function of the score terms (n, p) and δ that gives ε; see ``concentration``.

    Source: Suh et al. 2022, arXiv 2202.00817 (alpha-order batched gradient).
    """

    law: Law = Gaussian()
    gamma: ArrayLike | None = None
    failure: float = struct.field(pytree_node=False, default=0.05)
    bound: Callable = BERNSTEIN
    spreads = True
    bias = "by up to gamma where the loss jumps, which the interval allows for"

    def check(self, least: int = 1) -> None:
        super().check(2)
        check_law(self.law)
        if self.gamma is not None:
            _check.in_range("gamma", self.gamma, 0.0, open_low=True)
        if not 0 < self.failure < 1:
            raise ValueError(f"failure: expected a probability in (0, 1), got {self.failure!r}")
        if not callable(self.bound):
            raise TypeError(f"bound: expected a function such as Bernstein(), got {self.bound!r}")

    def draw(self, problem) -> Draws:
        values, smooth, rough, _ = mixtures.both_terms(
            problem, self.law, self.samples, 1, self.chunk
        )
        info = weight(smooth, rough, self.gamma, self.failure, self.bound)
        alpha = info["alpha"]
        terms = jnp.where(alpha == 0, rough, alpha * smooth + (1 - alpha) * rough)
        return Draws(values, terms, info, evaluations=self.samples, unbiased=rough)


def weight(
    smooth: jax.Array,
    rough: jax.Array,
    gamma: ArrayLike | None = None,
    failure: float = 0.05,
    bound: Callable = BERNSTEIN,
) -> dict[str, jax.Array]:
    """α from pathwise and score terms (n, p), with the disagreement and ε it rests on.

    Args:
        smooth, rough: as exchangeable rows.
        gamma, failure, bound: as in :class:`AlphaOrder`.

    >>> same = jnp.arange(6.0).reshape(3, 2)
    >>> float(weight(same, same)["alpha"])
    0.5
    """
    v0 = mixtures.spread(rough) / rough.shape[0]
    v1 = mixtures.spread(smooth) / smooth.shape[0]
    radius = bound(rough, failure)
    gamma = 2 * radius if gamma is None else jnp.asarray(gamma).astype(v0.dtype)
    apart = jnp.linalg.norm(mixtures.mean(smooth) - mixtures.mean(rough))
    best = mixtures.ratio(v0, v0 + v1, 1.0)
    alpha = jnp.minimum(best, mixtures.ratio(gamma - radius, apart, 1.0))
    alpha = jnp.where(radius > gamma, 0.0, alpha)
    return {"alpha": alpha, "disagreement": apart, "radius": radius}
