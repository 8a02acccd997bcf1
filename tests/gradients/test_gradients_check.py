"""The gradient checker: each diagnosis, each named slip, no false names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import fast_jit

from diffsim.gradients import backprop, check_gradient, slips

KEY = jax.random.key(0)
X = jnp.array([0.3, -0.4, 0.9])


def wave(x):
    return jnp.sum(jnp.sin(3 * x))


def right(x):
    return 3 * jnp.cos(3 * x)


def test_right_gradient(dtype):
    report = check_gradient(wave, X.astype(dtype), right)
    assert report.passed, report
    assert report.diagnosis == "correct"
    if dtype == jnp.float64:
        assert abs(report.directions[0].order - 3) < 0.1  # Taylor remainder of a central difference


def test_custom_vjp_is_checked_as_it_stands():
    @jax.custom_vjp
    def f(x):
        return wave(x)

    f.defvjp(lambda x: (wave(x), x), lambda x, g: (g * 1.01 * right(x),))
    report = check_gradient(f, X)
    assert report.diagnosis == "wrong gradient"
    assert report.slips == ("x: scaled by 1.01",)
    assert abs(report.directions[0].order - 1) < 0.05
    with pytest.raises(AssertionError, match="FAILED: wrong gradient in x"):
        report.raise_if_failed()


def test_names_leaf_and_coordinate():
    x = {"a": X, "b": jnp.ones((2, 2))}

    def f(x):
        return wave(x["a"]) + jnp.sum(x["b"] ** 2)

    def wrong(x):
        gradient = jax.grad(f)(x)
        return {**gradient, "b": gradient["b"].at[1, 0].add(0.1)}

    report = check_gradient(f, x, wrong)
    assert report.leaf == "x['b']"
    assert report.slips == ()
    leaf, index, given, measured = report.coordinates[0]
    assert (leaf, index) == ("x['b']", (1, 0))
    assert given == pytest.approx(2.1)
    assert measured == pytest.approx(2.0)
    assert {d.leaf: d.diagnosis for d in report.directions}["x['a']"] == "correct"


def test_kink_and_jump():
    kink = check_gradient(lambda x: jnp.sum(jnp.abs(x)), jnp.zeros(3))
    assert (kink.diagnosis, kink.passed) == ("kink", True)
    outside = check_gradient(
        lambda x: jnp.sum(jnp.abs(x)), jnp.zeros(3), lambda x: 5 * jnp.sign(x + 1)
    )
    assert outside.diagnosis == "wrong gradient"
    jump = check_gradient(lambda x: jnp.sum(jnp.where(x > 0, 1.0, 0.0)), jnp.zeros(3))
    assert (jump.diagnosis, jump.passed) == ("jump", False)


def test_noise_is_not_blamed_on_the_gradient():
    generator = np.random.default_rng(0)
    report = check_gradient(lambda x: wave(x) + 0.1 * generator.random(), X, right)
    assert (report.diagnosis, report.passed) == ("noise", False)
    quiet = check_gradient(lambda x: wave(x) + 1e-6 * jnp.sin(1e9 * jnp.sum(x)), X, right)
    assert quiet.diagnosis == "correct"


def test_steps_too_small():
    report = check_gradient(wave, X, right, steps=[1e-14, 1e-15, 1e-16])
    assert (report.diagnosis, report.passed) == ("step too small", False)
    assert report.steps == (1e-14, 1e-15, 1e-16)
    with pytest.raises(ValueError, match="at least 3 positive"):
        check_gradient(wave, X, steps=[1e-3])


@pytest.mark.parametrize(
    ("factor", "noise", "diagnosis"),
    [(1.0, 0.01, "correct"), (0.9, 0.01, "biased estimator"), (0.9, 10.0, "noise")],
)
def test_estimators(factor, noise, diagnosis):
    def estimator(x, key):
        return factor * right(x) + noise * jax.random.normal(key, x.shape)

    assert check_gradient(wave, X, estimator, key=KEY).diagnosis == diagnosis


def test_leaf_slips():
    square = jnp.array([[1.0, 2.0], [3.5, -4.0]])

    def f(x):
        return jnp.sum(jnp.arange(1.0, 5.0).reshape(2, 2) * x**2)

    exact = jax.grad(f)(square)
    for wrong, name in [
        (-exact, "wrong sign"),
        (0 * exact, "missing: it is zero"),
        (exact.T, "transposed"),
        (exact / 7, "scaled by 0.1429"),
    ]:
        report = check_gradient(f, square, lambda x, wrong=wrong: wrong)
        assert report.slips == (f"x: {name}",)


def test_bad_input():
    with pytest.raises(ValueError, match=r"expected a scalar, got shape \(3,\)"):
        check_gradient(lambda x: x, X, right)
    with pytest.raises(ValueError, match="expected leaves of shapes"):
        check_gradient(wave, X, lambda x: x[:2])
    with pytest.raises(ValueError, match="finite value at x, got nan"):
        check_gradient(lambda x: jnp.nan * jnp.sum(x), X)


# Backward passes written by hand, apart from the library, each with one slip.

ACTS = ["tanh", "sigmoid", "softplus"]
NET = backprop.init(KEY, [3, 3, 3, 3], ACTS)
INPUTS = jax.random.normal(jax.random.key(1), (5, 3))
TARGETS = jax.random.normal(jax.random.key(2), (5, 3))
SLIPS = fast_jit(slips.backprop_slips)(NET, INPUTS, TARGETS)


def by_hand(slip=None, place=None):
    """The textbook loop in NumPy over samples, with an optional mistake."""
    value = {"tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
             "softplus": lambda z: np.log1p(np.exp(z))}  # fmt: skip
    slope = {"tanh": lambda z: 1 / np.cosh(z) ** 2,
             "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
             "softplus": lambda z: 1 / (1 + np.exp(-z))}  # fmt: skip
    W, b = [np.asarray(x.weights) for x in NET], [np.asarray(x.bias) for x in NET]
    dW, db = [np.zeros_like(w) for w in W], [np.zeros_like(v) for v in b]
    for sample, target in zip(np.asarray(INPUTS), np.asarray(TARGETS)):
        zs, activations = [], [sample]
        for i, act in enumerate(ACTS):
            z = W[i] @ activations[-1] + (0 if (slip, place) == ("no bias", i) else b[i])
            zs.append(z)
            activations.append(value[act](z))
        error = activations[-1] - target
        if slip == "sign":
            error = -error
        for i in (2, 1, 0):
            fed = activations[i + 1] if (slip, place) == ("a for z", i) else zs[i]
            delta = error * slope[ACTS[i]](fed)
            if (slip, place) == ("delta sign", i):
                delta = -delta
            grad = np.outer(delta, activations[i])
            dW[i] += grad.T if (slip, place) == ("grad T", i) else grad
            db[i] += 0 if (slip, place) == ("bias grad", i) else delta
            error = (W[i] if (slip, place) == ("W for W.T", i) else W[i].T) @ delta
    n = 1 if slip == "1/n" else len(INPUTS)
    return [x.replace(weights=jnp.asarray(w / n), bias=jnp.asarray(v / n))
            for x, w, v in zip(NET, dW, db)]  # fmt: skip


INJECTED = [
    ("sign", None, "wrong sign: target − output in the error"),
    ("1/n", None, "missing 1/n: summed over the batch"),
    *[("a for z", i, f"a fed where z belongs in f′ (layer {i})") for i in range(3)],
    *[("no bias", i, f"missing bias in the forward pass (layer {i})") for i in range(3)],
    *[("bias grad", i, f"missing bias: its gradient is zero (layer {i})") for i in range(3)],
    *[("grad T", i, f"transposed weight gradient (layer {i})") for i in range(3)],
    *[("W for W.T", i, f"transposed weight: W δ for Wᵀδ (layer {i})") for i in (1, 2)],
    *[("delta sign", i, f"wrong sign of δ (layer {i})") for i in (0, 1)],
]


@pytest.mark.parametrize(("slip", "place", "name"), INJECTED)
def test_each_slip_in_each_place_is_named(slip, place, name):
    assert slips.matching(by_hand(slip, place), SLIPS, 1e-10) == [name]


def test_slips_are_named_by_the_checker():
    f = fast_jit(lambda net: backprop.loss(net, INPUTS, TARGETS))
    wrong = check_gradient(f, NET, lambda _: by_hand("a for z", 1), hypotheses=SLIPS)
    assert wrong.diagnosis == "wrong gradient"
    assert wrong.slips == ("a fed where z belongs in f′ (layer 1)",)
    assert "slip: a fed where z belongs" in str(wrong)
    good = check_gradient(f, NET, lambda _: by_hand(), hypotheses=SLIPS)
    assert good.passed
    assert good.slips == ()


def test_no_false_names():
    """Small or unlisted errors match nothing."""
    exact = by_hand()
    for seed in range(20):
        generator = np.random.default_rng(seed)
        off = jax.tree.map(lambda g, r=generator: g + 0.01 * r.standard_normal(g.shape), exact)
        assert slips.matching(off, SLIPS, 1e-6) == []
    assert slips.matching(exact, SLIPS, 1e-6) == []
    half = jax.tree.map(lambda g: 0.37 * g, exact)
    assert slips.matching(half, SLIPS, 1e-6) == []


@pytest.mark.parametrize("name", backprop.ACTIVATIONS)
def test_activation_derivatives(name):
    """f′ of z against jax.grad, at kinks too; of a, where it exists, the same."""
    activation = backprop.ACTIVATIONS[name]
    z = jnp.array([-3.0, -0.5, 0.0, 0.7, 2.0])
    exact = jax.vmap(jax.grad(lambda z: activation.value(z)))(z)
    np.testing.assert_allclose(activation.slope(z), exact, rtol=1e-12)
    if activation.slope_from_value is not None:
        from_value = activation.slope_from_value(activation.value(z))
        np.testing.assert_allclose(from_value, exact, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_backprop_equals_autodiff_to_rounding(dtype):
    names = list(backprop.ACTIVATIONS)
    net = backprop.init(KEY, [3, 4, 4, 4, 4, 4, 4, 2], names)
    net, inputs, targets = jax.tree.map(lambda a: a.astype(dtype), (net, INPUTS, TARGETS[:, :2]))
    exact, written = fast_jit(lambda *a: (jax.grad(backprop.loss)(*a), backprop.gradient(*a)))(
        net, inputs, targets
    )
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(written)):
        # A few dozen operations deep: a hundred rounding errors of the leaf's largest entry.
        bound = 100 * float(jnp.finfo(dtype).eps) * float(jnp.max(jnp.abs(a)))
        assert float(jnp.max(jnp.abs(a - b))) <= bound


def test_backprop_bad_input():
    with pytest.raises(ValueError, match="one more than activations"):
        backprop.init(KEY, [3, 2], ["tanh", "tanh"])
    with pytest.raises(ValueError, match="activation: expected one of tanh"):
        backprop.loss(
            [backprop.Layer(jnp.ones((1, 1)), jnp.ones(1), "gelu")], *[jnp.ones((2, 1))] * 2
        )
    with pytest.raises(ValueError, match=r"shapes \(n, in\) and \(n, out\)"):
        backprop.loss(NET, INPUTS[0], TARGETS[0])
