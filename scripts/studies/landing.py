"""Which trajectory makes a return land where it is wanted: a learned forward model, inverted."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.progress import track

from diffsim import invertible
from diffsim._check import ends, in_range
from diffsim._intervals import mean_interval
from diffsim.invertible.learned import fit
from diffsim.physics import BallState
from diffsim.tasks import HitToTarget
from diffsim.training.policy import MLP


@dataclasses.dataclass(frozen=True)
class LandingSettings:
    """How to learn the map from trajectory weights to landing point, and whom to compare."""

    samples: int = 20_000
    """Simulated trajectories to learn from."""
    spread: float = 0.2
    """Standard deviation of each trajectory weight around a trajectory that returns the serve."""
    steps: int = 8000
    """Updates of the forward model."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the forward model."""
    targets: int = 100
    """Number of wanted landing points, uniform over the box."""
    box: tuple[tuple[float, float], tuple[float, float]] = ((0.5, -0.4), (1.1, 0.4))
    """Lowest and highest (x, y) of the wanted points, m."""
    descent: int = 100
    """Gradient steps through the simulator, of the optimisation to compare with."""
    seed: int = 0
    """Seed of serve, trajectories, first weights and targets."""

    def __post_init__(self):
        for name in ("samples", "steps", "targets", "descent"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden: expected widths of at least 1, got {self.hidden}")
        in_range("spread", self.spread, 0.0, open_low=True)
        ends("box", self.box, (2, 2))


def landing(task: HitToTarget, weights: jax.Array, serve: BallState) -> jax.Array:
    """(x, y) of a legal return's landing in the real world, m; NaN if it is none."""
    found = task.measures(weights, serve)
    return jnp.where(found["legal"], found["landing"][:2], jnp.nan)


def slopes_of(task: HitToTarget, serve: BallState) -> Callable:
    """Gradients of the task's loss for rows of weights and of targets."""

    def loss(weights, target):
        return dataclasses.replace(task, target=target).loss(weights, serve)

    return jax.jit(jax.vmap(jax.grad(loss)))


def descend(slopes: Callable, weights: jax.Array, targets: jax.Array, steps: int) -> jax.Array:
    """Adam through the simulator, from each row of weights to its target."""
    adam = optax.adam(optax.cosine_decay_schedule(0.05, steps))
    state = adam.init(weights)
    for _ in track(range(steps), "optimising", transient=True):
        with jax.numpy_dtype_promotion("standard"):  # optax mixes in an integer count
            updates, state = adam.update(slopes(weights, targets), state)
        weights = optax.apply_updates(weights, updates)
    return weights


def learn(
    weights: jax.Array, points: jax.Array, settings: LandingSettings, key: jax.Array
) -> nnx.Module:
    """The forward model: a multilayer perceptron from weights to landing point."""
    first, later = jax.random.split(key)
    model = MLP(weights.shape[1], settings.hidden, 2, rngs=nnx.Rngs(params=first))
    graph, state = nnx.split(model)

    def loss(state, weights, points):
        return jnp.mean((jax.vmap(nnx.merge(graph, state))(weights) - points) ** 2)

    state = fit(loss, state, (weights, points), later, steps=settings.steps, batch=128, rate=3e-3)
    return nnx.merge(graph, state)


def compare(settings: LandingSettings) -> dict[str, Any]:
    """Landing errors of all ways on the real simulator, m.

    One serve, one starting trajectory (of several random ones, optimised to land in the middle
    of the box, the one that does so best). The learned model is inverted from there, so that of
    all trajectories that land right a near one is taken; and from the nearest return of those it
    learned from, where its error is known and can be taken off: aim at y + f(w) − landing(w).
    """
    key = jax.random.key(settings.seed)
    serve_key, start_key, noise_key, fit_key, target_key = jax.random.split(key, 5)
    task = HitToTarget.create()
    serve = task.sample(serve_key)
    low, high = jnp.asarray(settings.box)
    slopes = slopes_of(task, serve)
    played = jax.jit(jax.vmap(lambda w: landing(task, w, serve)))
    middle = jnp.broadcast_to((low + high) / 2, (settings.targets, 2))
    starts = 0.3 * jax.random.normal(start_key, (settings.targets, task.weight_count))
    starts = descend(slopes, starts, middle, 300)
    start = starts[jnp.nanargmin(jnp.linalg.norm(played(starts) - middle, axis=1))]

    noise = jax.random.normal(noise_key, (settings.samples, start.size), start.dtype)
    points = played(start + settings.spread * noise)
    fine = np.flatnonzero(np.all(np.isfinite(points), axis=1))
    if len(fine) < 100:
        raise ValueError(f"spread: expected 100 legal returns to learn from, got {len(fine)}")
    noise, points = noise[fine], points[fine]
    held = len(fine) // 10
    model = learn(noise[held:], points[held:], settings, fit_key)
    predicted = jax.vmap(model)(noise[:held])
    targets = jax.random.uniform(target_key, (settings.targets, 2), start.dtype, low, high)

    @jax.jit
    def invert(model, y, x):
        return invertible.invert(model, y, start=x, method="newton", tolerance=1e-4)

    def land(x):
        return played(start + settings.spread * x)

    def aim(x, point):
        """From what lands where it should not; where it does not land at all, stay."""
        off = jax.vmap(model)(x) - point
        aimed = invert(model, targets + jnp.nan_to_num(off), x).x
        return jnp.where(jnp.isfinite(off[:, :1]), aimed, x)

    nothing = jnp.zeros((settings.targets, start.size), start.dtype)
    inverted = invert(model, targets, nothing)
    distances = jnp.linalg.norm(targets[:, None] - points[held:], axis=-1)
    nearest = held + jnp.argmin(distances, axis=1)
    aimed = aim(noise[nearest], points[nearest])
    again = aim(aimed, land(aimed))
    descended = descend(slopes, start + nothing, targets, settings.descent)
    ways = {"start": nothing, "nearest": noise[nearest], "inverted": inverted.x, "aimed": aimed,
            "again": again, "optimised": (descended - start) / settings.spread}  # fmt: skip
    return {
        "legal": len(fine),
        "model": np.linalg.norm(np.asarray(predicted - points[:held]), axis=1),
        "status": np.asarray(inverted.status),
    } | {name: np.linalg.norm(np.asarray(land(x) - targets), axis=1) for name, x in ways.items()}


def rows(settings: LandingSettings, found: dict[str, Any]) -> list[str]:
    """The comparison as lines of text."""

    def line(name, errors, calls):
        fine = np.isfinite(errors)
        cm = 100 * errors[fine]
        text = " none"
        if cm.size:
            mean = mean_interval(cm)
            sure = mean.high - mean.value
            text = f"{mean.value:7.3f} ± {sure:5.3f} {np.median(cm):7.3f} {np.max(cm):7.3f}"
        return f"{name:32s} {text}   {fine.sum():4d} of {errors.size:4d}   {calls}"

    once = f"0 (+ {settings.samples} once)"
    solved = int(np.sum(found["status"] == invertible.InversionStatus.OK))
    return [
        f"forward model from {found['legal']} legal returns; held-out error "
        f"{100 * np.mean(found['model']):.2f} cm; inverted to 0.1 mm for {solved} targets",
        f"{'landing error, cm':32s}    mean (95 %)   median     max   legal          "
        "simulations a target",
        line("starting trajectory", found["start"], "0"),
        line("nearest simulated return", found["nearest"], once),
        line("learned model inverted", found["inverted"], once),
        line("  from the nearest return", found["aimed"], once),
        line("  and again from there", found["again"], f"1 (+ {settings.samples} once)"),
        line("optimised through the simulator", found["optimised"],
             f"{settings.descent} with derivative"),
    ]  # fmt: skip
