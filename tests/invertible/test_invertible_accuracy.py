"""Inverses that are kept are as accurate as a solve, whatever the condition; ends are finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from problems import fast_jit

from diffsim import invertible as inv
from diffsim.invertible import banded

CONDITIONS = {jnp.float32: (1e2, 1e4, 1e5), jnp.float64: (1e2, 1e4, 1e6, 1e8, 1e10)}


def with_condition(rng, n, condition):
    """Singular values spread evenly over the orders of magnitude."""
    u, v = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    return u * np.logspace(0, -np.log10(condition), n) @ v.T


def near_eigenvalue(rng, n, half, condition):
    """Diagonals of a symmetric band matrix less almost an eigenvalue from its middle."""
    d = rng.normal(size=(half + 1, n))
    values = np.linalg.eigvalsh(sum(np.diag(d[k, : n - k], -k) for k in range(half + 1)))
    d[0] -= values[n // 2] + np.abs(values).max() / condition
    return np.stack([np.roll(d[-k], -k) if k < 0 else d[k] for k in range(-half, half + 1)])


def layers(rng, n, condition, dtype):
    """One of each kind that keeps an inverse, at a condition of about that, and banded solves."""
    a, root = with_condition(rng, n, condition), condition**0.5
    _, lower, upper = scipy.linalg.lu(a)
    few = [np.stack([with_condition(rng, 4, c) for _ in range(4)]) for c in (condition, root, root)]
    low = np.linalg.qr(rng.normal(size=(n, 3)))[0]
    weights = {
        inv.Dense: [a],
        inv.Rectangular: [a],
        inv.Triangular: [np.linalg.qr(a)[1].T],
        inv.LU: [lower - np.eye(n) + upper],
        inv.BlockDiagonal: [few[0]],
        inv.Kronecker: [few[1][0], few[2][0]],
        inv.Monarch: [few[1], few[2]],
        inv.LowRank: [np.logspace(0, -np.log10(condition), n), low, low],
    }
    made = {
        kind.__name__: kind(*(jnp.asarray(a, dtype) for a in weights[kind])) for kind in weights
    }
    for half in (1, 2):
        band = near_eigenvalue(rng, n, half, condition)
        made[f"Banded {2 * half + 1}"] = inv.Banded(jnp.asarray(band, dtype))
    return made


@fast_jit
def matrices(layers):
    return [layer.matrix() for layer in layers]


@fast_jit
def solved(layers, y):
    return [jax.vmap(layer.inverse, (0, None))(y, layer.factor()) for layer, y in zip(layers, y)]


@pytest.mark.parametrize(
    ("dtype", "conditions"),
    [(jnp.float32, (1e2, 1e4, 1e5)), (jnp.float64, (1e2, 1e4, 1e6, 1e8, 1e10))],
    ids=["f32", "f64"],
)
def test_kept_inverses_are_as_accurate_as_a_solve(dtype, conditions):
    """x from y = A x: within ten times LAPACK's solve of the matrix in the same precision."""
    n, rng = 16, np.random.default_rng(1)
    for condition in conditions:
        made = layers(rng, n, condition, dtype)
        a = np.asarray(matrices(list(made.values())), np.longdouble)
        x = rng.normal(size=(8, n))
        y = np.einsum("cij,bj->cbi", a, x).astype(dtype)
        found = solved(list(made.values()), y)
        for name, matrix, right, ours in zip(made, a.astype(dtype), y, found):
            theirs = scipy.linalg.solve(matrix, right.T).T
            ours, theirs = (np.linalg.norm(z.astype(float) - x) for z in (np.asarray(ours), theirs))
            assert ours <= 10 * theirs, (name, condition, ours, theirs)


@pytest.mark.parametrize("n", [1, 2, 3, 37])
def test_tridiagonal_solve_of_accelerators(n, dtype):
    """Cyclic reduction where it is stable, pivoting where not, as accurate as LAPACK's solve."""
    rng = np.random.default_rng(n)
    dominant = rng.uniform(-1, 1, (3, n)) + np.array([[0], [3], [0]])
    hollow = dominant * np.array([[1], [1e-9 if n % 2 == 0 else 0.1], [1]])  # wants pivoting
    cases = {"dominant": dominant, "hollow": hollow, "near": near_eigenvalue(rng, n, 1, 1e3)}
    look = fast_jit(lambda d, y: (banded._reducible(d), banded._parallel(d, y)))
    for name, d in cases.items():
        d = jnp.asarray(d, dtype)
        a = np.asarray(inv.Banded(d).matrix(), np.longdouble)
        x = rng.normal(size=n)
        y = (a @ x).astype(dtype)
        stable, found = look(d, y)
        theirs = scipy.linalg.solve(a.astype(dtype), y)
        error, room = (np.linalg.norm(np.asarray(z, float) - x) for z in (found, theirs))
        unit = np.finfo(dtype).eps
        assert error <= 10 * room + 4 * unit * np.linalg.norm(x), (name, error, room)
        assert stable or name != "dominant"
    if n > 3:
        assert not look(
            jnp.asarray(near_eigenvalue(rng, 400, 1, 1e8), dtype), jnp.ones(400, dtype)
        )[0]


def test_tridiagonal_solve_has_derivatives():
    """In y and in the diagonals, both modes and twice, against a solve with the matrix."""
    rng = np.random.default_rng(0)
    d, y = jnp.asarray(rng.normal(size=(3, 5))), jnp.asarray(rng.normal(size=5))

    def plain(d, y):
        return jnp.linalg.solve(inv.Banded(d).matrix(), y)

    def look(f):
        total = lambda d, y: jnp.sum(jnp.sin(f(d, y)))  # noqa: E731
        slope = jax.grad(total, (0, 1))
        return slope(d, y), jax.jvp(slope, (d, y), (jnp.cos(d), jnp.cos(y)))[1]

    ours, truth = fast_jit(lambda: (look(banded.tridiagonal_solve), look(plain)))()
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(truth)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", [inv.Sigmoid, inv.Softplus, inv.Tanh, inv.Elu])
def test_clipped_ends_come_back_finite(kind, dtype):
    """Also 0 and what arithmetic takes for 0: log of the least number that is reached is finite."""
    low, high = kind.reach
    tiny = np.finfo(dtype).tiny
    y = jnp.asarray([low - 1, low, low + 0.5 * tiny, min(high, 9e9), high + 1.0], dtype)
    layer = kind(domain="clip")
    for found in (layer.inverse(y), inv.invert(kind(), y, domain="clip").x):
        assert np.all(np.isfinite(found)), found
    assert not kind().reached(y)[:3].any()
    assert np.all(
        np.isfinite(kind().inverse(jnp.asarray([low + max(tiny, abs(low) * 1e-5)], dtype)))
    )


def test_splines_increase(dtype):
    """Random and extreme parameters, few and as many bins as there may be, forward and back."""
    x = jnp.linspace(-4.2, 4.2, 801, dtype=dtype)

    def look(spline, p):
        y = jax.vmap(spline.forward, (0, None))(x, p)
        return y, jax.vmap(spline.inverse, (0, None))(y, p)

    for bins in (1, 6, 100):
        spline = inv.Spline(bins=bins)
        draw = jax.random.normal(jax.random.key(bins), (4, spline.count), dtype)
        scale = jnp.asarray([0.0, 1.0, 10.0, 100.0], dtype)[:, None]
        y, back = fast_jit(jax.vmap(lambda p, s=spline: look(s, p)))(scale * draw)
        assert np.diff(y[:2], axis=1).min() > 0
        assert np.diff(y, axis=1).min() >= 0  # the steepest are flat to rounding elsewhere
        # The slope is at least about least², so an inverse may lose four digits.
        np.testing.assert_allclose(back[:2], np.tile(x, (2, 1)), atol=1e4 * np.finfo(dtype).eps)


def test_a_trained_spline_increases():
    """Pulled towards a step, which no spline reaches, by Adam."""
    spline, x = inv.Spline(bins=20), jnp.linspace(-4.0, 4.0, 201)
    curve = jax.vmap(spline.forward, (0, None))

    def miss(p):
        return curve(x, p) - 4 * jnp.sign(x)

    start = jnp.zeros(spline.count)
    p = fast_jit(lambda: inv.newton.descend(miss, start, 200))()
    assert jnp.linalg.norm(miss(p)) < 0.6 * jnp.linalg.norm(miss(start))
    assert np.diff(curve(x, p)).min() > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"bins": 101},
        {"bins": 0},
        {"least": 0.0},
        {"least": 1.0},
        {"bound": 0.0},
        {"bins": 3, "least": 0.34},
    ],
)
def test_splines_that_would_not_increase_are_refused(settings):
    with pytest.raises(ValueError, match="bins"):
        inv.Spline(**settings)
