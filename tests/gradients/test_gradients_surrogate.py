"""The two transforms: arguments, aux, keys, chunks, clear errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import fast_jit

from diffsim import _check
from diffsim.gradients import (
    METHODS,
    SPSA,
    AlphaOrder,
    CentralDifference,
    ComplexStep,
    Distribution,
    EvolutionStrategies,
    Gaussian,
    InverseVariance,
    Pathwise,
    PersistentES,
    RandomDirections,
    ScoreFunction,
    TotalPropagation,
    estimate,
    make,
    surrogate,
)
from diffsim.gradients.directions import Haar

KEY = jax.random.key(0)
X = jnp.ones(2)


def square(x):
    return jnp.sum(x**2)


def test_aux_and_arguments_pass_through():
    """Aux is that of x itself; an argument's derivative is that of the returned value."""

    def loss(x, scale, note):
        return scale * jnp.sum(x**2), {"x": x, "note": note}

    f = jax.jit(surrogate(loss, CentralDifference(), has_aux=True))
    value, aux = f(jnp.ones(2), 3.0, jnp.arange(2))
    assert float(value) == 6.0
    np.testing.assert_array_equal(aux["x"], jnp.ones(2))
    np.testing.assert_array_equal(aux["note"], [0, 1])
    (slope, by_scale), _ = jax.grad(f, argnums=(0, 1), has_aux=True)(
        jnp.ones(2), jnp.asarray(3.0), jnp.arange(2)
    )
    np.testing.assert_allclose(slope, [6.0, 6.0], rtol=1e-8)
    np.testing.assert_allclose(by_scale, 2.0)
    with_aux = estimate(loss, EvolutionStrategies(samples=4), has_aux=True)
    np.testing.assert_array_equal(with_aux(jnp.ones(2), 3.0, 1, key=KEY).aux["x"], jnp.ones(2))


def test_no_derivative_rule_is_asked_of_the_loss():
    """A host callback cannot be differentiated by JAX; the estimate does not try to."""

    def host(x):
        return jax.pure_callback(
            lambda a: np.sum(np.asarray(a) ** 2, axis=-1),
            jax.ShapeDtypeStruct((), x.dtype),
            x,
            vmap_method="expand_dims",
        )

    f = surrogate(host, CentralDifference())
    slope = fast_jit(jax.grad(lambda w: f(2.0 * w)))(jnp.ones(3))
    np.testing.assert_allclose(slope, 8 * np.ones(3), rtol=1e-7)


def test_closed_over_tracers_may_be_batched_or_differentiated():
    def row(serve, x, key):
        return surrogate(lambda x: jnp.sum(serve * x**2), SPSA(samples=2))(x, key=key)

    serves, keys = jnp.array([1.0, 2.0]), jax.random.split(KEY, 2)
    x = jnp.ones((2, 1))  # one coordinate: SPSA is exact
    slopes = fast_jit(jax.vmap(jax.grad(row, argnums=(0, 1))))(serves, x, keys)
    np.testing.assert_allclose(slopes[0], [1.0, 1.0])
    np.testing.assert_allclose(slopes[1], [[2.0], [4.0]], rtol=1e-8)


@pytest.mark.parametrize(
    "used",
    [ScoreFunction(samples=10), Pathwise(Gaussian(), samples=10), CentralDifference(),
     METHODS["measure-valued"], InverseVariance(samples=8), PersistentES(samples=5),
     TotalPropagation(samples=8)],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_chunks_change_memory_only(used):
    """3 divides none of the counts: the remainder is handled."""

    @fast_jit
    def both(key):
        chunked = used.replace(chunk=3)
        return [jax.grad(surrogate(square, m))(jnp.ones(4), key=key) for m in (used, chunked)]

    whole, parts = both(KEY)
    np.testing.assert_allclose(whole, parts, rtol=1e-9)


def test_rows_are_evaluated_in_one_batch():
    """Under vmap a method calls the loss with all rows and perturbations at once: no loop."""
    text = str(
        jax.make_jaxpr(jax.vmap(jax.grad(surrogate(square, EvolutionStrategies(samples=5)))))(
            jnp.ones((7, 3)), key=jax.random.split(KEY, 7)
        )
    )
    assert "while" not in text
    assert "scan" not in text
    assert "f64[7,10,3]" in text  # 7 rows, 5 pairs


def test_compiles_once_for_a_shape():
    traces = []

    def loss(x):
        traces.append(1)
        return jnp.sum(x)

    f = fast_jit(jax.grad(surrogate(loss, SPSA(samples=2))))
    f(jnp.ones(2), key=KEY)
    before = len(traces)
    f(jnp.zeros(2), key=jax.random.key(1))
    assert len(traces) == before


@pytest.mark.parametrize("name", ["score-function", "spsa", "central-difference", "measure-valued"])
def test_pairs_share_the_noise_of_a_stochastic_loss(name):
    """Additive noise cancels from every paired difference, and from no single draw."""

    def loss(x, key):
        return jnp.sum(x) + 100.0 * jax.random.normal(key)

    slope = fast_jit(jax.grad(surrogate(loss, make(name), stochastic=True)))(jnp.zeros(1), key=KEY)
    if name == "score-function":
        assert abs(float(slope[0]) - 1) > 10  # deviation 100/(σ√64) = 125
    elif name == "measure-valued":
        assert abs(float(slope[0]) - 1) < 1  # deviation √((4/π − 1)/8) = 0.18
    else:
        np.testing.assert_allclose(slope, [1.0], rtol=1e-6)


def test_antithetic_pathwise_pairs_share_the_noise_of_the_loss():
    def loss(x, key):
        return jnp.sum(x**2) * jax.random.normal(key)

    def pair(key):
        mine, losses, _ = jax.random.split(key, 3)  # as the transforms split it
        factor = jax.vmap(jax.random.normal)(jax.random.split(losses, 4))
        noise = 0.1 * jax.random.normal(mine, (4, 2))
        return factor, noise

    factor, noise = pair(KEY)
    found = estimate(loss, Pathwise(Gaussian(0.1), samples=4, antithetic=True), stochastic=True)
    got = fast_jit(found)(X, key=KEY)
    assert got.evaluations == 8
    assert int(got.samples) == 4
    np.testing.assert_allclose(got.grad, 2 * X * jnp.mean(factor), rtol=1e-12)
    value = jnp.mean(factor * (2.0 + jnp.sum(noise**2, axis=1)))
    np.testing.assert_allclose(got.value, value, rtol=1e-12)


def test_deterministic_method_on_a_stochastic_loss_needs_a_key():
    def loss(x, key):
        return jnp.sum(x) * jax.random.normal(key)

    with pytest.raises(TypeError, match="a stochastic loss draws"):
        surrogate(loss, Pathwise(), stochastic=True)(jnp.ones(2))
    averaged = fast_jit(estimate(loss, Pathwise(samples=512), stochastic=True))(
        jnp.ones(2), key=KEY
    )
    assert abs(float(averaged.grad[0])) < 4 * float(averaged.standard_error[0])
    for used in (TotalPropagation(), PersistentES()):
        with pytest.raises(TypeError, match="stochastic loss"):
            surrogate(loss, used, stochastic=True)(jnp.ones(2), key=KEY)


def test_a_reused_key_is_refused_when_jax_is_asked_to():
    f = fast_jit(surrogate(square, SPSA(samples=2)))
    key = jax.random.key(7)
    f(jnp.ones(2), key=key)
    f(jnp.ones(2), key=key)  # common random numbers, allowed by default
    key = jax.random.key(8)
    with jax.debug_key_reuse(True):
        f(jnp.ones(2), key=key)
        with pytest.raises(jax.errors.KeyReuseError):
            f(jnp.ones(2), key=key)


def test_raw_keys_are_the_typed_ones():
    f = surrogate(square, EvolutionStrategies(samples=2))
    typed = f(X, key=jax.random.key(3))
    np.testing.assert_array_equal(f(X, key=jax.random.PRNGKey(3)), typed)


def test_estimate_is_a_tree():
    found = fast_jit(estimate(lambda x: square(x["w"]), SPSA(samples=6)))(
        {"w": jnp.ones(2)}, key=KEY
    )
    assert found.grad["w"].shape == found.standard_error["w"].shape == (2,)
    assert found.evaluations == 12
    assert found.failures.dtype == found.samples.dtype == jnp.int32
    exact = estimate(square, CentralDifference())(jnp.ones(2))
    assert float(exact.variance) == 0.0
    assert np.isinf(exact.snr)


def test_failing_loss_raises_outside_jit():
    def loss(x):
        return jnp.where(x[0] > 0.02, jnp.nan, jnp.sum(x))

    with pytest.raises(FloatingPointError, match=r"expected finite values, got 1\d that were not"):
        surrogate(loss, SPSA(step=0.05))(jnp.zeros(2), key=KEY)
    with pytest.raises(FloatingPointError, match="every sample failed"):
        estimate(lambda x: jnp.nan * x[0], SPSA(), on_failure="mask")(jnp.zeros(2), key=KEY)


def test_what_finite_losses_make_infinite_is_told_outside_jit():
    """Two of 3e38 in float32: their difference is 6e38, and their sum too, beyond 3.4e38."""
    x = jnp.zeros(1, jnp.float32)
    step = lambda x: jnp.where(x[0] > 0, 3e38, -3e38).astype(x.dtype)  # noqa: E731
    level = lambda x: jnp.float32(3e38) + 0 * x[0]  # noqa: E731
    cases = [
        (step, CentralDifference(), "gradient: 1 of 1 not finite"),
        (step, SPSA(samples=2), "gradient: .* beyond the range of float32"),
        (level, Pathwise(Gaussian(0.1), samples=2), "value: 1 of 1 not finite"),
        (lambda x: jnp.where(x[0] > 9, jnp.sqrt(x[0] - 9), 0), Pathwise(),
         "gradient: .* a derivative fails"),
    ]  # fmt: skip
    for loss, method, message in cases:
        f = surrogate(loss, method)
        for run in (f, jax.grad(f), estimate(loss, method)):
            with pytest.raises(FloatingPointError, match=message):
                run(x, key=KEY)
    assert not np.isfinite(fast_jit(jax.grad(surrogate(step, SPSA(samples=2))))(x, key=KEY)).all()


BAD = {
    "not scalar": (lambda: surrogate(lambda x: x, SPSA())(jnp.ones(2), key=KEY),
                   ValueError, r"loss: expected a scalar, got shape \(2,\)"),
    "integer loss": (lambda: surrogate(lambda x: 1, Pathwise())(jnp.ones(2)),
                     TypeError, "loss: expected a floating scalar, got int"),
    "aux unasked": (lambda: surrogate(lambda x: (x[0], 1), SPSA())(jnp.ones(2), key=KEY),
                    TypeError, "pass has_aux=True"),
    "aux missing": (lambda: surrogate(square, SPSA(), has_aux=True)(jnp.ones(2), key=KEY),
                    TypeError, r"expected \(scalar, aux\)"),
    "integer x": (lambda: surrogate(lambda x: 1.0 * x["n"], Pathwise())({"n": jnp.arange(1)}),
                  TypeError, r"x\['n'\]: expected a floating dtype, got int"),
    "empty x": (lambda: surrogate(square, Pathwise())({}), TypeError, "at least one floating"),
    "batch of keys": (lambda: surrogate(square, SPSA())(jnp.ones(2), key=jax.random.split(KEY, 3)),
                      ValueError, r"expected one key, got shape \(3,\)"),
    "not a key": (lambda: surrogate(square, SPSA())(jnp.ones(2), key=3), TypeError, "got int"),
    "float key": (lambda: surrogate(square, SPSA())(jnp.ones(2), key=jnp.ones(2)),
                  TypeError, r"got float64\[2\]"),
    "one key for both": (lambda: surrogate(lambda x, _: square(x), SPSA())(X, KEY, key=KEY),
                         ValueError, "same key was given"),
    "one term": (lambda: estimate(square, SPSA(samples=1))(jnp.ones(2), key=KEY),
                 ValueError, "a variance needs at least 2, got 1 from SPSA"),
    "not a method": (lambda: surrogate(square, "spsa"), TypeError, "expected a Method"),
    "policy": (lambda: surrogate(square, SPSA(), on_failure="ignore"), ValueError, "got 'ignore'"),
    "penalty": (lambda: surrogate(square, SPSA(), on_failure="penalty"), ValueError, "got None"),
    "samples": (lambda: surrogate(square, SPSA(samples=0)), ValueError, "integer >= 1, got 0"),
    "baseline": (lambda: surrogate(square, ScoreFunction(samples=1)), ValueError, ">= 2, got 1"),
    "sigma": (lambda: surrogate(square, EvolutionStrategies(-1.0)), ValueError, "sigma: expected"),
    "law": (lambda: surrogate(square, ScoreFunction(3.0)), TypeError, "law: expected sample"),
    "mode": (lambda: surrogate(square, Pathwise(mode="up")), ValueError, "got 'up'"),
    "bound": (lambda: surrogate(square, AlphaOrder(bound=0.1)), TypeError, "Bernstein.*got 0.1"),
    "folds": (lambda: surrogate(square, InverseVariance(samples=66)), ValueError, "multiple of 4"),
    "spread": (lambda: surrogate(square, SPSA())(Distribution(jnp.ones(2), 1.0), key=KEY),
               TypeError, "SPSA differentiates a point"),
    "scale": (lambda: surrogate(square, ScoreFunction())(
        Distribution(jnp.ones(3), jnp.ones(2)), key=KEY), ValueError, "x.scale: expected"),
    "haar": (lambda: surrogate(square, RandomDirections(Haar(5)))(jnp.ones(2), key=KEY),
             ValueError, "at most d = 2, got 5"),
    "not analytic": (lambda: surrogate(lambda x: jnp.sum(jnp.abs(x)), ComplexStep())(jnp.ones(2)),
                     TypeError, "expected complex"),
    "not complex": (lambda: surrogate(
        lambda x: _check.floating("speed", x, (2,))[0], ComplexStep())(jnp.ones(2)),
        TypeError, r"ComplexStep gives it complex .*refuses \(speed: .*complex128\); Pathwise and"),
    "name": (lambda: make("newton"), ValueError, "got 'newton'"),
    "setting": (lambda: make("spsa", sigma=1.0), ValueError, "for spsa, got 'sigma'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        call()
