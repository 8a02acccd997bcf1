"""LAX and RELAX: a score function whose control variate is a learned, differentiable surrogate."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct

from diffsim._adam import adam
from diffsim._types import Tree
from diffsim.gradients.base import Draws, Sampled
from diffsim.gradients.flat import flatten
from diffsim.gradients.laws import Gaussian, Law, check_law, score, seen
from diffsim.gradients.problem import Problem
from diffsim.gradients.score_function import relaxed_points


@jax.default_matmul_precision("highest")
def quadratic_surrogate(parameters: Tree, point: jax.Array) -> jax.Array:
    """c(x) = a + b·x + ½ xᵀA x for parameters (a, b, A); zero for None."""
    if parameters is None:
        return jnp.zeros((), point.dtype)
    constant, linear, square = parameters
    return constant + linear @ point + 0.5 * point @ square @ point


@struct.dataclass
class Relax(Sampled):
    """LAX: ĝ = (f(x) − c(x)) s(x) + ∂c(x)/∂x along the path; unbiased for ANY surrogate c.

    With a law of bits (``Bernoulli``) it is RELAX, z the relaxed point, b its bits, z̃ a relaxed
    point redrawn given b:  ĝ = (f(b) − c(z̃)) s(b) + ∂c(z)/∂x − ∂c(z̃)/∂x.

    With c = f the variance is the pathwise one, with c = 0 that of the score function without a
    baseline. :func:`fit_surrogate` learns c by lowering the variance itself.

    Attributes:
        law: the noise; its scale stays fixed.
        surrogate: (parameters, flat point (d,)) → scalar, differentiable.
        parameters: of the surrogate; None for the quadratic one at zero.

    Source: Grathwohl et al. 2018, "Backpropagation through the Void", §3.
    """

    law: Law = Gaussian()
    surrogate: Callable = struct.field(pytree_node=False, default=quadratic_surrogate)
    parameters: Tree = None

    def check(self, least: int = 1) -> None:
        super().check(least)
        check_law(self.law)

    def draw(self, problem) -> Draws:
        law, mean = self.law, problem.x
        relaxed_key, again_key = jax.random.split(problem.key)
        shape = (self.samples, mean.size)
        noise = law.sample(relaxed_key, shape, mean.dtype)
        points = jax.lax.stop_gradient(seen(law, relaxed_points(problem, law, noise)))
        values = problem.evaluate(points, self.chunk)

        def control(x, place):
            return self.surrogate(self.parameters, place(x))

        def continuous(point, drawn):
            level, slope = jax.value_and_grad(control)(mean, lambda x: law.reparameterize(x, drawn))
            return level, slope

        def bits(point, drawn, redrawn):
            slope = jax.grad(control)(mean, lambda x: law.reparameterize(x, drawn))
            redraw: Callable = getattr(law, "conditional")  # noqa: B009
            level, again = jax.value_and_grad(control)(mean, lambda x: redraw(point, x, redrawn))
            return level, slope - again

        if hasattr(law, "discretize"):
            levels, slopes = jax.vmap(bits)(points, noise, law.sample(again_key, shape, mean.dtype))
        else:
            levels, slopes = jax.vmap(continuous)(points, noise)
        scores = jax.vmap(lambda point: score(law, point, mean))(points)
        terms = (values - levels)[:, None] * scores + slopes
        return Draws(values, terms, evaluations=self.samples)


def fit_surrogate(
    loss: Callable,
    method: Relax,
    x: Tree,
    *,
    key: jax.Array,
    steps: int = 300,
    learning_rate: float = 0.05,
    parameters: Tree = None,
) -> Relax:
    """The method with a surrogate fitted at x: Adam on the mean of ‖ĝ_i‖², unbiased for Var ĝ.

    E ĝ does not depend on the surrogate, so lowering E‖ĝ‖² lowers the variance and nothing else.

    Args:
        loss: tree → scalar.
        method: where to start; its samples are drawn anew each step.
        x: tree of floats.
        key: used once.
        steps: Adam steps.
        learning_rate: of Adam at the start; it decays to 0 along a cosine.
        parameters: start of the surrogate; default the method's, or zeros of the quadratic one.

    Source: Grathwohl et al. 2018, §3.1.
    """
    method.check()
    flat = flatten("x", x)[0]
    start = parameters if parameters is not None else method.parameters
    if start is None:
        if method.surrogate is not quadratic_surrogate:
            raise ValueError("parameters: expected a start for the surrogate, got None")
        shapes = [(), (flat.size,), (flat.size, flat.size)]
        start = tuple(jnp.zeros(shape, flat.dtype) for shape in shapes)

    def spread(trial, step_key):
        problem = Problem(loss, x, has_aux=False, keys=(step_key, None, None), stochastic=False)
        return jnp.mean(jnp.sum(method.replace(parameters=trial).draw(problem).terms ** 2, axis=1))  # type: ignore[attr-defined]

    rate = optax.cosine_decay_schedule(learning_rate, steps)
    fitted = adam(spread, start, jax.random.split(key, steps), rate)
    return method.replace(parameters=fitted)  # type: ignore[attr-defined]
