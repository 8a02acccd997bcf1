"""What was identified, as a table and as a picture of the residuals."""

import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from diffsim._files import FIGURES, checked, new_figure, save_figure
from diffsim._intervals import Interval
from diffsim.identification.fit import Identified
from diffsim.identification.observations import Observations
from diffsim.identification.verdict import explains, fit_warnings, flight_fits


def parameter_table(found: Identified) -> str:
    """The parameters with standard errors and 95 % intervals, and how well they explain.

    Then a line for each flight that is not explained, and the warnings.
    """
    width = max(map(len, found.names))
    lines = [f"{'':{width}}  {'value':>9}   {'± s.e.':>8}   95 % interval"]
    for name, value, error in zip(found.names, found.values, found.errors):
        if math.isinf(error):
            lines.append(f"{name:{width}}  {value:9.5f}   not determined by these observations")
            continue
        _, low, high = Interval.normal(value, error)
        lines.append(f"{name:{width}}  {value:9.5f}   {error:8.5f}   [{low:.5f}, {high:.5f}]")
    fits = flight_fits(found)
    count = int(np.isfinite(found.residuals).sum())
    fitted = sum(not fit.reason for fit in fits)
    lines.append(
        f"residuals {1e3 * found.noise:.2f} mm, {_judge(found)} {1e3 * found.reference:.2f} mm: "
        f"chi-square {found.chi_square:.2f} per degree of freedom, {fitted} of {len(fits)} "
        f"flights, {count} coordinates"
    )
    lines += [
        f"flight {fit.name}: residuals {1e3 * fit.rms:.1f} mm, neighbours correlated "
        f"{fit.correlation:.2f}, {fit.status}"
        for fit in fits
        if fit.status != "explained"
    ]
    return "\n".join([*lines, *(f"warning: {line}" for line in fit_warnings(found))])


def _judge(found: Identified) -> str:
    return "noise given" if found.noise == found.reference else "samples scatter by"


def as_json(found: Identified) -> dict[str, Any]:
    """The same for JSON; None for what is not determined or not told."""
    return {
        "parameters": {
            name: {"value": float(value), "error": _number(error), "first_value": float(guess)}
            for name, value, error, guess in zip(
                found.names, found.values, found.errors, found.guess
            )
        },
        "explains": explains(found),
        "warnings": fit_warnings(found),
        "noise": found.noise,
        "scatter": _number(found.scatter),
        "reference_noise": _number(found.reference),
        "reference_is": _judge(found),
        "chi_square": _number(found.chi_square),
        "converged": found.converged,
        "flights": [
            asdict(fit) | {"chi_square": _number(fit.chi_square)} for fit in flight_fits(found)
        ],
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def plot(found: Identified, observations: Observations, path: str | os.PathLike) -> Path:
    """Draw the observed flights from the side with the fitted ones, and the residuals over time.

    Raises:
        ValueError: a suffix other than .png, .pdf or .svg.
    """
    file = checked(path, FIGURES)
    figure = new_figure(8.0, 3.0, dpi=160)
    side, over = figure.subplots(1, 2)
    fitted = observations.positions + found.residuals
    for seen, line in zip(observations.positions, fitted):
        whole = np.isfinite(line).all(axis=1)
        (drawn,) = side.plot(line[whole, 0], line[whole, 2], linewidth=1.0)
        side.plot(seen[:, 0], seen[:, 2], ".", markersize=2.5, color=drawn.get_color())
    side.set(xlabel="x (m)", ylabel="z (m)", title="observed (dots) and fitted (lines)")
    times = np.repeat(observations.times[..., None], 3, axis=-1)
    for axis, name in enumerate("xyz"):
        over.plot(
            times[..., axis].ravel(),
            1e3 * found.residuals[..., axis].ravel(),
            ".",
            markersize=2.5,
            label=name,
        )
    over.axhspan(-2e3 * found.noise, 2e3 * found.noise, color="0.9", zorder=0)
    over.set(xlabel="t (s)", ylabel="fitted − observed (mm)", title="residuals, band ± 2σ")
    over.legend(frameon=False, fontsize=8)
    return save_figure(figure, file)
