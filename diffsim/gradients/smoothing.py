"""Randomised smoothing: the gradient of E f(x + σε), from derivatives or from values."""

from typing import Any

import jax.numpy as jnp
from flax import struct

from diffsim.gradients.base import Draws, Method, check_chunk, check_count
from diffsim.gradients.baselines import Constant
from diffsim.gradients.laws import Gaussian, check_law
from diffsim.gradients.pathwise import BLIND, Pathwise
from diffsim.gradients.score_function import ScoreFunction


@struct.dataclass
class RandomizedSmoothing(Method):
    """First order: (1/n) Σ ∇f(x + σε_i). Zeroth: (1/n) Σ [f(x + σε_i) − f(x)] s_i.

    The baseline of the zeroth order is f(x) itself, which no sample enters: unbiased, for one
    more evaluation. First order is smaller in variance and blind to jumps.

    Attributes:
        order: 1 or 0.
        law: the noise.
        samples: draws.
        chunk: evaluations at once, None for all.

    Source: Suh et al. 2022, "Do differentiable simulators give better policy gradients?".
    """

    order: int = struct.field(pytree_node=False, default=1)
    law: Any = Gaussian()
    samples: int = struct.field(pytree_node=False, default=64)
    chunk: int | None = struct.field(pytree_node=False, default=None)

    @property
    def bias(self) -> str:  # type: ignore[override]
        return BLIND if self.order == 1 else ""

    def check(self) -> None:
        check_law(self.law)
        check_count("samples", self.samples)
        check_chunk(self.chunk)
        if self.order not in (0, 1):
            raise ValueError(f"order: expected 0 or 1, got {self.order!r}")

    def draw(self, problem) -> Draws:
        if self.order == 1:
            return Pathwise(self.law, self.samples, chunk=self.chunk).draw(problem)
        level = Constant(jnp.mean(problem.here()))
        zeroth = ScoreFunction(self.law, self.samples, level, chunk=self.chunk)
        return zeroth.draw(problem).replace(evaluations=self.samples + 1)  # type: ignore[attr-defined]
