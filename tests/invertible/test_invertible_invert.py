"""The ladder: any network, any shape, several answers, derivatives, honest errors and statuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import fast_jit

from diffsim import invertible as inv
from diffsim.invertible import InversionStatus as Status
from diffsim.invertible import newton

W = np.random.default_rng(0).normal(size=(2, 4, 4)) * 0.3 + np.eye(4)
B = np.random.default_rng(1).normal(size=(2, 4)) * 0.1


def two_layers(w, x):
    """Y = tanh(W₂ tanh(W₁ x + b₁) + b₂) as a mere function."""
    return jnp.tanh(w[1] @ jnp.tanh(w[0] @ x + B[0]) + B[1])


class Net(nnx.Module):
    """A module of a class the library has not seen."""

    def __init__(self, sizes, activation, dtype=jnp.float64):
        rngs = nnx.Rngs(0)
        pairs = itertools.pairwise(sizes)
        self.parts = nnx.List([nnx.Linear(a, b, param_dtype=dtype, rngs=rngs) for a, b in pairs])
        self.activation = activation

    def __call__(self, x):
        for part in self.parts[:-1]:
            x = self.activation(part(x))
        return self.parts[-1](x)


@pytest.mark.parametrize("method", ["exact", "newton", "auto"])
def test_function_layer_by_layer_and_by_search(method):
    x = 0.5 * jax.random.normal(jax.random.key(0), (3, 4))

    @fast_jit
    def look(w, x):
        y = jax.vmap(lambda x: two_layers(w, x))(x)
        return inv.invert(lambda x: two_layers(w, x), y, size=4, method=method)

    found = look(W, x)
    np.testing.assert_allclose(found.x, x, atol=1e-12)
    assert found.status.tolist() == [Status.OK] * 3
    assert found.layer.tolist() == [-1] * 3 if method == "newton" else min(found.layer) >= 0


ACTIVATIONS = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "leaky": lambda x: jax.nn.leaky_relu(x, 0.2),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_unknown_module_is_read_as_layers(name):
    net = Net((4, 4, 4), ACTIVATIONS[name])
    layers = inv.read.read(net, jax.ShapeDtypeStruct((4,), jnp.float64))
    assert [type(layer).__name__ for layer in layers[:2]] == ["Dense", "Bias"]
    assert len(layers) == 5
    x = jax.random.normal(jax.random.key(0), (4,))
    found = fast_jit(lambda net, x: inv.invert(net, net(x), method="exact"))(net, x)
    np.testing.assert_allclose(found.x, x, atol=1e-11)


def test_arithmetic_with_known_numbers_is_read():
    c = np.array([0.5, -2.0, 3.0])
    inverses = {
        "neg": (lambda x: -x, lambda y: -y),
        "add": (lambda x: c + x, lambda y: y - c),
        "sub": (lambda x: x - c, lambda y: y + c),
        "rsub": (lambda x: c - x, lambda y: c - y),
        "mul": (lambda x: c * x, lambda y: y / c),
        "rmul": (lambda x: x * c, lambda y: y / c),
        "div": (lambda x: x / c, lambda y: y * c),
        "asinh": (jnp.arcsinh, np.sinh),
    }
    y = np.array([0.25, 1.0, -0.75])

    @fast_jit
    def look(y):
        return {
            name: inv.invert(f, y, size=3, method="exact").x for name, (f, _) in inverses.items()
        }

    for name, found in look(y).items():
        np.testing.assert_allclose(found, inverses[name][1](y), rtol=1e-14, err_msg=name)
    assert inv.read.read(lambda x: c / x, jax.ShapeDtypeStruct((3,), float)) is None


def test_what_cannot_be_read_is_searched():
    """relu, gelu and skips are no layers here; 'exact' refuses them, 'auto' goes on."""
    net = Net((3, 3, 3), jax.nn.gelu)
    assert inv.read.read(net, jax.ShapeDtypeStruct((3,), jnp.float64)) is None
    assert inv.read.read(lambda x: x + jnp.tanh(x), jax.ShapeDtypeStruct((3,), float)) is None
    with pytest.raises(ValueError, match="network: expected square invertible layers"):
        inv.invert(net, jnp.zeros(3), method="exact")
    x = jax.random.normal(jax.random.key(0), (2, 3))

    def skip(x):
        return x + 0.5 * jnp.tanh(net(x))

    found = fast_jit(lambda x: inv.invert(skip, jax.vmap(skip)(x), size=3))(x)
    assert found.status.tolist() == [0, 0]
    np.testing.assert_allclose(jax.vmap(skip)(found.x), jax.vmap(skip)(x), atol=1e-12)


def test_wide_gives_least_norm_and_free_directions():
    w = jnp.asarray(np.random.default_rng(0).normal(size=(3, 7)))
    y = jnp.array([1.0, -2.0, 0.5])
    found = inv.invert(lambda x: w @ x, y, size=7)
    np.testing.assert_allclose(found.x, np.linalg.pinv(w) @ y, atol=1e-13)
    assert (int(found.free), int(found.status)) == (4, Status.OK)
    lost = inv.invert(lambda x: w.at[2].set(w[1]) @ x, y.at[2].set(y[1]), size=7)
    assert (int(lost.free), int(lost.status)) == (5, Status.SINGULAR)


def test_tall_gives_least_squares():
    w = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    y = jnp.asarray(np.random.default_rng(1).normal(size=6))
    best = np.linalg.lstsq(np.asarray(w), np.asarray(y))[0]
    found = inv.invert(lambda x: w @ x, y, size=3)
    assert found.status == Status.LEAST_SQUARES
    np.testing.assert_allclose(found.x, best, atol=1e-10)
    reached = inv.invert(lambda x: w @ x, w @ best, size=3)
    assert reached.status == Status.OK


def test_all_preimages_of_a_tent_map():
    """L tents have 2ᴸ preimages of every y in (0, 1), none missing and none twice."""
    depth = 4

    def tents(x):
        for _ in range(depth):
            x = 1 - 2 * jnp.abs(x - 0.5)
        return x

    starts = jnp.linspace(0.005, 0.995, 100)[:, None]
    found = inv.preimages(tents, jnp.array([0.3]), starts)
    points = np.sort(np.asarray(found.points()[:, 0]))
    k = np.arange(2 ** (depth - 1))
    exact = np.sort(np.concatenate([(2 * k + 0.3) / 16, (2 * k + 2 - 0.3) / 16]))
    np.testing.assert_allclose(points, exact, atol=1e-14)


@pytest.mark.parametrize("method", ["exact", "newton"])
def test_derivatives_in_y_and_weights(method):
    """dx = J⁻¹(dy − ∂f/∂w dw), both modes, against central differences."""
    x = 0.5 * jax.random.normal(jax.random.key(0), (4,))
    w = jnp.asarray(W)
    y = two_layers(w, x)

    def solved(w, y):
        return inv.invert(lambda x: two_layers(w, x), y, size=4, method=method).x

    dw, dy = (
        jax.random.normal(jax.random.key(1), W.shape),
        jax.random.normal(jax.random.key(2), (4,)),
    )
    dx = fast_jit(lambda: jax.jvp(solved, (w, y), (dw, dy))[1])()
    step = 1e-5
    solve = fast_jit(solved)
    far = [solve(w + s * step * dw, y + s * step * dy) for s in (1, -1)]
    np.testing.assert_allclose(dx, (far[0] - far[1]) / (2 * step), rtol=1e-5, atol=1e-7)
    v = jnp.ones(4)
    gw, gy = fast_jit(lambda: jax.vjp(solved, w, y)[1](v))()
    np.testing.assert_allclose(jnp.sum(gw * dw) + jnp.sum(gy * dy), jnp.sum(dx), rtol=1e-9)
    late = jax.grad(jax.jit(lambda w, y: jnp.sum(solved(w, y))), (0, 1))(w, y)
    for a, b in zip(late, (gw, gy)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_derivative_of_least_squares_and_of_second_order():
    """Where the residual stays, and twice: d²√a/da² = −a^(−3/2)/4."""

    def fitted(y):
        return inv.invert(lambda x: jnp.array([x[0], x[0] ** 2]), y, size=1, start=jnp.ones(1)).x[0]

    # The cost is flat to √u around its minimum, so x is known to 1e-8 and the step is long.
    y, step = jnp.array([1.0, 2.0]), 1e-3
    slope = jax.grad(fitted)(y)[1]
    far = [fitted(y.at[1].add(s * step)) for s in (1, -1)]
    assert float(slope) == pytest.approx(float(far[0] - far[1]) / (2 * step), rel=1e-4)

    def square_root(a):
        return inv.invert(lambda x: x**2, a[None], size=1, start=jnp.ones(1)).x[0]

    assert float(jax.grad(jax.grad(square_root))(4.0)) == pytest.approx(-1 / 32)


@pytest.mark.parametrize("size", [1024, 100_000])
@pytest.mark.parametrize(
    "names",
    [
        ("tridiagonal", "tanh"),
        ("householder", "sigmoid"),
        ("circulant", "asinh", "circulant"),
        ("low-rank", "sinh-arcsinh", "low-rank"),
    ],
    ids="-".join,
)
def test_error_estimate_of_large_chains(names, size):
    """float32, against the x that gave y: the rounding of y, and of all between, are counted."""
    rngs = nnx.Rngs(0)
    chain = inv.Chain([inv.LAYERS[name](size, rngs=rngs, dtype=jnp.float32) for name in names])
    x = jax.random.normal(jax.random.key(0), (size,), jnp.float32)
    found = inv.invert(chain, chain(x))
    assert found.status == Status.OK
    assert 0.3 < found.error / jnp.linalg.norm(found.x - x) < 4


@pytest.mark.parametrize("method", ["exact", "newton"])
def test_error_estimate_within_ten_times(method):
    """float32 answers against the inputs they came from, over six orders of condition."""
    rng = np.random.default_rng(0)
    u, _, vt = np.linalg.svd(rng.normal(size=(8, 8)))
    for power in (0, 3, 5):
        weight = u @ np.diag(np.logspace(0, -power, 8)) @ vt
        x = rng.normal(size=(12, 8)) * 0.3
        y = jnp.asarray(np.tanh(x @ weight.T), jnp.float32)
        w = jnp.asarray(weight, jnp.float32)
        exact = np.arctanh(np.asarray(y, float)) @ np.linalg.inv(np.asarray(w, float)).T
        solve = fast_jit(
            lambda w, y: inv.invert(
                lambda v: jnp.tanh(w @ v), y, size=8, method=method, tolerance=3e-7
            )
        )
        found = solve(w, y)
        true = np.linalg.norm(np.asarray(found.x, float) - exact, axis=1)
        ratio = np.median(found.error) / np.median(true)
        assert 0.1 < ratio < 10, (power, ratio)
        if method == "exact" and power:
            assert set(found.layer.tolist()) == {0}  # the weight, not the tanh
    weight = u @ np.diag([1, 1, 1, 1, 1, 1, 1, 2e-7]) @ vt
    hopeless = inv.invert(inv.Dense(jnp.asarray(weight, jnp.float32)), y[0])
    assert hopeless.status in (Status.ILL_CONDITIONED, Status.SINGULAR)


@pytest.mark.parametrize(("share", "status"), [(0.09, "OK"), (0.11, "ILL_CONDITIONED")])
def test_ill_conditioned_begins_at_a_tenth_of_x(share, status):
    """A start that meets the tolerance is kept: its error is its distance, x − y of an identity."""
    start = jnp.array([1 / (1 - share), 0.0])
    found = inv.invert(
        lambda x: 1 * x, jnp.array([1.0, 0]), size=2, method="newton", start=start, tolerance=0.5
    )
    np.testing.assert_allclose(found.error / jnp.linalg.norm(found.x), share, rtol=1e-9)
    assert found.status == Status[status]


def test_ill_conditioned_layers_begin_at_a_tenth_of_x():
    """W = (1 1; 1 1 + d), y = W (1, 0): half a unit of y at most, over d."""
    shifts = jnp.array([1.4e-6, 1e-6], jnp.float32)

    @jax.vmap
    def solve(shift):
        weight = jnp.ones((2, 2), jnp.float32).at[1, 1].add(shift)
        return inv.invert(inv.Dense(weight), jnp.ones(2, jnp.float32))

    found = solve(shifts)
    shares = found.error / jnp.linalg.norm(found.x, axis=1)
    assert 0.06 < shares[0] < 0.1 < shares[1] < 0.15
    assert found.status.tolist() == [Status.OK, Status.ILL_CONDITIONED]


def test_status_of_each_sample():
    """One row in order, one beyond tanh, one not finite: each with its own status."""
    y = jnp.array([[0.1, 0.2, 0.0, 0.0], [0.1, 1.5, 0, 0], [jnp.nan, 0, 0, 0]])
    net = lambda x: two_layers(jnp.asarray(W), x)  # noqa: E731
    solve = {
        d: fast_jit(lambda y, d=d: inv.invert(net, y, size=4, domain=d)) for d in ("raise", "clip")
    }
    found = solve["raise"](y)
    assert found.status.tolist() == [
        0,
        Status.OUT_OF_RANGE,
        Status.NOT_FINITE,
    ]
    assert np.isnan(found.x[1:]).any(axis=1).all()
    assert solve["clip"](y).status[1] == Status.CLIPPED
    broken = fast_jit(lambda w: inv.invert(lambda x: x * w, y[0], size=4, method="newton"))(np.nan)
    assert (broken.status, np.isnan(broken.x).all()) == (Status.NOT_FINITE, True)
    searched = inv.invert(net, y, size=4, method="newton")
    assert searched.status.tolist() == [
        0,
        Status.NOT_CONVERGED,
        Status.NOT_FINITE,
    ]
    assert np.isnan(searched.x[2]).all()


def test_descent_leaves_where_newton_is_stuck():
    """x³ − 3x = 5 from 0: Newton's method stays at the hump at −1, restarts find the root."""

    def hump(x):
        return x**3 - 3 * x

    y = jnp.array([5.0])
    start = jnp.array([-1.1])
    stuck = inv.invert(hump, y, size=1, method="newton", start=start)
    assert stuck.status == Status.NOT_CONVERGED
    found = inv.invert(hump, y, size=1, start=start)
    assert found.status == Status.OK
    assert float(found.x[0]) == pytest.approx(2.279018786)


def test_matrix_free_beyond_the_dense_size():
    """600 unknowns, skip connections: no matrix, few evaluations, a derivative by Krylov."""
    first, second = (inv.LAYERS["monarch"](600, rngs=nnx.Rngs(k)) for k in range(2))

    def net(x):
        return second(x + 0.2 * jnp.tanh(first(x)))

    x = jax.random.normal(jax.random.key(0), (600,))
    v = jax.random.normal(jax.random.key(1), (600,))

    @fast_jit
    def look(x):
        y = net(x)
        found = inv.invert(net, y, size=600)
        slope = jax.jvp(lambda y: inv.invert(net, y, size=600).x, (y,), (v,))[1]
        return found, jax.jvp(net, (x,), (slope,))[1]

    found, back = look(x)
    assert found.status == Status.OK
    assert np.linalg.norm(found.x - x) <= 1e-12 * np.linalg.norm(x)
    assert int(found.evaluations) <= 400
    np.testing.assert_allclose(back, v, atol=1e-9)


@pytest.mark.parametrize("kind", ["learned", "rbm", "dbn"])
def test_learned_starts(kind):
    """Each comes nearer to x than the mean does, and the solver polishes it to rounding."""
    a = jnp.array([[0.6, -0.4], [0.3, 0.7]])

    def net(x):
        return jnp.tanh(a @ x) + 0.3 * x

    samples = jax.random.normal(jax.random.key(0), (500, 2))
    key = jax.random.key(1)
    if kind == "learned":
        start = inv.learn_inverse(net, samples, key=key, hidden=(32,), steps=500)
    else:
        hidden = (64,) if kind == "rbm" else (32, 64)
        start = inv.train_dbn(net, samples, key=key, hidden=hidden, steps=1000)
    x = 0.7 * jax.random.normal(jax.random.key(2), (50, 2))
    y = jax.vmap(net)(x)
    guess = jax.vmap(start)(y)
    share = float(jnp.sum((guess - x) ** 2) / jnp.sum((x - jnp.mean(x, 0)) ** 2))
    assert share < {"learned": 0.05, "rbm": 0.4, "dbn": 0.6}[kind]
    found = inv.invert(net, y, size=2, start=start, method="newton")
    assert np.mean(found.status == Status.OK) > 0.9
    fine = found.status == Status.OK
    np.testing.assert_allclose(found.x[fine], x[fine], atol=1e-10)


def test_exact_is_exact_whatever_the_start():
    net = inv.Diagonal([2.0, 4.0])
    found = inv.invert(net, jnp.ones(2), method="exact", start=jnp.zeros(2))
    assert (found.x.tolist(), int(found.layer)) == ([0.5, 0.25], 0)


def test_what_cannot_be_inverted_in_is_named():
    for call, words in (
        (
            lambda: inv.invert(lambda x: np.sin(x), jnp.zeros(2), size=2),
            "network: expected a function that",
        ),
        (lambda: inv.invert(jnp.tanh, jnp.zeros(2, jnp.float16), size=2), "expected float32 or"),
    ):
        with pytest.raises(TypeError, match=words):
            call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: inv.invert(lambda x: x, jnp.zeros(2)), "size: expected the number of inputs"),
        (lambda: inv.invert(jnp.tanh, jnp.zeros(2), size=3), r"y: expected shape \(3,\) from 3"),
        (lambda: inv.invert(jnp.tanh, jnp.zeros((1, 2, 3)), size=3), r"y: expected shape \(m,\)"),
        (lambda: inv.invert(jnp.tanh, jnp.zeros(2), size=2, method="magic"), "expected one of"),
        (lambda: inv.invert(inv.Bias([1.0, 2.0]), jnp.zeros(3)), "y: expected shape|x: Bias"),
        (
            lambda: inv.invert(jnp.tanh, jnp.zeros(2), size=2, start=lambda y: y[:1]),
            r"start: expected shape \(2,\)",
        ),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_search_without_matrices_counts_what_it_calls():
    """For x - y one round of CGLS solves a step: f, its derivative and its transpose are called."""
    y = jnp.linspace(1.0, 2.0, newton.DENSE + 1)

    @fast_jit
    def search(y):
        f = lambda x: x - y  # noqa: E731
        return newton.improve(f, newton.begin(f, 0 * y), 1e-9, jnp.linalg.norm(y), 20)

    found = search(y)
    np.testing.assert_allclose(found.x, y, rtol=1e-9)
    assert found.evaluations == 1 + 5 * found.steps
    assert 1 < found.steps < 20


def test_a_search_is_damped_where_a_step_fails_and_not_where_it_helps():
    @fast_jit
    def search(start, limit):
        return newton.improve(jnp.arctan, newton.begin(jnp.arctan, start), 1e-12, 1.0, limit)

    for start, factor in ((0.1, 0.2), (100.0, 10.0)):  # Newton's own step from 100 goes to -15,600
        first, last = (search(jnp.array([start]), limit) for limit in (1, 60))
        assert float(first.damping) == pytest.approx(1e-2 * factor)
        assert (first.x[0] == start) == (factor > 1)
        assert abs(float(last.x[0])) < 1e-12
        assert last.steps <= 15
