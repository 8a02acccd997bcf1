"""Layers whose answers are known, layers at their limits, and layers that have no inverse."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from problems import fast_jit

from diffsim import invertible as inv
from diffsim.invertible import InversionStatus as Status


def test_integer_triangles_are_exact_to_the_bit():
    rng = np.random.default_rng(0)
    weights = [rng.integers(-2, 3, (12, 12)).astype(float) for _ in range(2)]
    chain = inv.Chain([inv.Triangular(w, lower=k == 0, unit=True) for k, w in enumerate(weights)])
    x = jnp.asarray(rng.integers(-9, 10, 12).astype(float))
    assert np.array_equal(chain.inverse(chain(x)), x)
    assert float(chain.log_det(x)) == 0.0


def test_hadamard_of_two_to_the_seventeen():
    """H H = n I, so the inverse is known; integers below 2⁵³ stay exact."""
    n = 1 << 17
    layer = inv.Butterfly.hadamard(n)
    x = jnp.asarray(np.random.default_rng(1).integers(-8, 9, n).astype(float))

    @fast_jit
    def look(layer, x):
        y = layer(x)
        return layer(y), layer.inverse(y)

    twice, back = look(layer, x)
    assert np.array_equal(twice, n * x)
    assert np.array_equal(back, x)
    assert float(layer.log_abs_det()) == pytest.approx(n / 2 * np.log2(n) * np.log(2))


def test_bands_that_need_pivoting_are_solved():
    draw = np.random.default_rng(1).normal
    wides = [inv.Banded(draw(size=shape)) for shape in ((3, 7), (7, 7), (7, 9), (7, 16))]
    bands = [inv.Banded([[0, 1.0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]), *wides]

    @fast_jit
    def look(bands):
        inverses = [jax.vmap(w.inverse)(w.matrix().T) for w in bands]
        return [w.matrix() for w in bands], inverses, [w.log_abs_det() for w in bands]

    for matrix, inverse, log_det in zip(*look(bands)):
        np.testing.assert_allclose(inverse, np.eye(len(inverse)), atol=1e-12)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(matrix)[1], atol=1e-13)


@pytest.mark.parametrize("kind", ["householder", "cayley"])
def test_orthogonal_whatever_the_weights(kind, dtype):
    """Also with columns that are huge, tiny, equal or zero."""
    v = np.random.default_rng(0).normal(size=(40, 6)) * np.array([1e3, 1e-3, 1, 1, 1, 0])
    v[:, 3] = v[:, 2]
    v = jnp.asarray(v, dtype)
    layer = inv.Householder(v) if kind == "householder" else inv.Cayley(v[:, 2:4], v[:, 3:5])
    q = np.asarray(fast_jit(lambda layer: layer.matrix())(layer), np.float64)
    unit = float(jnp.finfo(dtype).eps)
    # Cayley solves a core of condition ‖S‖².
    room = 40 if kind == "householder" else 4e3
    np.testing.assert_allclose(q.T @ q, np.eye(40), atol=room * unit)


@pytest.mark.parametrize("tiny", [1, 4])
def test_woodbury_with_a_tiny_diagonal(tiny):
    """d_min = 1e-6 in float32: Woodbury as it stands divides by it and loses everything."""
    rng = np.random.default_rng(0)
    d = np.exp(0.3 * rng.normal(size=200))
    d[:tiny] = 1e-6
    left, right = rng.normal(size=(2, 200, 4)) / 3
    layer = inv.LowRank(*(jnp.asarray(a, jnp.float32) for a in (d, left, right)))
    x = jnp.asarray(rng.normal(size=200), jnp.float32)
    truth = np.linalg.cond(layer.matrix())
    error = np.linalg.norm(layer.inverse(layer(x)) - x) / np.linalg.norm(x)
    assert error <= min(1e-3, 20 * truth * np.finfo(np.float32).eps)


def test_lipschitz_of_099():
    layer = inv.Residual.random(50, 20, lipschitz=0.99, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.zeros(20)  # tanh' = 1 at 0, where the contraction is weakest
    round_trip = fast_jit(lambda layer, x: layer.inverse(layer(x)))
    for scale in (1e-3, 1.0, 10.0):
        x = scale * jax.random.normal(jax.random.key(0), (50,))
        back = round_trip(layer, x)
        assert np.linalg.norm(back - x) <= 1e-11 * np.linalg.norm(x)
    slopes = np.linalg.svd(fast_jit(jax.jacfwd(layer))(0 * x) - np.eye(50), compute_uv=False)
    assert slopes[0] <= 0.99 + 1e-12


def test_residual_without_weights_is_the_identity():
    layer = inv.Residual(jnp.zeros((3, 2)), jnp.zeros((2, 3)), jnp.ones(2))
    assert layer.inverse(layer(jnp.arange(3.0))).tolist() == [0.0, 1.0, 2.0]


def test_rectangular_chain_is_undone_by_pseudo_inverses():
    """Y = tanh(W₂ tanh(W₁ X + b₁) + b₂), tall then square: x comes back layer by layer."""
    draw = np.random.default_rng(0).normal
    weights = [inv.Rectangular(0.3 * draw(size=(5, 3))), inv.Dense(np.eye(5) + 0.1 * draw(size=5))]
    biases = [inv.Bias(0.1 * draw(size=5)) for _ in range(2)]
    parts = zip(weights, biases, (inv.Tanh(), inv.Tanh()))
    chain = inv.Chain([layer for part in parts for layer in part])
    x = jnp.array([0.4, -0.3, 0.2])
    assert (chain.size, chain.outputs) == (3, 5)
    back, found = fast_jit(lambda c, x: (c.inverse(c(x)), inv.invert(c, c(x))))(chain, x)
    np.testing.assert_allclose(back, x, atol=1e-13)
    np.testing.assert_allclose(found.x, x, atol=1e-13)
    assert (found.status, found.free) == (Status.OK, 0)
    with pytest.raises(ValueError, match="weight: expected square for a determinant"):
        chain.log_det(x)


def test_singular_layers_say_so():
    """No number comes back from a layer without inverse, and invert names the reason."""
    rank_one = jnp.ones((4, 4))
    zero_mode = inv.Circulant(jnp.asarray([0.5, 0.5, 0.0, 0.0]))  # kills the highest frequency
    assert float(zero_mode.condition()) == np.inf
    singular = [
        inv.Dense(rank_one),
        inv.Dense(jnp.arange(16.0).reshape(4, 4)),
        zero_mode,
        inv.Diagonal([1.0, 0.0, 2.0, 3.0]),
        inv.Triangular(jnp.diag(jnp.array([1.0, 0.0, 1.0, 1.0]))),
        inv.LU(jnp.diag(jnp.array([1.0, 1.0, 0.0, 1.0]))),
        inv.LowRank(jnp.zeros(4), jnp.ones((4, 1)), jnp.ones((4, 1))),
        inv.LowRank(jnp.zeros(4), jnp.ones((4, 1)), 0 * jnp.ones((4, 1))),
        inv.Kronecker(jnp.ones((2, 2)), jnp.eye(2)),
        inv.Banded(jnp.zeros((3, 4))),
        inv.Butterfly(jnp.ones((2, 2, 2, 2))),
    ]
    x = jnp.array([1.0, 2.0, 3.0, 5.0])

    @fast_jit
    def look(layers, x):
        found = [inv.invert(layer, layer(x)) for layer in layers]
        return found, [(layer.condition(), layer.log_abs_det()) for layer in layers]

    for layer, found, (condition, log_det) in zip(singular, *look(singular, x)):
        assert found.status == Status.SINGULAR, type(layer).__name__
        assert np.any(np.isnan(found.x))
        assert condition > 1e15, type(layer).__name__
        assert log_det < -30, type(layer).__name__


def test_tanh_at_saturation():
    """Float32 tanh is 1 from 9 on: flagged, clipped on request, or carried."""
    x = jnp.asarray([0.5, 12.0], jnp.float32)
    tanh = inv.Tanh()
    y = jnp.asarray(np.tanh(x))  # the compiler's own falls short of 1 by a rounding if unoptimised
    with pytest.raises(ValueError, match=r"y: Tanh reaches .* got \[1.0\] at \[1\]"):
        tanh.inverse(y)
    assert np.isnan(jax.jit(tanh.inverse)(y)[1])
    assert inv.invert(tanh, y).status == Status.OUT_OF_RANGE
    clipped = inv.invert(tanh, y, domain="clip")
    assert clipped.status == Status.CLIPPED
    assert np.all(np.isfinite(clipped.x))
    assert np.array_equal(tanh.reached(y), [True, False])
    forward, gap = tanh.carry(x)
    np.testing.assert_allclose(forward, y, rtol=1e-6)
    np.testing.assert_allclose(tanh.inverse_carried(y, gap), x, rtol=1e-5)
    beyond = inv.invert(inv.Softplus(), jnp.array([1.0, -1.0]))
    assert beyond.status == Status.OUT_OF_RANGE


@pytest.mark.slow  # only optimised code, which a slow run compiles, reaches 1
@pytest.mark.skipif("level=0" in os.environ.get("XLA_FLAGS", ""), reason="not optimised")
def test_the_compiler_s_tanh_saturates_and_that_is_told():
    x = jnp.linspace(-40, 40, 801, dtype=jnp.float32)
    y = np.asarray(jax.jit(inv.Tanh())(x))
    assert np.all(np.abs(y[np.abs(x) > 10]) == 1)
    assert np.all(np.abs(y) <= 1)
    found = inv.invert(inv.Tanh(), y)
    assert found.status == Status.OUT_OF_RANGE
    np.testing.assert_array_equal(np.isfinite(found.x), np.abs(y) < 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: inv.Dense(jnp.ones((2, 3))), "weight: expected a square matrix"),
        (lambda: inv.Dense([[1.0, np.nan], [0.0, 1.0]]), "weight: expected finite"),
        (lambda: inv.Dense(np.full((9, 9), np.nan)), r"got 81 that are not, .* nan at \(0, 0\)"),
        (lambda: inv.Butterfly.hadamard(12), "size: expected a power of two"),
        (lambda: inv.Butterfly.random(12, rngs=nnx.Rngs(0)), "size: expected a power of two"),
        (lambda: inv.Permutation([0, 0, 1]), "order: expected a permutation"),
        (lambda: inv.Banded(jnp.ones((2, 4))), r"diagonals: expected shape \(2b \+ 1, n\)"),
        (lambda: inv.LeakyRelu(0.0), "slope: expected > 0"),
        (lambda: inv.Cubic(-1.0), "cubic: expected in"),
        (lambda: inv.Tanh(domain="guess"), "domain: expected one of"),
        (lambda: inv.Residual.random(4, lipschitz=1.0, rngs=nnx.Rngs(0)), "lipschitz: expected"),
        (lambda: inv.Chain([]), "layers: expected at least one"),
        (lambda: inv.Chain([inv.Bias([1.0]), inv.Bias([1.0, 2.0])]), "got .'1 → 1', '2 → 2'."),
        (lambda: inv.LowRank([1.0], [1.0], [1.0]), r"left: expected shape \(n, k\), got \(1,\)"),
        (lambda: inv.ActNorm.fitted(jnp.ones((3, 2))), "batch: expected every entry to vary"),
    ],
)
def test_bad_input_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def deep(depth, size=256):
    rngs = nnx.Rngs(0)
    layers = []
    for k in range(depth):
        layers += [inv.Coupling.random(size, flip=bool(k % 2), hidden=4, rngs=rngs)]
        layers += [inv.Householder.random(size, 2, rngs=rngs)]
    return inv.Chain(layers)


def test_reversible_gradients_are_those_of_plain_backpropagation():
    chain = deep(3, 8)
    chain.layers.append(inv.Permutation(np.arange(8)[::-1]))
    graph, state, fixed = nnx.split(chain, nnx.Param, ...)

    def loss(f):
        return lambda state, x: jnp.sum(jnp.sin(f(state, x)))

    def grads(f):
        look = fast_jit(jax.vmap(jax.grad(loss(f), argnums=(0, 1)), in_axes=(None, 0)))
        return look(state, x)

    x = jax.random.normal(jax.random.key(0), (2, 8)).at[1].set(0)  # at 0, drift is not relative
    plain = grads(lambda state, x: nnx.merge(graph, state, fixed)(x))
    ours = grads(inv.reversible(chain))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    assert float(inv.drift(chain, x[0])) < 1e-12


def test_reversible_memory_does_not_grow_with_depth():
    """Temporary memory of the compiled gradient for a batch of 512, three depths."""
    x = jnp.ones((512, 256))

    def temporary(depth, kind):
        chain = deep(depth)
        graph, state = nnx.split(chain)
        f = inv.reversible(chain) if kind == "ours" else lambda s, x: nnx.merge(graph, s)(x)

        def loss(x):
            return jnp.sum(jax.vmap(f, in_axes=(None, 0))(state, x) ** 2)

        compiled = jax.jit(jax.grad(loss)).lower(x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ours = [temporary(depth, "ours") for depth in (2, 4, 8)]
    plain = [temporary(depth, "plain") for depth in (2, 8)]
    assert max(ours) <= 1.1 * ours[0]
    assert plain[1] >= 2.5 * plain[0]  # what the test can see


def test_reversible_drift_spoils_the_gradient():
    """A layer that cannot be undone gives NaN, not the gradient at another point."""
    chain = inv.Chain(
        [
            inv.Diagonal(jnp.asarray([1.0, 1e-30], jnp.float32)),
            inv.Bias(jnp.asarray([1e9, 1.0], jnp.float32)),
        ]
    )
    f = inv.reversible(chain)
    x = jnp.asarray([0.3, 0.2], jnp.float32)
    slope = jax.grad(lambda x: jnp.sum(f(nnx.state(chain), x)))(x)
    assert np.all(np.isnan(slope))
