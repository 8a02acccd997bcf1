"""The gradient checker: each diagnosis, each named slip, no false names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import fast_jit

from diffsim.gradients import backprop, check_gradient, taylor

KEY = jax.random.key(0)
X = jnp.array([0.3, -0.4, 0.9])
WIDE = np.random.default_rng(0).normal(size=6)


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
    assert report.slips == ("x['b']: one wrong entry: [1, 0]",)
    assert "\n" not in repr(report)
    assert "diagnosis=wrong gradient, passed=False, leaf=x['b']" in repr(report)
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


@pytest.mark.parametrize(("size", "dtype"), [(1e10, "float64"), (1e3, "float32"), (1e6, "float32")])
def test_a_wave_far_finer_than_x_is_no_noise(size, dtype):
    """cos x at 10¹⁰ was called wrong, by the slope 0 that coarse steps see; nothing is told at
    10⁶ in float32, whose digits end at a sixteenth of a radian."""
    x = jnp.asarray(size * np.array([0.3, -1.2, 0.7]), dtype)
    wave, told = lambda x: jnp.sum(jnp.sin(x)), size < 1e5 or dtype == "float64"
    assert check_gradient(wave, x).diagnosis == ("correct" if told else "noise")
    assert not check_gradient(wave, x, jnp.zeros_like).passed
    assert check_gradient(wave, x, lambda x: -jnp.cos(x)).diagnosis == (
        "wrong gradient" if told else "noise"
    )


def test_entries_of_many_sizes_in_one_leaf():
    """The wave in x₁ is below the digits of x₂ where both move alike."""
    x = jnp.array([1.0, 1e-3, 1e4], "float32")
    waves = lambda x: jnp.sum(jnp.sin(x * jnp.array([1, 1e3, 1e-4], x.dtype)))  # noqa: E731
    assert check_gradient(waves, x).diagnosis == "correct"
    for entry in range(3):
        bad = check_gradient(waves, x, lambda x, i=entry: jax.grad(waves)(x).at[i].multiply(1.5))
        assert bad.diagnosis == "wrong gradient"


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
    still = check_gradient(wave, X, right, steps=[1e-19, 1e-20, 1e-21])  # x does not move
    assert (still.diagnosis, still.passed, still.steps) == ("step too small", False, ())
    assert check_gradient(lambda x: 0 * jnp.sum(x), X).diagnosis == "step too small"
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


SCALES = [(x, f) for x in (1e-3, 1.0, 1e5) for f in (1e-20, 1.0, 1e20)]


@pytest.mark.parametrize(("size", "unit"), SCALES)
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_steps_follow_the_units_of_x_and_f(dtype, size, unit, length):
    """f = unit Σ k sin(x/(length size)): right, of the wrong sign, and 10 % too long."""
    x, one = jnp.asarray(size * X, dtype), jnp.asarray(1, dtype)
    weights = jnp.arange(1, 4).astype(dtype) * jnp.asarray(unit, dtype)

    def f(x):
        return jnp.sum(weights * jnp.sin(x / jnp.asarray(length * size, dtype)))

    exact, f = jax.grad(f)(x), fast_jit(f)
    for factor, diagnosis in [(1.0, "correct"), (-1.0, "wrong gradient"), (1.1, "wrong gradient")]:
        report = check_gradient(f, x, lambda _, factor=factor: factor * one * exact)
        assert report.diagnosis == diagnosis, report


@pytest.mark.parametrize("size", [1e-8, 1e-5])
@pytest.mark.parametrize("power", [3, 5])
def test_steepness_far_from_x_excuses_nothing(dtype, size, power):
    """f = Σ (x/size)ⁿ rises by 10¹² and more of its slopes within the longest steps."""
    x, unit = jnp.asarray(size * X, dtype), jnp.asarray(size, dtype)
    exact = power * (x / unit) ** (power - 1) / unit
    f = fast_jit(lambda x: jnp.sum((x / unit) ** power))
    assert check_gradient(f, x, lambda _: exact).diagnosis == "correct"
    report = check_gradient(f, x, lambda _: -exact)
    assert (report.diagnosis, report.slips) == ("wrong gradient", ("x: wrong sign",))


@pytest.mark.parametrize("seed", range(12))
def test_an_error_in_proportion_is_seen_along_every_line(dtype, seed):
    """2 % too long, of slopes that may cancel along a random line."""
    weights = jnp.asarray(np.random.default_rng(seed).normal(size=8), dtype)
    f = fast_jit(lambda x: jnp.sum(weights * jnp.sin(x)))
    x = jnp.linspace(0.1, 1, 8, dtype=dtype)
    wrong = check_gradient(
        f, x, lambda x: jnp.asarray(1.02, dtype) * weights * jnp.cos(x), seed=seed
    )
    assert wrong.diagnosis == "wrong gradient", wrong


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize("inner", [None, jnp.float32], ids=["all", "f32 inside"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_short_types(dtype, inner, size):
    x = (size * X).astype(dtype)

    def f(x):
        return jnp.sum(jnp.sin(x.astype(inner or dtype) / size))

    right = check_gradient(fast_jit(f), x, jax.grad(f))
    assert right.passed or right.diagnosis == "step too small", right
    wrong = check_gradient(fast_jit(f), x, lambda x: -jax.grad(f)(x))
    assert wrong.diagnosis in ("wrong gradient", "step too small"), wrong
    assert set(wrong.slips) <= {"x: wrong sign"}
    if size == 1.0:
        assert (right.diagnosis, wrong.diagnosis) == ("correct", "wrong gradient")
        # No room beyond the tolerance that is promised, ε^(1/3), and the difference's own error.
        scaled = check_gradient(fast_jit(f), x, lambda x: 1.5 * jax.grad(f)(x))
        assert scaled.diagnosis == "wrong gradient", scaled


def test_the_step_is_where_truncation_meets_noise():
    """A difference wrong by h² beside a noise of η/h: the least of both is near h = η^(1/3)."""
    steps, noise = 0.5 ** np.arange(20.0), 1e-12
    off, error, step = taylor._mismatch(steps**3, steps, np.zeros(20), noise, steps)
    assert noise ** (1 / 3) / 2 < step < 2 * noise ** (1 / 3)
    assert off == step**2
    assert error == pytest.approx(3 * step**2 + noise / step)
    # Farther out it looks as right, but is not what finer steps find: a bump.
    bump = np.where(steps > 0.01, 0.0, steps)
    assert taylor._mismatch(bump, steps, np.zeros(20), noise, steps)[0] == 1.0


def test_mixed_trees():
    x = {
        "a": X.astype(jnp.bfloat16),
        "b": (1e5 * X).astype(jnp.float32),
        "c": 1e-3 * X,
        "d": jnp.asarray(0.7, jnp.float16),
    }

    def f(x):
        a, b, d = (x[name].astype(float) for name in "abd")
        return jnp.sum(jnp.sin(a)) + jnp.sum(jnp.cos(b / 1e5)) + jnp.sum((1e3 * x["c"]) ** 3) + d**2

    loss, f = f, fast_jit(f)
    exact = jax.grad(loss)(x)
    assert check_gradient(f, x, lambda _: exact).diagnosis == "correct"
    for name in x:
        wrong = {**exact, name: -exact[name]}
        report = check_gradient(f, x, lambda _, wrong=wrong: wrong)
        assert (report.diagnosis, report.leaf) == ("wrong gradient", f"x['{name}']")


def test_nothing_to_tell_is_never_correct(dtype):
    """A slope below the rounding of f: neither right nor wrong."""
    offset = 100 / float(jnp.finfo(dtype).eps)
    x = X.astype(dtype)
    for sign in (1, -1):
        report = check_gradient(
            lambda x: offset + jnp.sum(jnp.sin(x)), x, lambda x, sign=sign: sign * jnp.cos(x)
        )
        assert (report.diagnosis, report.passed) == ("step too small", False)
    small = jnp.asarray(1e-3 * float(jnp.finfo(dtype).eps), dtype)
    pair = {"a": x[0], "b": x[1]}
    report = check_gradient(
        lambda x: jnp.sin(x["a"]) + small * jnp.sin(x["b"]),
        pair,
        lambda x: {"a": jnp.cos(x["a"]), "b": -small * jnp.cos(x["b"])},
    )
    assert (report.diagnosis, report.leaf) == ("step too small", "x['b']")
    assert check_gradient(lambda x: jnp.sin(x["a"]) + 5, pair).diagnosis == "correct"  # b unused


def test_places_where_slopes_are_hard_to_see(dtype):
    at = lambda *numbers: jnp.array(numbers, dtype)  # noqa: E731
    for f, x in [
        (lambda x: 1 + jnp.sum((x - 1) ** 2), at(1, 1, 1)),  # a minimum
        (lambda x: jnp.sum(jnp.cos(x - 1)) + jnp.sum((x - 1) ** 3), at(1, 1, 1)),
        (lambda x: 1 + jnp.sum(jnp.sin(x)), at(1e-6, 1e-6, 1e-6)),  # x far below its effect
        (lambda x: 1 + jnp.sum(jnp.sin(x)), at(0, 0, 0)),
        (lambda x: jnp.sum(jnp.sqrt(x)), at(1e-4, 1e-6, 0.5)),  # sizes apart, undefined below 0
        (lambda x: jnp.sum(jnp.log(x)), at(1e-4, 1e5, 0.5)),
        (lambda x: jnp.exp(-jnp.sum((x / 1e-6) ** 2)), at(1e-6, -0.4e-6, 0.3e-6)),  # flat afar
        (lambda x: jnp.sum(jnp.sin(1000 * x)), at(0.3, -0.4, 0.9)),  # a wave seen from afar
        (lambda x: jnp.sum(jnp.sin(100 * x)), at(*WIDE)),  # more noise than a table tells
    ]:
        report = check_gradient(f, x)
        assert report.diagnosis == "correct", report
        tilted = check_gradient(f, x, lambda x, f=f: jax.grad(f)(x) + 0.2 + 0.1 * jax.grad(f)(x))
        assert tilted.diagnosis == "wrong gradient", tilted


def test_not_finite():
    edge = check_gradient(lambda x: jnp.sum(x**1.5), jnp.zeros(3))
    assert (edge.diagnosis, edge.passed) == ("not finite", False)
    broken = check_gradient(wave, X, lambda x: right(x).at[1].set(jnp.nan))
    assert (broken.diagnosis, broken.slips) == (
        "wrong gradient",
        ("x: not finite: 1 of 3 entries",),
    )
    assert broken.coordinates[0][1] == (1,)


def test_bad_input():
    with pytest.raises(ValueError, match=r"expected a scalar, got shape \(3,\)"):
        check_gradient(lambda x: x, X, right)
    with pytest.raises(ValueError, match="expected a floating scalar, got int"):
        check_gradient(lambda x: jnp.sum(x > 0), X, right)
    with pytest.raises(ValueError, match="expected leaves of shapes"):
        check_gradient(wave, X, lambda x: x[:2])
    with pytest.raises(ValueError, match="finite value at x, got nan"):
        check_gradient(lambda x: jnp.nan * jnp.sum(x), X)


@pytest.mark.parametrize("name", backprop.ACTIVATIONS)
def test_activation_derivatives(name):
    """f′ of z against jax.grad, at kinks too; of a, where it exists, the same."""
    activation = backprop.ACTIVATIONS[name]
    z = jnp.array([-3.0, -0.5, 0.0, 0.7, 2.0])
    delta = jnp.array([0.3, -1.0, 2.0, 0.1, -0.4])
    pulled = jax.vjp(activation.value, z)[1](delta)[0]
    np.testing.assert_allclose(
        activation.pull(z, activation.value(z), delta), pulled, rtol=1e-12, atol=1e-15
    )
    if name == "softmax":
        return  # mixes its entries: no derivative of one alone
    exact = jax.vmap(jax.grad(lambda z: activation.value(z)))(z)
    np.testing.assert_allclose(activation.slope(z), exact, rtol=1e-12)
    if activation.slope_from_value is not None:
        from_value = activation.slope_from_value(activation.value(z))
        np.testing.assert_allclose(from_value, exact, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "shapes", [[(5, 3), (4, 2)], [(4, 3), (5, 2)], [(3,), (3, 2)], [(5, 3), 5]]
)
def test_backprop_wants_a_target_for_each_input(shapes):
    net = backprop.init(KEY, [3, 2], ["tanh"])
    with pytest.raises(ValueError, match="inputs, targets: expected shapes"):
        backprop.loss(net, *(jnp.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_backprop_equals_autodiff_to_rounding(dtype):
    names = list(backprop.ACTIVATIONS)
    net = backprop.init(KEY, [3, *[4] * (len(names) - 1), 2], names)
    net[1], net[4] = net[1].replace(normalised=True), net[4].replace(normalised=True)
    inputs, targets = (jax.random.normal(jax.random.key(k), (5, n)) for k, n in ((1, 3), (2, 2)))
    mask = jnp.array([0.0, 1.25, 1.25, 1.25])  # one unit dropped for all
    masks = [None, mask, None, jnp.outer(jnp.ones(5), mask[::-1]), *[None] * (len(names) - 4)]
    net, inputs, targets, masks = jax.tree.map(
        lambda a: a.astype(dtype), (net, inputs, targets, masks)
    )

    def both(*arguments):
        return jax.grad(backprop.loss)(*arguments), backprop.gradient(*arguments)

    exact, written = fast_jit(both, static_argnums=4)(net, inputs, targets, masks, 0.05)
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(written)):
        # Dozens of operations and two normalisations deep, in units of the largest entry.
        bound = 300 * float(jnp.finfo(dtype).eps) * float(jnp.max(jnp.abs(a)))
        assert float(jnp.max(jnp.abs(a - b))) <= bound


def test_backprop_bad_input():
    with pytest.raises(ValueError, match="one more than activations"):
        backprop.init(KEY, [3, 2], ["tanh", "tanh"])
    with pytest.raises(ValueError, match="activation: expected one of tanh"):
        backprop.loss(
            [backprop.DenseLayer(jnp.ones((1, 1)), jnp.ones(1), "gelu")], *[jnp.ones((2, 1))] * 2
        )
    with pytest.raises(ValueError, match=r"shapes \(n, in\) and \(n, out\)"):
        backprop.loss(backprop.init(KEY, [3, 2], ["tanh"]), jnp.ones(3), jnp.ones(2))
