"""What every task promises, for each in the table; a task joins by one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from point import Point
from test_tasks_hit_target import ANSWER, SERVE

from diffsim.tasks import TASKS, Task, make
from diffsim.training import Settings, Traced, Trainer

# Weights and a start at which much happens, beside those drawn; at the answer itself the distance
# from the target has a kink.
KNOWN = {"paddle": (ANSWER + 0.01, SERVE)}
LONG = {"arm"}  # compiles for longer than the default run has room
CASES = {"point": Point, **{name: lambda name=name: make(name) for name in TASKS}}


class Case:
    """A task, compiled once, with weights and starts: those that it draws, and the known ones."""

    def __init__(self, task, *known):
        self.task, self.traces = task, 0
        keys = jax.random.split(jax.random.key(5), 3)
        weights = 0.2 * jax.random.normal(jax.random.key(2), (3, task.weight_count))
        points = [*zip(weights, map(task.sample, keys), strict=True), *known]
        self.weights, self.starts = zip(*points, strict=True)

        def loss(weights, start):
            self.traces += 1
            return task.loss(weights, start)

        self.loss = jax.jit(jax.value_and_grad(loss))
        self.terms = jax.jit(task.terms)

    def __iter__(self):
        return zip(self.weights, self.starts, strict=True)


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in CASES],
)
def case(request):
    name = request.param
    return Case(CASES[name](), *([KNOWN[name]] if name in KNOWN else []))


def test_what_is_seen_is_a_finite_vector_of_order_one(case):
    seen = jnp.stack([case.task.observe(start) for start in case.starts])
    assert seen.ndim == 2
    assert np.abs(seen).max() < 10  # so it is finite
    assert np.ptp(seen, axis=0).max() > 0  # and says one start from another


def test_the_loss_and_its_gradient_are_finite_and_compiled_once(case):
    for size in (0.0, 1.0, 10.0):
        for weights, start in case:
            value, slope = case.loss(size * weights, start)
            assert value.shape == ()
            assert slope.shape == (case.task.weight_count,)
            assert np.isfinite(value)
            assert np.isfinite(slope).all()
            assert np.abs(slope).max() > 0  # there is a way to go from anywhere
    assert case.traces == 1


def test_the_gradient_is_that_of_central_differences(case):
    step = 1e-6
    for number, (weights, start) in enumerate(case):
        slope = case.loss(weights, start)[1]
        way = jax.random.normal(jax.random.key(number), weights.shape)
        up, down = (case.loss(weights + sign * step * way, start)[0] for sign in (1, -1))
        # Rounding of a loss of order 1 over the step, and third derivatives.
        assert float((up - down) / (2 * step)) == pytest.approx(
            float(slope @ way), rel=1e-6, abs=1e-6
        )


@pytest.mark.slow  # compiles the terms as well
def test_the_loss_is_the_sum_of_its_terms(case):
    for weights, start in case:
        terms = case.terms(weights, start)
        assert all(term.shape == () for term in terms.values())
        # Native code and plain code sum in another order.
        assert float(case.loss(weights, start)[0]) == pytest.approx(
            float(sum(terms.values())), rel=1e-9
        )


def test_measures_are_what_happened_and_numbers(case):
    found = jax.eval_shape(case.task.measures, case.weights[0], case.starts[0])
    scalars = [found[name].dtype for name in found if found[name].shape == ()]
    assert scalars
    assert all(dtype.kind in "bf" for dtype in scalars)


class Throw(Task):
    """A task of a user's own: no more than sample, observe, loss and measures."""

    weight_count = 1

    def sample(self, key):
        return {"wind": jax.random.uniform(key, minval=-1.0)}

    def observe(self, start):
        return start["wind"][None]

    def loss(self, weights, start):
        return (weights[0] + start["wind"]) ** 2

    def measures(self, weights, start):
        off = jnp.abs(weights[0] + start["wind"])
        return {"caught": off < 0.1, "distance": off}


def test_a_task_of_ones_own_needs_four_functions(tmp_path):
    settings = Settings(steps=200, batch=32, hidden=(8,), learning_rate=0.05, out=tmp_path)
    trainer = Trainer(Traced(Throw()), settings)
    for _ in range(200):
        trainer.update()
    row = trainer.measure()
    assert row.keys() == {"loss", "caught_rate", "distance", "term_loss"}
    assert row["loss"] == row["term_loss"] < 0.01
    assert trainer.evaluate(jax.random.key(1), 200)["caught_rate"].low > 0.5
