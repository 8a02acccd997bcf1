"""Fit the world's constants to observed flights by least squares, with standard errors."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.identification.observations import Observations
from diffsim.identification.problem import Problem, least_squares
from diffsim.physics.state import BallState
from diffsim.physics.world import World

_BALL = {"drag": "drag_coefficient", "magnus": "magnus_coefficient"}
_BOUNDS = {"drag": (0, np.inf), "magnus": (-np.inf, np.inf), "restitution": (0, 1.5),
           "friction": (0, np.inf)}  # fmt: skip
_NOISE, _ROUNDS = 5e-3, 6  # m, a first guess of σ, and how often it is corrected


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
        noise: standard deviation of a position's coordinate, m: as given, or estimated.
        chi_square: sum of the squared residuals over their variances, per degree of freedom.
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
    chi_square: float
    converged: bool
    message: str
    flights: tuple[str, ...]

    def unexplained(self, times: float = 4.0) -> tuple[str, ...]:
        """The flights whose root mean square residual is above ``times`` the median flight's."""
        sizes = np.sqrt(np.nanmean(self.residuals**2, axis=(1, 2)))
        far = sizes > times * np.median(sizes)
        return tuple(name for name, beyond in zip(self.flights, far) if beyond)


def parameter_names(world: World) -> tuple[str, ...]:
    """What of a world can be fitted: ``drag``, ``magnus``, ``<surface>.restitution``, ….

    >>> parameter_names(World.create())[:4]
    ('drag', 'magnus', 'table.restitution', 'table.friction')
    """
    surfaces = [
        f"{surface.name}.{key}" for surface in world.surfaces for key in ("restitution", "friction")
    ]
    return (*_BALL, *surfaces)


def get(world: World, name: str) -> jax.Array:
    """The value of one parameter."""
    if name in _BALL:
        return getattr(world.ball, _BALL[name])
    surface, key = name.rsplit(".", 1)
    return next(getattr(s, key) for s in world.surfaces if s.name == surface)


def put(world: World, names: Sequence[str], values) -> World:
    """The world with other values of some parameters."""
    changes = dict(zip(names, values, strict=True))
    ball = {_BALL[name]: changes[name] for name in names if name in _BALL}
    surfaces = tuple(
        dataclasses.replace(
            surface,
            **{
                name.rsplit(".", 1)[1]: changes[name]
                for name in names
                if name not in _BALL and name.rsplit(".", 1)[0] == surface.name
            },
        )
        for surface in world.surfaces
    )
    return dataclasses.replace(
        world, ball=dataclasses.replace(world.ball, **ball), surfaces=surfaces
    )


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

    by a trust-region method with exact Jacobians through flight and impacts. The covariance of θ
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
            a world with driven surfaces.

    Without measured spins, spin and lift trade places: before a bounce only their product bends
    the flight. Measure the spin, or leave ``magnus`` out of ``names``, where lift matters.

    Source: G. H. Golub & V. Pereyra, SIAM J. Numer. Anal. 10 (1973) 413 (separated variables);
    M. A. Branch, T. F. Coleman & Y. Li, SIAM J. Sci. Comput. 21 (1999) 1 (trust region).
    """
    _check(world, names, noise=noise, spin_noise=spin_noise, spin_scale=spin_scale, step=step)
    guess = np.array([float(get(world, name)) for name in names])
    problem = Problem.create(
        observations,
        world,
        lambda world, theta: put(world, names, list(theta)),
        len(names),
        spin_noise=spin_noise,
        spin_scale=spin_scale,
        step=step,
    )
    sigma = _NOISE if noise is None else noise
    gravity = np.asarray(world.gravity, float)
    seen_spin = np.isfinite(observations.spins).any()
    free = np.full(problem.size - len(names), np.inf)
    low, high = np.array([_BOUNDS[name.rsplit(".", 1)[-1]] for name in names]).T
    bounds = (np.r_[low, -free], np.r_[high, free])
    # A measured spin is fitted by its own samples, the rest of a start by the positions.
    spent = len(names) + (6 if seen_spin else 9) * len(observations.names)
    freedom = max(int(np.isfinite(observations.positions).sum()) - spent, 1)
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
        theta = np.where(np.array(names) == "magnus", factor, 1.0) * guess
        for _ in range(2):
            fits.append(minimise(problem.first_guess(theta, gravity, sigma)))
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
    unknowns = fit.x
    covariance, errors = problem.covariance(problem.evaluate(unknowns, sigma)[1])
    p, dtype = len(names), jnp.result_type(float)
    starts = jnp.asarray(unknowns[p:].reshape(-1, 9), dtype)
    return Identified(
        names=tuple(names),
        values=unknowns[:p],
        errors=errors,
        covariance=covariance,
        world=put(world, names, jnp.asarray(unknowns[:p], dtype)),
        starts=BallState(starts[:, :3], starts[:, 3:6], starts[:, 6:]),
        residuals=misfit,
        noise=sigma,
        chi_square=float(np.nansum((misfit / sigma) ** 2) / freedom),
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
