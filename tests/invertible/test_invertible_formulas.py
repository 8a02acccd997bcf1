"""What each layer computes, not only that it can be undone: its docstring's formula in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from flax import nnx
from problems import fast_jit

from diffsim import invertible as inv
from diffsim.invertible import boltzmann, newton
from diffsim.invertible import learned as learning

SIZE = 8
X = np.random.default_rng(0).normal(size=SIZE) * 1.5


def parts(layer, *names):
    return [np.asarray(getattr(layer, name)[...]) for name in names]


def bands(layer, x):
    (d,) = parts(layer, "diagonals")
    b = len(d) // 2
    terms = [d[k, i] * x[i + k - b] if 0 <= i + k - b < SIZE else 0
             for i in range(SIZE) for k in range(len(d))]  # fmt: skip
    return np.reshape(terms, (SIZE, -1)).sum(axis=1)


def monarch(layer, x):
    columns, rows = parts(layer, "columns", "rows")
    p, q = len(rows), len(columns)
    order = np.arange(p * q).reshape(p, q).T.ravel()  # P: columns one after the other
    moved = (scipy.linalg.block_diag(*rows) @ x)[order]
    back = np.empty(p * q)
    back[order] = scipy.linalg.block_diag(*columns) @ moved
    return back


def butterfly(layer, x):
    (weights,) = parts(layer, "weights")
    for s, (a, b, c, d) in enumerate(weights.reshape(len(weights), 4, -1)):
        firsts = [i for i in range(SIZE) if not i >> s & 1]
        x, before = x.copy(), x
        for pair, i in enumerate(firsts):
            j = i + 2**s
            x[i] = a[pair] * before[i] + b[pair] * before[j]
            x[j] = c[pair] * before[i] + d[pair] * before[j]
    return x


def householder(layer, x):
    for v in parts(layer, "vectors")[0].T[::-1]:
        x = x - 2 * v * (v @ x) / (v @ v)
    return x


def cayley(layer, x):
    u, v = parts(layer, "left", "right")
    skew, eye = u @ v.T - v @ u.T, np.eye(SIZE)
    return (eye - skew) @ np.linalg.solve(eye + skew, x)


def residual(layer, x):
    u, v, b = parts(layer, "left", "right", "bias")
    u, v = 0.9 * u / np.linalg.norm(u, 2), v / np.linalg.norm(v, 2)
    return x + u @ np.tanh(v @ x + b)


def net(conditioner, x):
    first, shift, second, last = parts(conditioner, "first", "shift", "second", "last")
    return second @ np.tanh(first @ x + shift) + last


def affine(x, p):
    return np.exp(2 * np.tanh(p[0] / 2)) * x + p[1]


def spline(x, p, bins=6, bound=4.0, least=1e-2):
    """Durkan et al., eq. 4, knots by the sums of shares, slopes by softplus, 1 at the ends."""
    if abs(x) >= bound:
        return x

    def edges(raw):
        share = np.exp(raw) / np.exp(raw).sum()
        return -bound + 2 * bound * np.append(0, np.cumsum(least + (1 - bins * least) * share))

    xs, ys = edges(p[:bins]), edges(p[bins : 2 * bins])
    inner = least + (1 - least) * np.log1p(np.exp(p[2 * bins :])) / np.log(2)
    slopes = np.concatenate([[1], inner, [1]])
    k = np.searchsorted(xs, x, side="right") - 1
    width, height, d0, d1 = xs[k + 1] - xs[k], ys[k + 1] - ys[k], slopes[k], slopes[k + 1]
    s, t = height / width, (x - xs[k]) / width
    bottom = s + (d1 + d0 - 2 * s) * t * (1 - t)
    return ys[k] + height * (s * t**2 + d0 * t * (1 - t)) / bottom


def coupled(move, count, flip=False):
    def run(layer, x):
        first, second = x[:4], x[4:]
        stays, moves = (second, first) if flip else (first, second)
        p = net(layer.conditioner, stays).reshape(4, count)
        moved = np.array([move(*pair) for pair in zip(moves, p)])
        return np.concatenate([moved, stays] if flip else [stays, moved])

    return run


def autoregressive(layer, x):
    padded = np.concatenate([np.zeros(3), x])
    return np.array([affine(x[i], net(layer.conditioner, padded[i : i + 3])) for i in range(SIZE)])


def low_rank(layer, x):
    d, u, v = parts(layer, "diagonal", "left", "right")
    return (np.diag(d) + u @ v.T) @ x


def lu(layer, x):
    (w,) = parts(layer, "weight")
    return (np.tril(w, -1) + np.eye(SIZE)) @ np.triu(w) @ x


FORMULAS = {
    "dense": lambda w, x: parts(w, "weight")[0] @ x,
    "lu": lu,
    "triangular": lambda w, x: np.tril(parts(w, "weight")[0]) @ x,
    "householder": householder,
    "cayley": cayley,
    "low-rank": low_rank,
    "tridiagonal": bands,
    "banded": bands,
    "circulant": lambda w, x: scipy.linalg.circulant(parts(w, "kernel")[0]) @ x,
    "kronecker": lambda w, x: np.kron(*parts(w, "left", "right")) @ x,
    "block-diagonal": lambda w, x: scipy.linalg.block_diag(*parts(w, "blocks")[0]) @ x,
    "butterfly": butterfly,
    "monarch": monarch,
    "diagonal": lambda w, x: parts(w, "scale")[0] * x,
    "bias": lambda w, x: parts(w, "bias")[0] + x,
    "actnorm": lambda w, x: np.exp(parts(w, "log_scale")[0]) * (x - parts(w, "mean")[0]),
    "permutation": lambda w, x: x[parts(w, "order")[0]],
    "coupling-additive": coupled(lambda x, p: x + p[0], 1),
    "coupling-affine": coupled(affine, 2),
    "coupling-spline": coupled(spline, 17, flip=True),
    "autoregressive": autoregressive,
    "residual": residual,
    "leaky-relu": lambda w, x: np.where(x > 0, x, 0.01 * x),
    "tanh": lambda w, x: np.tanh(x),
    "sigmoid": lambda w, x: 1 / (1 + np.exp(-x)),
    "softplus": lambda w, x: np.log1p(np.exp(x)),
    "elu": lambda w, x: np.where(x > 0, x, np.expm1(x)),
    "asinh": lambda w, x: np.arcsinh(x),
    "cubic": lambda w, x: x + 0.3 * x**3,
    "sinh-arcsinh": lambda w, x: np.sinh(
        np.exp(parts(w, "log_tail")[0]) * np.arcsinh(x) + parts(w, "skew")[0]
    ),
}


def test_every_layer_is_its_formula():
    assert FORMULAS.keys() == inv.LAYERS.keys()
    layers = {name: make(SIZE, rngs=nnx.Rngs(3)) for name, make in inv.LAYERS.items()}
    found = fast_jit(lambda layers, x: {name: f(x) for name, f in layers.items()})(layers, X)
    for name, formula in FORMULAS.items():
        np.testing.assert_allclose(found[name], formula(layers[name], X), rtol=1e-9, err_msg=name)


def test_triangles_use_one_side_and_their_diagonal_if_asked():
    w = np.random.default_rng(0).normal(size=(4, 4))
    for lower in (True, False):
        for unit in (True, False):
            plain = np.tril(w) if lower else np.triu(w)
            plain = plain - np.diag(np.diag(w)) + np.eye(4) if unit else plain
            layer = inv.Triangular(w, lower=lower, unit=unit)
            np.testing.assert_allclose(layer.matrix(), plain, atol=1e-15)
            log_det = np.linalg.slogdet(plain)[1]
            np.testing.assert_allclose(layer.log_abs_det(), log_det, atol=1e-12)
            np.testing.assert_allclose(layer.inverse(layer(X[:4])), X[:4], rtol=1e-9)


def test_a_spline_goes_through_its_knots_with_their_slopes():
    made, p = inv.Spline(), np.random.default_rng(1).normal(size=17)
    points = np.linspace(-4.5, 4.5, 91)
    found = jax.vmap(made.forward, (0, None))(jnp.asarray(points), jnp.asarray(p))
    np.testing.assert_allclose(found, [spline(x, p) for x in points], rtol=1e-9)
    assert made.count == 17


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_conjugate_gradients_solve_damped_least_squares(shift):
    rng = np.random.default_rng(0)
    matrix, right = rng.normal(size=(9, 5)), rng.normal(size=9)
    push, pull = (lambda v: matrix @ v), (lambda w: matrix.T @ w)
    x, count = newton.cgls(push, pull, jnp.asarray(right), jnp.zeros(5), shift, 1e-12, 50)
    exact = np.linalg.solve(matrix.T @ matrix + shift * np.eye(5), matrix.T @ right)
    np.testing.assert_allclose(x, exact, rtol=1e-9)
    assert 4 <= int(count) <= 7
    assert int(newton.cgls(push, pull, jnp.asarray(right), jnp.zeros(5), shift, 1e-12, 2)[1]) == 2


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5)])
def test_the_error_of_a_search_is_a_newton_step_and_the_rounding_of_y(shape):
    """‖A⁺ r‖² + Σ (A⁺ σ)², and n − rank."""
    rng = np.random.default_rng(0)
    matrix, r, noise = rng.normal(size=shape), rng.normal(size=shape[0]), rng.uniform(size=shape[0])
    state = newton.begin(lambda x: matrix @ x + r, jnp.zeros(shape[1]))
    error, free = newton.assess(lambda x: matrix @ x + r, state, jnp.asarray(noise))
    inverse = np.linalg.pinv(matrix)
    exact = np.sum((inverse @ r) ** 2) + np.sum((inverse * noise) ** 2)
    assert float(error) == pytest.approx(exact**0.5, rel=1e-9)
    assert int(free) == max(0, shape[1] - shape[0])


def test_the_options_of_a_search():
    """Steps and a tolerance are what they say; nearer than ``apart`` is one."""

    def f(x):
        return x**3 - 3 * x

    y, start, least = jnp.array([5.0]), jnp.array([1.5]), 100 * np.finfo(float).eps

    @fast_jit
    @jax.vmap
    def search(steps, tolerance):
        return inv.invert(
            f, y, size=1, method="newton", start=start, steps=steps, tolerance=tolerance
        )

    found = search(jnp.array([50, 2, 50], jnp.int32), jnp.array([least, least, 0.1]))
    (_, cut, loose), (full, few, some) = found.residual.tolist(), found.evaluations.tolist()
    assert found.status.tolist() == [0, 6, 0]
    assert 1e-12 < loose <= 0.5 < cut
    assert few < some < full
    starts = jnp.array([[-2.0], [-1.6], [0.1], [2.0]])
    several = fast_jit(lambda apart: inv.preimages(f, jnp.array([0.0]), starts, apart=apart))
    assert sorted(several(1e-8).points()[:, 0].round(6).tolist()) == [-1.732051, 0.0, 1.732051]
    assert len(several(1.0).points()) < 3  # 1.7 < 1 + 1.7


def test_units_of_y_change_nothing():
    """Of a least-squares answer, whose residual stays, and of one that is reached."""
    y = jnp.array([1.0, 0.4, -0.3])

    @fast_jit
    @jax.vmap
    def search(unit):
        def f(x):
            return unit * jnp.stack([jnp.sinh(x[0]), x[1] - 0.2 * x[0], jnp.tanh(x[0] * x[1])])

        tall = inv.invert(f, unit * y, size=2)
        even = inv.invert(lambda x: f(x)[:2], unit * y[:2], size=2)
        return tall, even

    # Powers of two: not a digit differs on the way.
    for found, status in zip(search(2.0 ** jnp.array([0.0, -30, 30])), ("LEAST_SQUARES", "OK")):
        assert found.status.tolist() == [inv.InversionStatus[status]] * 3
        np.testing.assert_allclose(found.x[1:], found.x[:1].repeat(2, axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.error[1:], found.error[:1].repeat(2), rtol=1e-6)
        assert len(set(found.evaluations.tolist())) == 1


def test_a_search_whose_derivative_is_wrong_gives_up():
    """Damped ten times more at each step that does not help, from 1e-2 to beyond 1e8."""

    @jax.custom_jvp
    def f(x):
        return x - 1

    f.defjvp(lambda x, t: (f(x[0]), -t[0]))
    found = newton.improve(f, newton.begin(f, jnp.zeros(2)), 1e-9, jnp.asarray(1.0), 50)
    assert bool(found.stuck)
    assert found.x.tolist() == [0, 0]
    assert 10 <= int(found.steps) <= 13


def test_learned_parts_are_their_formulas():
    """A perceptron between scales; a Boltzmann machine up, down, and after two updates by hand."""
    rng = np.random.default_rng(0)
    batch = np.column_stack([rng.normal(size=40) * 3 + 1, np.full(40, 2.0)])
    mean, scale = learning.standard(jnp.asarray(batch))
    np.testing.assert_allclose(mean, batch.mean(axis=0))
    np.testing.assert_allclose(scale, [batch[:, 0].std(), 1])
    scales = tuple(map(jnp.asarray, (np.array([1.0, 2]), np.array([3.0, 4]), 5.0, 6.0)))
    made = inv.LearnedInverse((3, 4, 2), scales, rngs=nnx.Rngs(0), dtype=jnp.float64)
    first, second = (np.asarray(w[...]) for w in made.weights)
    y = rng.normal(size=3)
    plain = np.array([1, 2]) + np.array([3, 4]) * (second @ np.tanh(first @ (y - 5) / 6))
    np.testing.assert_allclose(made(jnp.asarray(y)), plain, rtol=1e-9)

    key, v = jax.random.key(0), jnp.asarray(rng.normal(size=(30, 2)))
    found = boltzmann.train_rbm(v, 3, key=key, steps=2, batch=10, rate=0.1)
    start, later = jax.random.split(key)
    w = 0.1 * jax.random.normal(nnx.Rngs(params=start).params(), (3, 2), v.dtype)
    b, c, speeds = np.zeros(2), np.zeros(3), 3 * [0.0]
    sigmoid = lambda z: 1 / (1 + np.exp(-np.asarray(z)))  # noqa: E731
    for each in jax.random.split(later, 2):
        rows, coins = jax.random.split(each)
        data = np.asarray(v)[jax.random.randint(rows, (10,), 0, 30)]
        likely = sigmoid(data @ w.T + c)
        fired = np.asarray(jax.random.bernoulli(coins, likely), float)
        again = fired @ w + b
        after = sigmoid(again @ w.T + c)
        gains = [(likely.T @ data - after.T @ again) / 10, (data - again).mean(axis=0),
                 (likely - after).mean(axis=0)]  # fmt: skip
        speeds = [0.5 * s + 0.1 * g for s, g in zip(speeds, gains)]
        w, b, c = (old + s for old, s in zip((w, b, c), speeds))
    for name, exact in (("weight", w), ("visible", b), ("hidden", c)):
        np.testing.assert_allclose(parts(found, name)[0], exact, rtol=1e-9, err_msg=name)
    h = np.array([0.2, 0.9, 0.4])
    np.testing.assert_allclose(found.down(jnp.asarray(h)), h @ w + b, rtol=1e-9)
    np.testing.assert_allclose(found.up(v[0]), sigmoid(w @ v[0] + c), rtol=1e-9)


@pytest.mark.parametrize("scale", [0.0, 1e-8, 1.0, 1e8])
def test_low_rank_is_solved_in_any_unit_and_without_a_diagonal(scale):
    rng = np.random.default_rng(0)
    diagonal = scale * rng.uniform(1, 2, 4)
    size, rank = (1, 4) if scale == 0 else (scale**0.5, 2)
    layer = inv.LowRank(diagonal, *(size * rng.normal(size=(2, 4, rank))))
    np.testing.assert_allclose(layer.inverse(layer(X[:4])), X[:4], rtol=1e-11)
    log_det = np.linalg.slogdet(np.asarray(layer.matrix()))[1]
    np.testing.assert_allclose(layer.log_abs_det(), log_det, rtol=1e-11)


def test_a_small_matrix_is_not_a_singular_one():
    """Weights times c: x/c comes back, log |det| grows by n log c, the condition stays."""
    names = ("dense", "banded", "circulant", "diagonal")
    layers = {name: inv.LAYERS[name](SIZE, rngs=nnx.Rngs(3)) for name in names}

    @fast_jit
    @jax.vmap
    def look(c):
        found = {}
        for name, layer in layers.items():
            graph, state, rest = nnx.split(layer, nnx.Param, ...)
            scaled = nnx.merge(graph, jax.tree.map(lambda w: c * w, state), rest)
            found[name] = scaled.inverse(X) * c, scaled.log_abs_det() - SIZE * jnp.log(c)
            if name in ("circulant", "diagonal"):  # which have a rule of their own
                found[name] += (scaled.condition(),)
        return found

    for name, figures in look(2.0 ** jnp.array([0.0, -70, 70])).items():
        for figure in figures:
            np.testing.assert_allclose(
                figure[1:], figure[jnp.array([0, 0])], rtol=1e-9, err_msg=name
            )
