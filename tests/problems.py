"""Losses whose gradients, and whose estimators' means and variances, are known in closed form."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import dawsn
from scipy.stats import norm

# Tests compile far more than they run: without XLA's optimisations they take a third of the time.
fast_jit = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def leave_one_out(n, score_variance, gradient_power, value_variance, score_power):
    """Variance of 1/(n−1) Σ (f_i − f̄) s_i: V/n + (Var f · E‖s‖² + ‖g‖²)/(n(n−1)).

    A U-statistic with kernel ½(f₁ − f₂)(s₁ − s₂) (Hoeffding 1948); V is the variance of one term
    with the baseline E f.
    """
    return score_variance / n + (value_variance * score_power + gradient_power) / (n * (n - 1))


@dataclass(frozen=True)
class Quadratic:
    """f = ½xᵀAx + b·x + c under x ~ N(μ, σ²I). Variances are traces, for one sample."""

    A: np.ndarray
    b: np.ndarray
    c: float
    mu: np.ndarray
    sigma: float

    def __call__(self, x):
        return 0.5 * x @ jnp.asarray(self.A) @ x + jnp.asarray(self.b) @ x + self.c

    @property
    def d(self):
        return self.mu.size

    @property
    def gradient(self):
        return self.A @ self.mu + self.b

    @property
    def G(self):
        return self.gradient @ self.gradient

    @property
    def F(self):
        return np.sum(self.A**2)

    @property
    def t(self):
        return np.trace(self.A)

    @property
    def mean(self):
        """E f = f(μ) + ½σ²t."""
        return float(self(jnp.asarray(self.mu))) + 0.5 * self.sigma**2 * self.t

    @property
    def score_variance(self):
        """With the baseline E f: V = (d+1)G + ½σ²(d+4)F."""
        return (self.d + 1) * self.G + 0.5 * self.sigma**2 * (self.d + 4) * self.F

    def score_variance_with(self, baseline):
        """With any constant: V − 2δt + δ²d/σ², δ = baseline − E f; least at δ = σ²t/d."""
        delta = baseline - self.mean
        return self.score_variance - 2 * delta * self.t + delta**2 * self.d / self.sigma**2

    def leave_one_out_variance(self, n):
        """V/n + [(d+1)G + ½dσ²F]/(n(n−1)), as Var f = σ²G + ½σ⁴F and E‖s‖² = d/σ²."""
        spread = self.sigma**2 * self.G + 0.5 * self.sigma**4 * self.F
        return leave_one_out(n, self.score_variance, self.G, spread, self.d / self.sigma**2)

    @property
    def measure_valued_variance(self):
        """(4/π − 1)G + (4/π)σ² Σ_{i≠j} A_ij²."""
        off = self.F - np.sum(np.diag(self.A) ** 2)
        return (4 / np.pi - 1) * self.G + 4 / np.pi * self.sigma**2 * off

    @property
    def measure_valued_scale_variance(self):
        """Coupled Maxwell against normal, trace over the d scales: G + σ²F."""
        return self.G + self.sigma**2 * self.F


def quadratic(sigma=0.5, d=4, seed=0):
    generator = np.random.default_rng(seed)
    root = generator.standard_normal((d, d))  # A = rootᵀroot/2 has a trace that baselines can use
    b, mu = generator.standard_normal(d), 0.5 * generator.standard_normal(d)
    return Quadratic(0.5 * root.T @ root, b, 0.3, mu, sigma)


@dataclass(frozen=True)
class Step:
    """f = 1[x > 0], x ~ N(μ, σ²), z = μ/σ: the gradient of E f is φ(z)/σ."""

    mu: float = 0.05
    sigma: float = 0.1

    def __call__(self, x):
        return jnp.where(x[0] > 0, 1.0, 0.0).astype(x.dtype)

    @property
    def z(self):
        return self.mu / self.sigma

    @property
    def gradient(self):
        return norm.pdf(self.z) / self.sigma

    @property
    def best_baseline(self):
        """E[f s²]/E[s²] = Φ − zφ."""
        return norm.cdf(self.z) - self.z * norm.pdf(self.z)

    def score_variance_with(self, baseline):
        """[(1 − 2B)(Φ − zφ) + B²]/σ² − gradient², as f² = f."""
        second = (1 - 2 * baseline) * self.best_baseline + baseline**2
        return second / self.sigma**2 - self.gradient**2

    @property
    def measure_valued_variance(self):
        tail = np.exp(-(self.z**2) / 2)
        return tail * (1 - tail) / (2 * np.pi * self.sigma**2)

    def leave_one_out_variance(self, n):
        p = norm.cdf(self.z)
        variance = self.score_variance_with(p)
        return leave_one_out(n, variance, self.gradient**2, p * (1 - p), 1 / self.sigma**2)

    @property
    def pair_variance(self):
        """Of [f(x + σε) − f(x − σε)] ε/2σ = |ε|/2σ where |ε| > z: (zφ + 1 − Φ)/2σ² − gradient²."""
        tail = self.z * norm.pdf(self.z) + norm.sf(self.z)
        return tail / (2 * self.sigma**2) - self.gradient**2


@dataclass(frozen=True)
class LogisticMap:
    """x₀ = sin²φ, x ← 4x(1 − x) T times, φ ~ N(μ, σ²): f = x_T = ½(1 − cos kφ), k = 2^{T+1}."""

    steps: int = 3
    mu: float = 0.3
    sigma: float = 0.1

    def __call__(self, x):
        start = jnp.sin(x[0]) ** 2
        return jax.lax.scan(lambda y, _: (4 * y * (1 - y), None), start, length=self.steps)[0]

    @property
    def k(self):
        return 2.0 ** (self.steps + 1)

    @property
    def gradient(self):
        return 0.5 * self.k * np.exp(-((self.k * self.sigma) ** 2) / 2) * np.sin(self.k * self.mu)

    @property
    def pathwise_variance(self):
        wave = np.exp(-2 * (self.k * self.sigma) ** 2) * np.cos(2 * self.k * self.mu)
        return self.k**2 / 8 * (1 - wave) - self.gradient**2

    @property
    def _wave(self):
        """E cos kφ, E cos² kφ, E ε² cos kφ and E ε² cos² kφ for φ = μ + σε."""
        a, angle = self.k * self.sigma, self.k * self.mu
        once, twice = np.exp(-(a**2) / 2) * np.cos(angle), np.exp(-2 * a**2) * np.cos(2 * angle)
        return once, 0.5 * (1 + twice), (1 - a**2) * once, 0.5 * (1 + (1 - 4 * a**2) * twice)

    def score_variance_with(self, baseline):
        """E[(f − B)² ε²]/σ² − gradient²."""
        _, _, first, second = self._wave
        level = 0.5 - baseline
        power = 0.25 * second - level * first + level**2
        return power / self.sigma**2 - self.gradient**2

    def leave_one_out_variance(self, n):
        mean, square, _, _ = self._wave
        variance = self.score_variance_with(0.5 * (1 - mean))
        spread = 0.25 * (square - mean**2)
        return leave_one_out(n, variance, self.gradient**2, spread, 1 / self.sigma**2)

    @property
    def pair_variance(self):
        """Of sin kμ sin(kσε) ε/2σ."""
        a = self.k * self.sigma
        power = 0.5 * (1 - (1 - 4 * a**2) * np.exp(-2 * a**2))
        return (np.sin(self.k * self.mu) / (2 * self.sigma)) ** 2 * power - self.gradient**2

    @property
    def measure_valued_variance(self):
        """Of sin kμ sin(kσw)/√(2π)σ, w ~ Rayleigh(1), E cos bw = 1 − √2 b D(b/√2), D Dawson's."""
        b = 2 * self.k * self.sigma
        power = 0.5 * np.sqrt(2) * b * dawsn(b / np.sqrt(2))
        return (
            np.sin(self.k * self.mu) ** 2 * power / (2 * np.pi * self.sigma**2) - self.gradient**2
        )


class Mixed:
    """A loss linear in a net's output P: SPSA at P, or in the net's 384 parameters.

    At P: tr(J C Jᵀ), C = GI + ggᵀ − 2 diag(g²), J = ∂P/∂θ as (parameters, outputs).
    In parameter space: (384 − 1)‖J g‖² as the step shrinks.
    """

    def __init__(self):
        keys = jax.random.split(jax.random.key(3), 6)
        sizes = [(16, 4), (16,), (16, 16), (16,), (2, 16)]
        self.parameters = [0.5 * jax.random.normal(k, s) for k, s in zip(keys, sizes)]
        self.inputs = jax.random.normal(keys[5], (4,))
        self.slope = jnp.array([1.5, -0.7])

    def net(self, parameters):
        first, bias, second, offset, last = parameters
        hidden = jnp.tanh(first @ self.inputs + bias)
        return last @ jnp.tanh(second @ hidden + offset)

    def loss(self, output):
        return self.slope @ output

    @property
    def jacobian(self):
        leaves = jax.tree.leaves(jax.jacrev(self.net)(self.parameters))
        return np.concatenate([leaf.reshape(2, -1) for leaf in leaves], axis=1).T

    @property
    def gradient(self):
        return self.jacobian @ np.asarray(self.slope)

    @property
    def variance_at_output(self):
        g = np.asarray(self.slope)
        C = (g @ g) * np.eye(2) + np.outer(g, g) - 2 * np.diag(g**2)
        return np.trace(self.jacobian @ C @ self.jacobian.T)

    @property
    def variance_in_parameters(self):
        return (len(self.jacobian) - 1) * self.gradient @ self.gradient
