"""Black-box simulators: the same estimates as through JAX, in every transform, one batch each."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simulators
from problems import Mixed, fast_jit, quadratic
from rich.console import Console

from diffsim.gradients import (
    METHODS,
    SPSA,
    CentralDifference,
    Distribution,
    EvolutionStrategies,
    surrogate,
)
from diffsim.gradients.blackbox import BlackBox, Penalty

Q = quadratic(sigma=0.1)


def numpy_quadratic(x):
    x = np.concatenate([x["a"], x["b"][None]])
    return 0.5 * x @ Q.A @ x + Q.b @ x + Q.c


def jax_quadratic(x):
    return Q(jnp.concatenate([x["a"], x["b"][None]]))


X = {"a": jnp.asarray(Q.mu[:3]), "b": jnp.asarray(Q.mu[3])}
DERIVATIVES = {"pathwise", "pathwise-forward", "pathwise-smoothed", "forward-gradient",
               "smoothing-first-order", "alpha-order", "inverse-variance", "complex-step",
               "total-propagation", "persistent-es", "noise-reuse-es"}  # fmt: skip


def same(first, second):
    # Differences with h = 4e-6 turn a rounding of 1e-16 into 1e-10.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), first, second)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in DERIVATIVES])
def test_every_method_of_values_gives_the_estimate_it_gives_through_jax(name):
    """Equal keys, so the very same perturbations, in one batch."""
    method = METHODS[name]
    box = BlackBox(numpy_quadratic, method=method)
    losses = box, surrogate(jax_quadratic, method)
    both = fast_jit(lambda key: [jax.value_and_grad(loss)(X, key=key) for loss in losses])
    same(*both(jax.random.key(3)))
    assert box.statistics.batches == 1
    assert box.statistics.samples == box.evaluations(X)


@pytest.mark.parametrize(("name", "jit"), [("spsa", fast_jit), ("central-difference", lambda f: f)])
def test_the_host_step_gives_the_estimate_of_the_function(name, jit):
    """In jit or out of it. A row's key is its part of the step's key."""
    box = BlackBox(numpy_quadratic, method=METHODS[name])
    rows = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), X)
    key = jax.random.key(3)
    step = box.value_and_grad(lambda scale, rows: jax.tree.map(lambda row: scale * row, rows))
    value, slope = step(jnp.array(1.0), rows, key=key)
    one = jax.vmap(lambda x, key: jax.value_and_grad(box)(x, key=key))
    found = jit(one)(rows, jax.random.split(key, 2))
    inner = sum(jnp.sum(g * x) for g, x in zip(jax.tree.leaves(found[1]), jax.tree.leaves(rows)))
    same((value, slope), (jnp.mean(found[0]), inner / 2))
    assert box.statistics.batches == 2
    # The rows' keys may come from outside, of either kind.
    for keys in (jax.random.split(key, 2), jax.random.key_data(jax.random.split(key, 2))):
        same(step(jnp.array(1.0), rows, key=keys), (value, slope))


@pytest.mark.parametrize(
    "name", ["pathwise", "forward-gradient", "complex-step", "alpha-order", "persistent-es"]
)
def test_methods_that_differentiate_are_refused(name):
    with pytest.raises(TypeError, match="uses the loss's values at real points"):
        BlackBox(numpy_quadratic, method=METHODS[name])(X, key=jax.random.key(0))


@pytest.mark.parametrize(
    ("dtype", "batched"), [(jnp.float32, True), (jnp.float64, False)], ids=["f32", "f64"]
)
def test_transforms_agree_and_make_one_host_call(dtype, batched):
    """vmap of grad, jvp, scan, all under jit, against the closed form x − aim."""
    simulator = simulators.bowls if batched else simulators.bowl
    box = BlackBox(simulator, method=CentralDifference(), batched=batched)
    x = jnp.asarray(np.linspace(-1, 1, 6).reshape(3, 2), dtype)
    aim = jnp.full((3, 2), 0.25, dtype)
    close = {"rtol": 1e-4 if dtype == jnp.float32 else 1e-8, "atol": 1e-4}

    value, slope = fast_jit(jax.vmap(jax.value_and_grad(box)))(x, aim)
    assert value.dtype == slope.dtype == dtype
    np.testing.assert_allclose(value, simulators.bowls(x, aim), **close)
    np.testing.assert_allclose(slope, x - aim, **close)
    assert box.statistics.batches == 1
    assert box.statistics.samples == 3 * (2 * 2 + 1)
    assert box.statistics.calls == (1 if batched else 15)

    ones = jnp.ones_like(x)
    tangent = fast_jit(lambda x: jax.jvp(jax.vmap(lambda x: box(x, aim[0])), (x,), (ones,))[1])(x)
    np.testing.assert_allclose(tangent, jnp.sum(x - aim, axis=1), **close)
    jacobian = fast_jit(jax.jacrev(lambda x: jax.vmap(lambda x: box(x, aim[0]))(x)))(x)
    np.testing.assert_allclose(jacobian.sum(axis=1), x - aim, **close)

    @fast_jit
    def descend(x):
        return jax.lax.scan(lambda x, _: (x - 0.5 * jax.grad(box)(x, aim[0]), None), x, length=8)[0]

    before = box.statistics.batches
    np.testing.assert_allclose(descend(x[0]), aim[0] + 0.5**8 * (x[0] - aim[0]), **close)
    assert box.statistics.batches == before + 8

    # A network in front stays exact: one matrix for all rows, and args that are not perturbed.
    front = jnp.asarray([[1.0, 0.5], [-0.5, 2.0]], dtype)
    step = box.value_and_grad(lambda front, x: x @ front)
    value, slope = step(front, x, args=(aim,))
    exact = jax.value_and_grad(lambda f: jnp.mean(0.5 * jnp.sum((x @ f - aim) ** 2, axis=1)))(front)
    assert value.dtype == slope.dtype == dtype
    np.testing.assert_allclose(value, exact[0], **close)
    np.testing.assert_allclose(slope, exact[1], **close)


def test_a_distribution_learns_its_scale():
    box = BlackBox(simulators.bowl, method=EvolutionStrategies(samples=4000))
    x = Distribution(jnp.array([1.0, -1.0]), jnp.array(0.3))
    slope = fast_jit(jax.grad(box))(x, key=jax.random.key(0))
    # E ½‖x‖² = ½(‖μ‖² + 2σ²): gradients μ and 2σ.
    np.testing.assert_allclose(slope.mean, x.mean, atol=0.1)
    np.testing.assert_allclose(slope.scale, 0.6, atol=0.1)


class LinearBehindTheNet:
    """``Mixed`` in NumPy: its loss, or the whole with the network inside."""

    def __init__(self, mixed, whole):
        self.slope, self.inputs = np.asarray(mixed.slope), np.asarray(mixed.inputs)
        self.whole = whole

    def __call__(self, x):
        if self.whole:
            first, bias, second, offset, last = x
            hidden = np.tanh(first @ self.inputs + bias)
            hidden = np.tanh(np.einsum("nij,nj->ni", second, hidden) + offset)
            x = np.einsum("nij,nj->ni", last, hidden)
        return x @ self.slope


@pytest.mark.parametrize("count", [1_000, pytest.param(40_000, marks=pytest.mark.slow)])
def test_the_estimate_at_the_output_varies_hundreds_of_times_less(count):
    """384 parameters, SPSA with one pair: tr(JCJᵀ) at the output, (384 − 1)‖Jg‖² over weights."""
    mixed = Mixed()
    gradient = mixed.gradient
    at_output = BlackBox(LinearBehindTheNet(mixed, False), batched=True, method=SPSA(samples=1))
    over_all = BlackBox(LinearBehindTheNet(mixed, True), batched=True, method=SPSA(samples=1))

    def variance(loss):
        keys = jax.random.split(jax.random.key(0), count)
        trees = fast_jit(jax.vmap(lambda key: jax.grad(loss)(mixed.parameters, key=key)))(keys)
        rows = np.concatenate([np.reshape(leaf, (count, -1)) for leaf in trees], axis=1)
        assert rows.shape[1] == 384
        error = rows.std(axis=0) / count**0.5
        assert np.all(np.abs(rows.mean(axis=0) - gradient) <= 4.5 * error + 1e-9)
        centred = np.sum((rows - rows.mean(axis=0)) ** 2, axis=1)
        return centred.mean(), centred.std() / count**0.5

    small, small_error = variance(lambda p, key: at_output(mixed.net(p), key=key))
    large, large_error = variance(lambda p, key: over_all(p, key=key))
    assert at_output.statistics.batches == over_all.statistics.batches == 1
    print(f"at the output {small:.1f} (theory {mixed.variance_at_output:.1f}), "
          f"over the weights {large:.0f} (theory {mixed.variance_in_parameters:.0f}): "
          f"{large / small:.0f} times")  # fmt: skip
    assert abs(small - mixed.variance_at_output) <= 4 * small_error + 1e-6 * small
    assert abs(large - mixed.variance_in_parameters) <= 4 * large_error
    assert large > 100 * small


def test_the_host_step_has_the_variance_of_the_formula():
    """The same at the output by the host step, over 40 steps of 16 rows: a mean of 16."""
    mixed = Mixed()
    box = BlackBox(LinearBehindTheNet(mixed, False), batched=True, method=SPSA(samples=1))
    step = box.value_and_grad(lambda p: jnp.broadcast_to(mixed.net(p), (16, 2)))
    slopes = [step(mixed.parameters, key=jax.random.key(i))[1] for i in range(40)]
    rows = np.stack([np.concatenate([np.ravel(leaf) for leaf in s]) for s in slopes])
    squares = np.sum((rows - mixed.gradient) ** 2, axis=1)
    assert abs(16 * squares.mean() - mixed.variance_at_output) <= 4 * 16 * squares.std() / 40**0.5


def test_output_with_leaves_and_a_loss():
    output = {"place": jax.ShapeDtypeStruct((2,), "float64"), "size": np.float32(0)}
    box = BlackBox(
        simulators.pair, output=output, loss=simulators.size_of_pair, method=CentralDifference()
    )
    slope = fast_jit(jax.grad(box))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(slope, [1.0, 2.0], rtol=1e-6)
    found = box.results(np.arange(6.0).reshape(3, 2))
    assert found["size"].dtype == np.float32
    np.testing.assert_array_equal(found["place"], np.arange(6.0).reshape(3, 2))


def test_the_cache_answers_what_it_has_seen():
    journal = simulators.Journal()
    box = BlackBox(journal, method=CentralDifference(), cache=7)
    slope, x = fast_jit(jax.grad(box)), jnp.ones(3)
    first = slope(x)
    assert len(journal.seen) == 7
    np.testing.assert_array_equal(slope(x), first)
    assert len(journal.seen) == 7
    assert box.statistics.cached == 7
    for other in (2 * x, x):  # the first pushes the known ones out
        slope(other).block_until_ready()
    assert len(journal.seen) == 21


def test_the_simulator_may_keep_and_change_what_it_is_given():
    kept = []

    def simulator(x):
        kept.append(x)
        x *= 2
        return simulators.bowl(x)

    box = BlackBox(simulator, method=CentralDifference())
    np.testing.assert_allclose(jax.jit(jax.grad(box))(jnp.ones(2)), [4.0, 4.0], rtol=1e-8)
    assert {tuple(np.round(x, 3)) for x in kept} == {(2.0, 2.0)}
    assert len({x.ctypes.data for x in kept}) == 5


def test_statistics_and_progress():
    console = Console(file=io.StringIO(), force_terminal=True)
    box = BlackBox(simulators.bowl, method=CentralDifference(), progress=console)
    fast_jit(jax.grad(box))(jnp.ones(2)).block_until_ready()
    found = box.statistics
    assert (found.batches, found.samples, found.calls, found.failures) == (1, 5, 5, 0)
    assert found.seconds > 0
    assert "5/5" in console.file.getvalue()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"simulator": 3}, TypeError, "simulator: expected a callable, got 3"),
        ({"workers": -1}, ValueError, "workers: expected an integer >= 0, got -1"),
        ({"timeout": 1.0}, ValueError, "timeout: expected workers >= 1 with it"),
        ({"timeout": 0.0, "workers": 1}, ValueError, "timeout: expected > 0 or None, got 0.0"),
        ({"on_error": "hope"}, ValueError, "on_error: expected 'raise', 'mask' or Penalty"),
        ({"method": "spsa"}, TypeError, "method: expected a Method record"),
        ({"output": np.ones(3)}, ValueError, "loss: expected one for an output"),
        ({"simulator": lambda x: 0.0, "workers": 1}, TypeError,
         "top level of a module, or set workers=0"),
    ],
)  # fmt: skip
def test_settings_are_checked(settings, error, message):
    with pytest.raises(error, match=message):
        BlackBox(**{"simulator": simulators.bowl} | settings)


def test_penalty_is_finite():
    with pytest.raises(ValueError, match="Penalty: expected a finite loss, got inf"):
        Penalty(float("inf"))
    with pytest.raises(TypeError, match="Penalty: expected a real number, got <U1"):
        Penalty("3")


def test_rows_are_checked():
    step = BlackBox(simulators.bowl, method=CentralDifference()).value_and_grad(lambda p: p)
    with pytest.raises(ValueError, match="args: expected 3 rows, one for each row of x, got"):
        step(jnp.ones((3, 2)), args=(np.ones((2, 2)),))
    with pytest.raises(ValueError, match="forward: expected leaves with one row a sample"):
        step(jnp.array(1.0))
    with pytest.raises(FloatingPointError, match="x: expected finite simulator inputs, got nan"):
        step(jnp.full((3, 2), jnp.nan))
