"""Differences along every coordinate: central, Richardson-extrapolated, and the complex step."""

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from diffsim import _check
from diffsim.gradients import steps
from diffsim.gradients.base import Draws, Method, check_count


def _slopes(problem, sizes: jax.Array, chunk) -> jax.Array:
    """Central differences (d,) for steps (d,), or (k, d) for (k, d)."""
    moves = sizes[..., None] * jnp.eye(problem.x.size, dtype=problem.x.dtype)
    points = problem.x + jnp.stack([moves, -moves])  # (2, ..., d, d)
    values = problem.evaluate(points[None], chunk)[0]
    return (values[0] - values[1]) / (2 * sizes)


@struct.dataclass
class Differences(Method):
    """What is taken along every coordinate.

    Attributes:
        step: h, times max(1, |x_i|) where it is a difference; None for the method's own.
        chunk: evaluations at once, None for all.
    """

    step: ArrayLike | None = None
    chunk: int | None = struct.field(pytree_node=False, default=None)
    objective = "f"
    bias = steps.TRUNCATED
    stochastic = False

    def check(self) -> None:
        if self.step is not None:
            _check.in_range("step", self.step, 0.0, open_low=True)
        if self.chunk is not None:
            check_count("chunk", self.chunk)


@struct.dataclass
class CentralDifference(Differences):
    """ĝ_i = [f(x + h_i e_i) − f(x − h_i e_i)] / 2h_i, h_i = step · max(1, |x_i|).

    Error h²f‴/6 + η|f|/h. 2d evaluations. The step is by default 4e-6 (float64) or 4e-3
    (float32); see ``steps.measured_step`` for a noisy loss.
    """

    def draw(self, problem) -> Draws:
        step = self.step
        if step is None:
            step = steps.default_step(steps.CENTRAL, problem.x.dtype)
        slopes = _slopes(problem, steps.scaled(step, problem.x), self.chunk)
        return Draws(problem.here(), slopes[None], evaluations=2 * problem.x.size)


@struct.dataclass
class Richardson(Differences):
    """ĝ = (4 D(h/2) − D(h))/3, D the central difference: error O(h⁴). 4d evaluations.

    ``Draws.info["truncation"]`` is max |D(h/2) − D(h)|/3, the size of the correction made. The
    step is by default 1e-3 (float64) or 6e-2 (float32).

    Source: Richardson 1911; Press et al., Numerical Recipes, §5.7.
    """

    def draw(self, problem) -> Draws:
        step = self.step
        if step is None:
            step = steps.default_step(steps.RICHARDSON, problem.x.dtype, 1 / 5)
        size = steps.scaled(step, problem.x)
        coarse, fine = _slopes(problem, jnp.stack([size, 0.5 * size]), self.chunk)
        correction = (fine - coarse) / 3
        info = {"truncation": jnp.max(jnp.abs(correction))}
        return Draws(
            problem.here(), (fine + correction)[None], info, evaluations=4 * problem.x.size
        )


@struct.dataclass
class ComplexStep(Differences):
    """ĝ_i = Im f(x + i h e_i)/h, exact to rounding: nothing is subtracted. d evaluations.

    The loss must be analytic in x and keep complex numbers complex: no abs, no max, no
    comparisons, no conjugates (``x @ x``, not ``norm(x)``).

    Source: Squire & Trapp 1998; Martins, Sturdza & Alonso 2003.
    """

    step: ArrayLike = 1e-20
    bias = ""

    def draw(self, problem) -> Draws:
        x = problem.x
        size = jnp.asarray(self.step).astype(x.dtype)
        points = jax.lax.complex(
            jnp.broadcast_to(x, (x.size, x.size)), size * jnp.eye(x.size, dtype=x.dtype)
        )
        with jax.numpy_dtype_promotion("standard"):  # the loss mixes its real data with x
            try:
                values = problem.evaluate(points[None], self.chunk)[0]
            except TypeError as error:
                raise TypeError(
                    f"loss: ComplexStep gives it complex numbers, which it refuses ({error}); "
                    "Pathwise and Richardson stay with real ones"
                ) from error
        if not jnp.iscomplexobj(values):
            raise TypeError(f"loss: expected complex for complex x (analytic), got {values.dtype}")
        return Draws(problem.here(), (values.imag / size)[None], evaluations=x.size)
