"""The rule table, and the choice of a rule from the samples' places and the measure."""

from typing import Any

from diffsim import _check
from diffsim.quadrature.base import MEASURES, SPHERE, Band, PointRule, Rule
from diffsim.quadrature.clenshaw_curtis import ClenshawCurtis
from diffsim.quadrature.fejer1 import Fejer1
from diffsim.quadrature.fejer2 import Fejer2
from diffsim.quadrature.gauss_colatitude import GaussColatitude
from diffsim.quadrature.gauss_legendre import GaussLegendre
from diffsim.quadrature.gregory import Gregory
from diffsim.quadrature.lebedev import Lebedev
from diffsim.quadrature.sine_series import SineSeries
from diffsim.quadrature.thinned import Thinned

# The order is the order of preference: of the rules that share their nodes, the first that knows
# the measure and the extent is chosen.
_RULES: tuple[type[Rule] | type[PointRule], ...] = (
    ClenshawCurtis,
    SineSeries,
    Gregory,
    Fejer1,
    Fejer2,
    GaussLegendre,
    GaussColatitude,
    Lebedev,
    Thinned,
)
RULES = {rule.name: rule for rule in _RULES}


def find(name: str) -> type[Rule] | type[PointRule]:
    """The rule of that name.

    Raises:
        ValueError: there is none.
    """
    return _check.named("rule", name, RULES)


def make(name: str, n: int, **settings: Any) -> Rule | PointRule:
    """The rule of that name and size.

    Args:
        n: rings, or the size of a rule of scattered points.
        settings: ``measure`` and ``extent``, see :class:`~diffsim.quadrature.base.Rule`.

    Raises:
        ValueError: no such rule, size, measure or extent.

    >>> make("gauss-legendre", 5).degree
    9
    """
    return find(name).create(n, **settings)


def choose(
    placed: str, measure: str, extent: Band = SPHERE, asked: str | None = None
) -> type[Rule] | type[PointRule]:
    """The rule for samples placed by the rule ``placed``, of this measure and extent.

    Raises:
        ValueError: no rule fits, or the one asked for does not.

    >>> choose("clenshaw-curtis", "included").name
    'sine-series'
    >>> choose("clenshaw-curtis", "flat", (0.5, 1.5)).name
    'gregory'
    """
    if measure not in MEASURES:
        raise ValueError(f"measure: expected one of {', '.join(MEASURES)}, got {measure!r}")
    source = find(placed)
    for rule in [source, *RULES.values()] if asked is None else [find(asked)]:
        if issubclass(rule, PointRule) or issubclass(source, PointRule):
            fits = rule is source
        else:
            fits = rule.nodes is source.nodes and (rule.partial or extent == SPHERE)
        if fits and measure in rule.measures:
            return rule
    raise ValueError(
        f"rule: expected one for samples placed as {placed} over θ in "
        f"[{extent[0]:.6g}, {extent[1]:.6g}] with measure {measure}, got {asked or 'none'}"
    )
