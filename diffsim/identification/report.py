"""What was identified, as a table and as a picture of the residuals."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from diffsim._files import checked, save_figure
from diffsim.identification.fit import Identified
from diffsim.identification.observations import Observations

_UNEXPLAINED = 4.0  # times the noise


def table(found: Identified) -> str:
    """The parameters with standard errors and 95 % intervals, and how well they explain.

    A flight whose residuals are above four times the noise is named: it met something that the
    world does not hold, or lies at an edge.
    """
    width = max(map(len, found.names))
    lines = [f"{'':{width}}  {'value':>9}   {'± s.e.':>8}   95 % interval"]
    for name, value, error in zip(found.names, found.values, found.errors):
        if math.isinf(error):
            lines.append(f"{name:{width}}  {value:9.5f}   not determined by these observations")
            continue
        low, high = value - 1.96 * error, value + 1.96 * error
        lines.append(f"{name:{width}}  {value:9.5f}   {error:8.5f}   [{low:.5f}, {high:.5f}]")
    count = int(np.isfinite(found.residuals).sum())
    lines.append(
        f"noise {1e3 * found.noise:.2f} mm, chi-square {found.chi_square:.2f} per degree of "
        f"freedom, {len(found.residuals)} flights, {count} coordinates"
    )
    if not found.converged:
        lines.append(f"warning: the fit did not converge: {found.message}")
    if unexplained := found.unexplained(_UNEXPLAINED):
        names = ", ".join(unexplained)
        lines.append(
            f"warning: residuals above {_UNEXPLAINED:g} times the typical ones in flights {names}"
        )
    return "\n".join(lines)


def as_json(found: Identified) -> dict[str, Any]:
    """The same for JSON; what is not determined has no error."""
    return {
        "parameters": {
            name: {"value": float(value), "error": float(error) if math.isfinite(error) else None}
            for name, value, error in zip(found.names, found.values, found.errors)
        },
        "noise": found.noise,
        "chi_square": found.chi_square,
        "converged": found.converged,
    }


def plot(found: Identified, observations: Observations, path: str | os.PathLike) -> Path:
    """Draw the observed flights from the side with the fitted ones, and the residuals over time.

    Raises:
        ValueError: a suffix other than .png, .pdf or .svg.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = checked(path, (".png", ".pdf", ".svg"))
    figure = Figure((8.0, 3.0), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    side, over = figure.subplots(1, 2)
    fitted = observations.positions + found.residuals
    for seen, line in zip(observations.positions, fitted):
        whole = np.isfinite(line).all(axis=1)
        (drawn,) = side.plot(line[whole, 0], line[whole, 2], linewidth=1.0)
        side.plot(seen[:, 0], seen[:, 2], ".", markersize=2.5, color=drawn.get_color())
    side.set(xlabel="x (m)", ylabel="z (m)", title="observed (dots) and fitted (lines)")
    times = np.repeat(observations.times[..., None], 3, axis=-1)
    for axis, name in enumerate("xyz"):
        over.plot(times[..., axis].ravel(), 1e3 * found.residuals[..., axis].ravel(), ".",
                  markersize=2.5, label=name)  # fmt: skip
    over.axhspan(-2e3 * found.noise, 2e3 * found.noise, color="0.9", zorder=0)
    over.set(xlabel="t (s)", ylabel="fitted − observed (mm)", title="residuals, band ± 2σ")
    over.legend(frameon=False, fontsize=8)
    return save_figure(figure, file)
