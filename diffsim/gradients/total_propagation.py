"""Total propagation: pathwise and score function mixed afresh at every step of an unroll."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.gradients.base import Draws
from diffsim.gradients.baselines import LeaveOneOut
from diffsim.gradients.inverse_variance import CrossFitted, cross_fitted
from diffsim.gradients.laws import score
from diffsim.gradients.problem import mapped
from diffsim.gradients.unrolled import flat_loss, settled


@struct.dataclass
class TotalPropagation(CrossFitted):
    """Noise enters every state, s_t = m_t + σ ε_t with m_t = transition(s_{t−1}, x). Backwards:

    pathwise  P_t = ∂cost/∂s_t + (∂m_{t+1}/∂s_t)ᵀ ĝ_{t+1}
    score     Q_t = (R_t − b_t) ∂ log p(s_t; m_t)/∂m_t,  R_t the cost from t on
    mixed     ĝ_t = α_t P_t + (1 − α_t) Q_t,  and  dL/dx = Σ_t (∂m_t/∂x)ᵀ ĝ_t

    α_t by inverse variance of the two contributions to dL/dx. A chaotic stretch is bridged by the
    score, a smooth one keeps the pathwise precision. α_t of one half of the samples comes from the
    other half: unbiased for one step, bias O(1/n) for more.

    A plain loss is one step, its noise on x itself. A stochastic loss is not supported.

    Attributes:
        law: noise on the flattened state.
        samples: particles.

    Source: Parmas et al. 2018, "PIPPS: flexible model-based policy search robust to chaos".
    """

    folds: int = struct.field(pytree_node=False, default=2)

    def draw(self, problem) -> Draws:
        if problem.stochastic:
            raise TypeError("loss: TotalPropagation draws the noise itself, got a stochastic loss")
        unrolled, x, n = flat_loss(problem), problem.x, self.samples
        noise = self.law.sample(problem.key, (unrolled.length, n, unrolled.start.size), x.dtype)

        def forward(state, drawn):
            mean = mapped(lambda state: unrolled.move(state, x), self.chunk, state)
            after = jax.vmap(self.law.reparameterize)(mean, drawn)
            cost, slope = mapped(jax.value_and_grad(unrolled.cost), self.chunk, after)
            return after, (state, mean, after, cost, slope)

        start = jnp.broadcast_to(unrolled.start, (n, unrolled.start.size))
        _, (*states, costs, slopes) = jax.lax.scan(forward, start, noise)
        values, costs, good = settled(problem, costs)
        record = (*states, costs, jnp.where(good[..., None], slopes, 0))  # a penalty is a constant

        def backward(carry, step):
            later, to_go, total = carry  # dL/ds_t from later steps, cost after t, sums so far
            before, mean, after, cost, slope = step
            to_go = to_go + cost
            smooth = slope + later
            grouped = to_go.reshape(self.folds, -1)
            level = jax.vmap(LeaveOneOut())(grouped, grouped[..., None])
            scores = jax.vmap(lambda s, m: score(self.law, s, m))(after, mean)
            rough = (to_go - level.reshape(-1))[:, None] * scores

            def pull(state, smooth, rough):
                _, back = jax.vjp(unrolled.move, state, x)
                return back(smooth)[1], back(rough)[1]

            smooth_x, rough_x = mapped(pull, self.chunk, before, smooth, rough)
            alphas = cross_fitted(smooth_x, rough_x, self.folds)
            weight = jnp.repeat(alphas, n // self.folds)[:, None]
            mixed = weight * smooth + (1 - weight) * rough

            def push(state, mixed):
                return jax.vjp(unrolled.move, state, x)[1](mixed)

            later, contribution = mapped(push, self.chunk, before, mixed)
            total = total + jnp.stack([contribution, rough_x])
            return (later, to_go, total), jnp.mean(alphas)

        zero = (jnp.zeros_like(start), jnp.zeros_like(values), jnp.zeros((2, n, x.size), x.dtype))
        (_, _, totals), alpha = jax.lax.scan(backward, zero, record, reverse=True)
        terms, scored = jnp.where(jnp.isfinite(values)[:, None], totals, jnp.nan)
        return Draws(values, terms, {"alpha": alpha}, n, scored)
