# %% [markdown]
# # Which gradient, when?
#
# A network in front of a simulator needs d(loss)/d(weights) = d(loss)/d(output) ·
# d(output)/d(weights). The second factor is exact backpropagation; this page is about the first.
#
# | the loss | use |
# |---|---|
# | smooth, JAX differentiates it | `Pathwise()` |
# | smooth black box, few inputs | `CentralDifference()`, `Richardson()` |
# | smooth black box, many inputs | `SPSA()`, `RandomDirections()` |
# | jumps: a miss, the edge of a table | `ScoreFunction`, `EvolutionStrategies`, `MeasureValued` |
# | jumps here, smooth there | `AlphaOrder` |
# | stiff contact | `InverseVariance` |
# | chaotic | `EvolutionStrategies`, `TotalPropagation` |
# | step-wise tasks | `policy_gradient_objective` |
# | not JAX at all | `BlackBox(simulator, method=...)` |
#
# `diffsim.gradients` lists all of them with their assumptions.

# %%
import jax
import jax.numpy as jnp

from diffsim.gradients import Gaussian, Pathwise, ScoreFunction, estimate, recommend, surrogate

# %% [markdown]
# ## A loss that jumps
# The probability of a miss under noise has a slope, the miss itself has none: the pathwise
# gradient is zero with no variance at all, and wrong. `Estimate.bias` says where a method may be.


# %%
def miss(x):
    return jnp.where(jnp.sum(x) > 0, 0.0, 1.0)


x, key = jnp.array([0.05, -0.02]), jax.random.key(0)
for method in (
    Pathwise(law=Gaussian(0.1), samples=4096),
    ScoreFunction(law=Gaussian(0.1), samples=4096),
):
    found = estimate(miss, method)(x, key=key)
    print(type(method).__name__, found.grad, "±", found.standard_error, "|", found.bias)

# %% [markdown]
# The truth: x₁ + x₂ + noise of σ√2 is negative with probability Φ(−s/(σ√2)), whose slope is
# −φ(s/(σ√2))/(σ√2) in either coordinate.

# %%
sigma, s = 0.1 * 2**0.5, float(jnp.sum(x))
truth = -jax.scipy.stats.norm.pdf(s / sigma) / sigma
low, high = found.interval(0.999)
print(f"truth {truth:.3f}, interval {low} to {high}")
assert bool(jnp.all((low < truth) & (truth < high)))

# %% [markdown]
# ## Ask
# `recommend` probes the loss on random lines and names a method, with its reason.

# %%
advice = recommend(miss, x, key=key)
print(advice)
assert type(advice.method).__name__ != "Pathwise"

# %% [markdown]
# ## Use it
# `surrogate(loss, method)` has the loss's value and the estimate as its derivative, inside `jit`,
# `vmap` and `grad`. For many rows, `vmap` it with one key a row.

# %%
objective = surrogate(miss, advice.method)
print(jax.jit(jax.grad(objective))(x, key=key))

# %% [markdown]
# `python scripts/compare_gradients.py` compares methods on a ball kept up by a paddle over horizon,
# bounces, contact model, noise and samples, and writes `runs/gradients/report.html`.
