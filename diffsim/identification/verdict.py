"""Whether a fit explains what was observed: flight by flight, and in words."""

import math
from dataclasses import dataclass

import numpy as np

from diffsim._text import short
from diffsim.identification.fit import Identified
from diffsim.identification.parameters import BOUNDS

_CHI_SQUARE = 2.0  # of the whole fit: twice the variance that the noise allows
_ALIKE, _SURE = 0.3, 4.0  # correlation of neighbours, and how many standard errors from none
_LOUD = 3.0  # times the scatter: a noise given that hides misfits
_STILL = 1e-6  # relative; a smaller move is none


@dataclass(frozen=True)
class FlightFit:
    """One flight and what the fit leaves of it.

    Attributes:
        name: of the flight.
        rms: root mean square of the residuals' coordinates, m.
        chi_square: rms² over the reference noise's square; NaN without a reference.
        correlation: of each residual with the next in time: 0 ± 1/√(3k) if they are noise, towards
            1 where what is left has a shape.
        status: "explained", "patterned" (small, but with a shape), "unexplained" or "contradicted".
        reason: what speaks against the world, else "".
    """

    name: str
    rms: float
    chi_square: float
    correlation: float
    status: str
    reason: str


def flight_fits(found: Identified) -> list[FlightFit]:
    """Every flight's."""
    far, fits = found.unexplained(), []
    for name, left, rms, reason in zip(
        found.flights, found.residuals, found.sizes, found.contradicted
    ):
        seen = left[np.isfinite(left).all(axis=1)]
        alike = float(np.sum(seen[1:] * seen[:-1]) / max(np.sum(seen**2), 1e-300))
        shaped = alike > max(_ALIKE, _SURE / math.sqrt(max(seen[1:].size, 1)))
        plain = "patterned" if shaped else "explained"
        status = "contradicted" if reason else "unexplained" if name in far else plain
        fits.append(
            FlightFit(name, float(rms), float(rms / found.reference) ** 2, alike, status, reason)
        )
    return fits


def fit_warnings(found: Identified) -> list[str]:
    """What must be known before a value is used, a line each; none for a fit that explains all."""
    fits, lines = flight_fits(found), []
    named = {
        status: [fit.name for fit in fits if fit.status == status]
        for status in ("contradicted", "unexplained", "patterned")
    }
    if wrong := [*named["contradicted"], *named["unexplained"]]:
        lines.append(
            f"the world does not explain {len(wrong)} of {len(fits)} flights: {_list(wrong)}"
        )
    elif found.chi_square > _CHI_SQUARE:
        lines.append(
            f"the fit does not explain the data: it leaves {1e3 * found.noise:.2f} mm where the "
            f"noise is {1e3 * found.reference:.2f} mm"
        )
    lines += [f"flight {fit.name} {fit.reason}; it is left out" for fit in fits if fit.reason]
    if found.adrift.any() and not explains(found):
        lines.append(
            f"{found.adrift.sum()} of {len(fits)} flights are not explained between contacts "
            "either: check their units and axes, and the world's air, gravity and ball"
        )
    if named["patterned"]:
        lines.append(
            f"residuals follow a pattern, so that the standard errors are too small, in flights "
            f"{_list(named['patterned'])}"
        )
    if found.reference > _LOUD * found.scatter:
        lines.append(
            f"the noise given is {1e3 * found.reference:.2f} mm, but the samples scatter by "
            f"{1e3 * found.scatter:.2f} mm: what the world does not explain passes for noise"
        )
    if not math.isfinite(found.reference):
        lines.append("the samples do not tell their noise: state it, or nothing judges the fit")
    if not found.converged:
        lines.append(f"the fit did not converge: {found.message}")
    for name, value, error, guess in zip(found.names, found.values, found.errors, found.guess):
        if math.isinf(error):
            lines.append(f"{name} is not determined by these observations")
            continue
        if abs(value - guess) <= _STILL * abs(guess):
            lines.append(f"{name} did not move from its first value, {guess:g}")
        for bound in BOUNDS[name.rpartition(".")[2]]:
            if np.isclose(value, bound, rtol=_STILL, atol=max(_STILL, 0.01 * error)):
                lines.append(f"{name} ended where its range does, at {bound:g}")
        if name.endswith("restitution") and value > 1:
            lines.append(f"{name} is above 1, {value:.3f}: a bounce that gains energy")
    return lines


def explains(found: Identified) -> bool:
    """Whether every flight is explained, to the reference noise, by a fit that converged."""
    good = all(fit.status in ("explained", "patterned") for fit in flight_fits(found))
    return bool(good and found.converged and found.chi_square <= _CHI_SQUARE)


def _list(names: list[str]) -> str:
    return short(", ".join(names), 200)
