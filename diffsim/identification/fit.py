"""Fit the world's constants to observed flights by least squares, with standard errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diffsim._text import short
from diffsim.identification.observations import Observations
from diffsim.identification.parameters import BOUNDS, get, parameter_names, put
from diffsim.identification.residuals import FlightResiduals, least_squares
from diffsim.identification.start import FAR, first_look
from diffsim.physics.state import BallState
from diffsim.physics.world import World

_ROUNDS = 6  # how often an unknown noise is corrected


@dataclass(frozen=True)
class Identified:
    """What was found.

    Attributes:
        names: of the parameters, (p,).
        values: (p,).
        errors: standard errors, (p,); inf where the observations say nothing of the parameter.
        covariance: (p, p), of the parameters that the observations determine; NaN elsewhere.
        world: the world with the values in.
        starts: the ball at the first time of each flight, leaves (n, 3).
        residuals: predicted less observed positions, (n, k, 3), m; NaN where not observed.
        noise: standard deviation of a position's coordinate, m: as given, or, with nothing but the
            fit to judge by, what it leaves.
        scatter: of the samples, m, which no world has a say in
            (:func:`diffsim.identification.arcs.scatter`); NaN if not told.
        reference: the noise that the fit is judged by, m: as given, or the scatter.
        chi_square: sum of the squared residuals over the reference's square, per degree of
            freedom: near 1 if world and flights agree; NaN without a reference.
        contradicted: of each flight, what the world has that it did not meet, or lacks that it
            met; "" for none. Such flights are not fitted.
        adrift: flights that are not explained between contacts either, whatever their start,
            (n,) bool: their units, their axes, or the world's air, gravity or ball.
        guess: the values that the given world had, (p,).
        converged: whether the fit ended at a minimum.
        message: how it ended.
        flights: names of the flights, (n,).
    """

    names: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray
    covariance: np.ndarray
    world: World
    starts: BallState
    residuals: np.ndarray
    noise: float
    scatter: float
    reference: float
    chi_square: float
    contradicted: tuple[str, ...]
    adrift: np.ndarray
    guess: np.ndarray
    converged: bool
    message: str
    flights: tuple[str, ...]

    @property
    def sizes(self) -> np.ndarray:
        """Root mean square of each flight's residuals, (n,), m."""
        return np.sqrt(np.nanmean(self.residuals**2, axis=(1, 2)))

    def unexplained(self, times: float = FAR) -> tuple[str, ...]:
        """The flights that the world contradicts, or leaves with above ``times`` the reference."""
        reference = self.reference if np.isfinite(self.reference) else np.median(self.sizes)
        far = self.sizes > times * reference
        rows = zip(self.flights, far, self.contradicted)
        return tuple(name for name, beyond, reason in rows if beyond or reason)


def identify(
    observations: Observations,
    world: World,
    names: Sequence[str] = ("drag", "magnus", "table.restitution", "table.friction"),
    *,
    noise: float | None = None,
    spin_noise: float = 5.0,
    spin_scale: float = 150.0,
    step: float = 0.02,
    robust: bool = False,
    progress: Callable[[int, float], None] = lambda evaluation, cost: None,
) -> Identified:
    """Fit parameters of ``world``, and the start of every flight, to what was observed.

    θ, s₁…s_n = argmin Σ_i ‖x(t; θ, s_i) − x_obs‖²/σ² + ‖w(t) − w_obs‖²/σ_w² + ‖w_i(0)‖²/σ₀²,

    by a trust-region method with exact Jacobians through flight and impacts. It begins with the
    arcs between the contacts, which need no surface (:func:`first_look`); a flight whose arcs the
    world contradicts is named and left out. The covariance of θ
    is the inverse of its information once every flight's own start has been fitted,
    (Σ_i A_iᵀ (I − B_i B_i⁺) A_i)⁻¹ with A_i, B_i the Jacobians in θ and s_i.

    Args:
        observations: flights, see :func:`diffsim.identification.read`.
        world: fixed surfaces only; holds what is not fitted and the first guess of what is.
        names: what to fit, of :func:`parameter_names`.
        noise: σ, standard deviation of a position's coordinate, m; None estimates it.
        spin_noise: σ_w, of a measured spin's component, rad/s.
        spin_scale: σ₀, how large a spin's component is before anything is observed, rad/s.
        step: of the simulation, s.
        robust: weigh outliers down (soft L1) instead of squaring them.
        progress: called with the number of evaluations so far and the cost.

    Raises:
        ValueError: a name that is not in the world, twice, or a noise, scale or step not positive;
            a world with driven surfaces, or that contradicts every flight; observations in other
            units than m and s, or whose scatter hides every flight.

    Without measured spins, spin and lift trade places: before a bounce only their product bends
    the flight. Measure the spin, or leave ``magnus`` out of ``names``, where lift matters.

    Source: G. H. Golub & V. Pereyra, SIAM J. Numer. Anal. 10 (1973) 413 (separated variables);
    M. A. Branch, T. F. Coleman & Y. Li, SIAM J. Sci. Comput. 21 (1999) 1 (trust region).
    """
    _check(world, names, noise=noise, spin_noise=spin_noise, spin_scale=spin_scale, step=step)
    everything = FlightResiduals.create(
        observations,
        world,
        lambda world, theta: put(world, names, list(theta)),
        len(names),
        spin_noise=spin_noise,
        spin_scale=spin_scale,
        step=step,
    )
    look = first_look(everything, names, noise)
    contradicted = np.array([reason != "" for reason in look.contradicted])
    if contradicted.all():
        reasons = zip(observations.names, look.contradicted)
        said = "; ".join(f"trajectory {name} {why}" for name, why in reasons)
        raise ValueError(
            f"world: expected one that a flight can be fitted in, but {short(said, 400)}"
        )
    problem = everything.of(~contradicted)
    sigma = look.sigma
    seen_spin = np.isfinite(problem.observations.spins).any()
    free = np.full(problem.size - len(names), np.inf)
    low, high = np.array([BOUNDS[name.rsplit(".", 1)[-1]] for name in names]).T
    bounds = (np.r_[low, -free], np.r_[high, free])
    # A measured spin is fitted by its own samples, the rest of a start by the positions.
    spent = len(names) + (6 if seen_spin else 9) * len(problem.observations.names)
    freedom = max(int(np.isfinite(problem.observations.positions).sum()) - spent, 1)
    evaluations = 0

    def evaluate(unknowns):
        nonlocal evaluations
        residuals, jacobian = problem.evaluate(unknowns, sigma)
        evaluations += 1
        progress(evaluations, 0.5 * float(residuals @ residuals))
        return residuals, jacobian

    def minimise(unknowns):
        return least_squares(
            evaluate,
            np.clip(unknowns, *bounds),
            bounds=bounds,
            loss="soft_l1" if robust else "linear",
            tr_solver="lsmr" if problem.large else "exact",
        )

    # Where friction holds or slips makes kinks, and kinks make minima: unseen spins are fitted
    # from several first guesses, each refined once from new starts, and the lowest is taken.
    factors = (1.0,) if seen_spin or "magnus" not in names else (1.0, 0.5, 1.5)
    fits = []
    for factor in factors:
        theta = np.where(np.array(names) == "magnus", factor, 1.0) * look.theta
        for _ in range(2):
            begin = problem.first_guess(
                theta, look.starts[~contradicted], look.until[~contradicted], sigma
            )
            fits.append(minimise(begin))
            theta = fits[-1].x[: len(names)]
    fit = min(fits, key=lambda fit: fit.cost)
    # An unknown noise is fitted with: priors and measured spins weigh against it.
    for _ in range(1 if noise is not None else _ROUNDS):
        misfit = problem.misfit(fit.x)
        before = sigma
        if noise is None:
            sigma = float(np.sqrt(np.nansum(misfit**2) / freedom))
        if abs(sigma - before) <= 0.01 * before:
            break
        fit = minimise(fit.x)
    covariance, errors = problem.covariance(problem.evaluate(fit.x, sigma)[1])
    p, dtype = len(names), jnp.result_type(float)
    starts = look.starts.copy()
    starts[~contradicted] = problem.split(fit.x)[1]
    x, v, w = np.split(starts, 3, axis=1)
    reference = look.scatter if noise is None else noise
    return Identified(
        names=tuple(names),
        values=fit.x[:p],
        errors=errors,
        covariance=covariance,
        world=put(world, names, jnp.asarray(fit.x[:p], dtype)),
        starts=BallState(*(jnp.asarray(part, dtype) for part in (x, v, w))),
        residuals=everything.misfit(np.r_[fit.x[:p], starts.ravel()]),
        noise=sigma,
        scatter=look.scatter,
        reference=reference,
        chi_square=float(np.nansum((misfit / reference) ** 2) / freedom),
        contradicted=look.contradicted,
        adrift=look.adrift,
        guess=np.array([float(get(world, name)) for name in names]),
        converged=fit.status > 0,
        message=fit.message,
        flights=observations.names,
    )


def _check(world: World, names: Sequence[str], **positive: float | None) -> None:
    allowed = parameter_names(world)
    for name in names:
        if name not in allowed or list(names).count(name) > 1:
            raise ValueError(f"names: expected each once of {', '.join(allowed)}, got {name!r}")
    if not names:
        raise ValueError("names: expected at least one parameter, got none")
    if world.driven_count:
        raise ValueError(f"world: expected fixed surfaces, got {world.driven_count} driven")
    for key, value in positive.items():
        if value is not None and not (0 < value < np.inf):
            raise ValueError(f"{key}: expected a positive number, got {value}")
