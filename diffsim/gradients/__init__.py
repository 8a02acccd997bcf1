"""Gradient estimators: one interface, many ways to get dL/dx out of a simulator.

A network in front of a simulator needs dL/dX = dL/dP · dP/dX. The second factor is exact
backpropagation; the first is what an estimator here supplies. ``surrogate(loss, method)`` is a
function with the objective's value and the estimate as its derivative, so ``jax.grad`` of the
whole is the network's gradient; ``estimate(loss, method)`` returns the same with its variance,
standard errors and cost. A method is a frozen record; ``METHODS`` lists them by name,
``make(name, **settings)`` fetches one, ``recommend`` measures a loss and picks one,
``compare`` sets several side by side, ``check_gradient`` tests a hand-written derivative.

Which method when (d = size of x, G = ‖gradient‖², σ the smoothing length):

=============================  ==================================================================
the loss                       use
=============================  ==================================================================
smooth, JAX differentiates it  ``Pathwise()``; ``mode="forward"`` for few inputs or while-loops
the same, wanted over noise    ``Pathwise(law, antithetic=True)``: first-order smoothing
analytic, d small, no AD       ``ComplexStep()``: exact to rounding
smooth black box, d small      ``Richardson()``; ``CentralDifference()`` at half the cost
smooth black box, d large      ``RandomDirections(Haar(k))`` or ``Hadamard(k)``: (d/k − 1)G;
                               ``SPSA()``: two evaluations, (d − 1)G
no memory for a tape           ``ForwardGradient()``: (d − 1)G, no step size
jumps (a miss, a table edge)   ``EvolutionStrategies``, ``ScoreFunction``: unbiased for the
                               smoothed loss; ``MeasureValued`` where d is small (least variance)
jumps here, smooth there       ``AlphaOrder``: pathwise as far as the score function confirms it
stiff (contact springs)        ``InverseVariance``: never much worse than the better of the two
chaotic                        ``EvolutionStrategies``; ``TotalPropagation`` for an ``UnrolledLoss``
long unrolls, truncated        ``PersistentES``; ``reuse=True`` if costs are alike over time
heavy-tailed or outliers       ``EvolutionStrategies(shaping=centered_ranks)``: direction only
noise in the loss              any method in pairs (they share the loss's key), or
                               ``CentralDifference(step=measured_step(...))``
discrete actions               ``Relax(Bernoulli())``, ``ScoreFunction(Bernoulli())``
a search law to be learned     with ``x = Distribution(mean, scale)``: ``EvolutionStrategies``
                               (PGPE), ``ScoreFunction``, ``MeasureValued``, ``Pathwise(law)``
a closed loop, step by step    ``policy_gradient_objective(log_probs, rewards)``
not JAX at all (C, NumPy)      ``BlackBox(simulator, method=SPSA())``, any method of values alone
=============================  ==================================================================

Two things that go wrong most often: derivatives of a loss that jumps have no variance and the
wrong mean, so a low variance proves nothing; and a baseline or weight computed from the very
sample it multiplies is biased (here they are left-one-out or cross-fitted).

``scripts/compare_gradients.py`` compares estimators on a ball kept up by a paddle, and runs
published comparisons again beside their figures.

For many rows, vmap the surrogate with one key a row: all perturbations of all rows are then
evaluated in one batch. ``chunk`` bounds how many evaluations of a row are in memory at once.

>>> import jax, jax.numpy as jnp
>>> hit = lambda p: jnp.where(jnp.sum(p) > 0, 0.0, 1.0)  # a loss with no derivative
>>> f = surrogate(hit, EvolutionStrategies(sigma=1.0, samples=256))
>>> bool(jax.grad(f)(jnp.zeros(2), key=jax.random.key(0))[0] < 0)
True
"""

from diffsim.gradients import (
    backprop,
    concentration,
    directions,
    laws,
    registry,
    rewards,
    slips,
    steps,
)
from diffsim.gradients.alpha_order import AlphaOrder
from diffsim.gradients.base import Draws, Estimate, Method, estimate, surrogate
from diffsim.gradients.baselines import AtPoint, BestConstant, Constant, LeaveOneOut, NoBaseline
from diffsim.gradients.blackbox import BlackBox, Penalty
from diffsim.gradients.check import CheckReport, check_gradient
from diffsim.gradients.compare import Comparison, compare
from diffsim.gradients.differences import CentralDifference, ComplexStep, Richardson
from diffsim.gradients.directions import (
    GaussianDirections,
    Haar,
    Hadamard,
    QuasiRandom,
    Rademacher,
    Sphere,
)
from diffsim.gradients.evolution import EvolutionStrategies, centered_ranks
from diffsim.gradients.inverse_variance import InverseVariance
from diffsim.gradients.laws import Bernoulli, Distribution, Gaussian, Law, Logistic
from diffsim.gradients.measure_valued import MeasureValued
from diffsim.gradients.pathwise import Pathwise
from diffsim.gradients.persistent import Particles, PersistentES
from diffsim.gradients.random_directions import SPSA, ForwardGradient, RandomDirections
from diffsim.gradients.recommend import Recommendation, recommend
from diffsim.gradients.registry import METHODS, make
from diffsim.gradients.relax import Relax, fit_surrogate
from diffsim.gradients.rewards import policy_gradient_objective, reward_to_go
from diffsim.gradients.score_function import ScoreFunction
from diffsim.gradients.steps import measured_step
from diffsim.gradients.total_propagation import TotalPropagation
from diffsim.gradients.unrolled import UnrolledLoss

__all__ = [
    "METHODS",
    "SPSA",
    "AlphaOrder",
    "AtPoint",
    "Bernoulli",
    "BestConstant",
    "BlackBox",
    "CentralDifference",
    "CheckReport",
    "Comparison",
    "ComplexStep",
    "Constant",
    "Distribution",
    "Draws",
    "Estimate",
    "EvolutionStrategies",
    "ForwardGradient",
    "Gaussian",
    "GaussianDirections",
    "Haar",
    "Hadamard",
    "InverseVariance",
    "Law",
    "LeaveOneOut",
    "Logistic",
    "MeasureValued",
    "Method",
    "NoBaseline",
    "Particles",
    "Pathwise",
    "Penalty",
    "PersistentES",
    "QuasiRandom",
    "Rademacher",
    "RandomDirections",
    "Recommendation",
    "Relax",
    "Richardson",
    "ScoreFunction",
    "Sphere",
    "TotalPropagation",
    "UnrolledLoss",
    "backprop",
    "centered_ranks",
    "check_gradient",
    "compare",
    "concentration",
    "directions",
    "estimate",
    "fit_surrogate",
    "laws",
    "make",
    "measured_step",
    "policy_gradient_objective",
    "recommend",
    "registry",
    "reward_to_go",
    "rewards",
    "slips",
    "steps",
    "surrogate",
]
