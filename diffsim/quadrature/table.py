"""The rule table, and the choice of a rule from the samples' places and the measure."""

from types import ModuleType

from diffsim.quadrature import (
    clenshaw_curtis,
    fejer1,
    fejer2,
    gauss_colatitude,
    gauss_legendre,
    gregory,
    lebedev,
    sine_series,
    thinned,
)
from diffsim.quadrature.base import MEASURES, SPHERE, Band, PointRule, Rule

# The order is the order of preference: of the rules that share their nodes, the first that knows
# the measure and the extent is chosen.
_MODULES: tuple[ModuleType, ...] = (
    clenshaw_curtis,
    sine_series,
    gregory,
    fejer1,
    fejer2,
    gauss_legendre,
    gauss_colatitude,
    lebedev,
    thinned,
)
RULES: dict[str, Rule | PointRule] = {module.RULE.name: module.RULE for module in _MODULES}


def find(name: str) -> Rule | PointRule:
    """The rule of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {name!r}")
    return RULES[name]


def choose(
    placed: str, measure: str, extent: Band = SPHERE, asked: str | None = None
) -> Rule | PointRule:
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
    if isinstance(source, PointRule) or (asked is not None and isinstance(find(asked), PointRule)):
        fitting = [source] if asked in (None, placed) and measure in source.measures else []
    else:
        fitting = [
            rule
            for rule in ([source, *RULES.values()] if asked is None else [find(asked)])
            if isinstance(rule, Rule)
            and rule.nodes is source.nodes
            and measure in rule.measures
            and (rule.partial or extent == SPHERE)
        ]
    if not fitting:
        raise ValueError(
            f"rule: expected one for samples placed as {placed} over θ in "
            f"[{extent[0]:.6g}, {extent[1]:.6g}] with measure {measure}, got {asked or 'none'}"
        )
    return fitting[0]
