"""Per-step score function of a closed loop: each action answers only for what came after it."""

import jax
import jax.numpy as jnp


def reward_to_go(rewards: jax.Array, discount: float = 1.0) -> jax.Array:
    """R_t = Σ_{h ≥ t} γ^{h−t} r_h.

    Args:
        rewards: (T,); vmap for more rollouts.
        discount: γ in [0, 1].

    Returns:
        (T,).

    >>> reward_to_go(jnp.array([1.0, 2.0, 4.0]), 0.5).tolist()
    [3.0, 4.0, 4.0]
    """
    if rewards.ndim != 1:
        raise ValueError(f"rewards: expected shape (T,), got {rewards.shape}")

    def step(later, reward):
        total = reward + discount * later
        return total, total

    return jax.lax.scan(step, jnp.zeros((), rewards.dtype), rewards, reverse=True)[1]


def policy_gradient_objective(
    log_probs: jax.Array, rewards: jax.Array, discount: float = 1.0
) -> jax.Array:
    """A scalar whose gradient is the batch policy gradient with reward-to-go and a baseline.

    ∇ = (1/n) Σ_i Σ_t ∇ log π(a_it | s_it) γ^t (R_it − b_it), b_it the mean R_jt of the OTHER
    rollouts, so it stays unbiased. Only the gradient means something, not the value. The states
    must be held fixed (``jax.lax.stop_gradient``) where log_probs are computed; rewards may be
    costs, the gradient then being that of the expected cost.

    Args:
        log_probs: log π(a_t | s_t), differentiable in the policy, (n, T).
        rewards: r_t (n, T), treated as constants.
        discount: γ in [0, 1].

    Raises:
        ValueError: fewer than two rollouts, or shapes that differ.

    Source: Sutton et al. 1999, theorem 1; Peters & Schaal 2008 (G(PO)MDP).

    >>> logs = jnp.zeros((2, 1))
    >>> jax.grad(policy_gradient_objective)(logs, jnp.array([[1.0], [3.0]])).tolist()
    [[-1.0], [1.0]]
    """
    if log_probs.ndim != 2 or log_probs.shape != rewards.shape:
        got = f"{log_probs.shape} and {rewards.shape}"
        raise ValueError(f"log_probs, rewards: expected one shape (n, T), got {got}")
    count, length = rewards.shape
    if count < 2:
        raise ValueError(f"rewards: expected at least 2 rollouts for a baseline, got {count}")
    totals = jax.lax.stop_gradient(jax.vmap(lambda r: reward_to_go(r, discount))(rewards))
    advantages = (totals - jnp.mean(totals, axis=0)) * (count / (count - 1))
    weights = jnp.asarray(discount, totals.dtype) ** jnp.arange(length, dtype=totals.dtype)
    return jnp.sum(log_probs * advantages * weights) / count
