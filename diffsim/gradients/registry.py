"""The table of estimators by name: one line each, and the contract tests are inherited."""

from typing import Any

from diffsim import _check
from diffsim.gradients.alpha_order import AlphaOrder
from diffsim.gradients.base import Method
from diffsim.gradients.baselines import AtPoint
from diffsim.gradients.differences import CentralDifference, ComplexStep, Richardson
from diffsim.gradients.directions import Haar, Hadamard, QuasiRandom, Sphere
from diffsim.gradients.evolution import EvolutionStrategies, centered_ranks
from diffsim.gradients.inverse_variance import InverseVariance
from diffsim.gradients.laws import Gaussian
from diffsim.gradients.measure_valued import MeasureValued
from diffsim.gradients.pathwise import Pathwise
from diffsim.gradients.persistent import PersistentES
from diffsim.gradients.random_directions import SPSA, ForwardGradient, RandomDirections
from diffsim.gradients.relax import Relax
from diffsim.gradients.score_function import ScoreFunction
from diffsim.gradients.total_propagation import TotalPropagation

METHODS: dict[str, Method] = {
    "pathwise": Pathwise(),
    "pathwise-forward": Pathwise(mode="forward"),
    "pathwise-smoothed": Pathwise(Gaussian(), samples=32, antithetic=True),
    "score-function": ScoreFunction(),
    "score-function-antithetic": ScoreFunction(samples=32, antithetic=True),
    "evolution-strategies": EvolutionStrategies(),
    "evolution-strategies-ranked": EvolutionStrategies(shaping=centered_ranks),
    "spsa": SPSA(),
    "forward-gradient": ForwardGradient(),
    "central-difference": CentralDifference(),
    "richardson": Richardson(),
    "complex-step": ComplexStep(),
    "random-directions": RandomDirections(),
    "sphere": RandomDirections(Sphere()),
    "haar": RandomDirections(Haar(), samples=2),
    "hadamard": RandomDirections(Hadamard(), samples=2),
    "quasi-random": RandomDirections(QuasiRandom(), samples=2),
    "measure-valued": MeasureValued(),
    "relax": Relax(),
    "smoothing-first-order": Pathwise(Gaussian(), samples=64),
    "smoothing-zeroth-order": ScoreFunction(baseline=AtPoint()),
    "alpha-order": AlphaOrder(),
    "inverse-variance": InverseVariance(),
    "total-propagation": TotalPropagation(),
    "persistent-es": PersistentES(),
    "noise-reuse-es": PersistentES(reuse=True),
}


def make(name: str, **settings: Any) -> Method:
    """The named method, with some of its settings changed.

    Raises:
        ValueError: no such name, or no such setting.

    >>> make("spsa", samples=4).samples
    4
    >>> make("newton")
    Traceback (most recent call last):
    ...
    ValueError: method: expected one of pathwise, pathwise-forward, ..., got 'newton'
    """
    record: Any = _check.named("method", name, METHODS)
    fields = list(type(record).__dataclass_fields__)
    for setting in settings:
        if setting not in fields:
            raise ValueError(f"{setting}: expected one of {fields} for {name}, got {setting!r}")
    changed = record.replace(**settings)
    changed.check()
    return changed
