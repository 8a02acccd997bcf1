"""Play the world forward: from a state and a paddle path to a rollout."""

import enum
import functools
import math
import operator
from collections.abc import Callable
from html import escape

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _show
from diffsim.physics import pieces
from diffsim.physics.contact.base import Contact, Impacts, Plan
from diffsim.physics.contact.free import fly_freely
from diffsim.physics.contact.impulse import Impulse
from diffsim.physics.state import BallState
from diffsim.physics.surfaces import Path
from diffsim.physics.world import World


class Status(enum.IntEnum):
    """How a rollout ended."""

    OK = 0
    IMPACTS_EXHAUSTED = 1  # more than max_impacts
    NOT_FINITE = 2
    TOO_FAST = 3  # for the step: it stays where drag would throw it back more than stop it
    ROUGH_PATH = 4  # for the step: a path jumps, or moves too fast to be known between its samples
    COARSE_STEP = 5  # for the air: on some arc it is followed to no better than 1e-6 of the arc;
    # for a ball that rolls over an edge, held by it, or whose slip turns round within few steps
    TOO_FAR = 6  # from the origin for the precision: positions are known to no 1/100 of the radius
    STARTS_INSIDE = 7  # of a surface, by more than the radius
    TWO_CONTACTS = 8  # at once, in a corner, a groove or between plate and table: the ball met two
    # surfaces in turn without end, within 1/100 of a step, until max_impacts
    CROSSED = 9  # a surface: the ball came into it over a border that has no edge, or from behind


@struct.dataclass
class Rollout:
    """What happened.

    Attributes:
        times: the grid, (n + 1,), s.
        states: the ball at the grid times, leaves (n + 1, 3).
        impacts: every impact, located in time.
        final: the ball at the end, leaves (3,).
        status: a :class:`Status`, () int.
    """

    times: jax.Array
    states: BallState
    impacts: Impacts
    final: BallState
    status: jax.Array

    def __repr__(self) -> str:
        if not _show.concrete(self):
            return _show.record("Rollout", times=self.times, status=self.status)
        valid = np.asarray(self.impacts.valid)
        one = valid.ndim == 1
        return _show.record(
            "Rollout",
            states=f"{self.times.shape} to {np.max(self.times):.4g} s",
            impacts=np.asarray(self.impacts.time)[valid] if one else f"{valid.sum()} in all",
            final=self.final.position,
            status=_show.counts(Status, self.status),
        )

    def _repr_html_(self) -> str:
        if np.ndim(self.times) != 1 or not _show.concrete(self):
            return f"<code>{escape(repr(self))}</code>"
        i = self.impacts
        rows = zip(i.time, i.surface, i.before.position, i.before.velocity, i.after.velocity)
        columns = ("impact at, s", "surface", "position, m", "velocity before, m/s", "after, m/s")
        shown = [row for row, valid in zip(rows, i.valid) if valid]
        return _show.html_table(repr(self), columns, shown)


def simulate(
    world: World,
    state: BallState,
    path: Path | tuple[Path, ...] | None = None,
    *,
    duration: float,
    step: float = 0.05,
    contact: Contact | None = None,
    max_impacts: int | None = None,
) -> Rollout:
    """Follow one ball for ``duration`` seconds; ``jax.vmap`` it for many.

    Between impacts  dx/dt = v,  dv/dt = g − k_D |v| v + k_M (w × v),  dw/dt = −w/τ.
    Differentiable in forward and reverse mode with respect to the world, the state and the path
    (to second order with the default contact model).

    Args:
        world: the ball, the air and the surfaces.
        state: at time 0; its dtype is the dtype of the computation.
        path: ``path(t) -> Pose`` for the driven surface; a tuple of them where there are several.
            A pytree, such as the paths of :mod:`diffsim.motion`, or a plain function.
        duration: s, a Python number.
        step: longest time step, s; the grid is ``duration`` cut into equal steps.
        contact: the contact model, :class:`Impulse` by default.
        max_impacts: room for impacts (several a step are allowed); by default 8 and 10 more for
            each second. A ball that needs more stops there with status IMPACTS_EXHAUSTED, one held
            by two surfaces at once with TWO_CONTACTS, as one that is too fast for the step does
            with TOO_FAST (134 m/s at 0.1 s by default).

    Raises:
        ValueError: a wrong shape; a duration or step that is not positive; a path missing or
            too many.
        TypeError: an argument of the wrong kind.

    >>> drop = BallState.create([0.0, 0.0, 0.88])  # 0.1 m above a table with e = 0.9
    >>> rollout = simulate(World.create(), drop, duration=0.2)
    >>> rollout.impacts.valid.tolist()[:2], round(float(rollout.impacts.time[0]), 3)
    ([True, False], 0.143)
    """
    if not isinstance(world, World):
        raise TypeError(f"world: expected a World, got {type(world).__name__}")
    if not isinstance(state, BallState):
        raise TypeError(f"state: expected a BallState, got {type(state).__name__}")
    for name, value in (("duration", duration), ("step", step)):
        if isinstance(value, jax.core.Tracer) or not (0 < float(value) < math.inf):
            raise ValueError(f"{name}: expected a positive Python number, got {value}")
    paths = path if isinstance(path, tuple) else () if path is None else (path,)
    if len(paths) != world.driven_count:
        raise ValueError(
            f"path: expected one for each of {world.driven_count} driven surfaces, got {len(paths)}"
        )
    count = max(1, math.ceil(float(duration) / float(step) - 1e-9))
    if max_impacts is None:
        max_impacts = room(duration)
    contact = (Impulse() if contact is None else contact).prepared(world, duration / count)
    state = BallState.create(state.position, state.velocity, state.spin)
    dtype = state.position.dtype
    world = jax.tree.map(lambda leaf: _as(dtype, leaf), world)
    contact = jax.tree.map(lambda leaf: _as(dtype, leaf), contact)
    paths = tuple(p if _is_pytree(p) else jax.tree_util.Partial(p) for p in paths)
    run = _compiled(count, max_impacts)
    return run(world, state, paths, jnp.asarray(duration, dtype), contact)


def room(duration: float) -> int:
    """For how many impacts there is room by default."""
    return 8 + math.ceil(10 * float(duration))


def memory(steps: float, impacts: float, driven: int = 0, itemsize: int = 4) -> float:
    """What one flight takes as compiled for a CPU, bytes: it is linear in steps and impacts.

    Args:
        steps: of the grid.
        impacts: for which there is room.
        driven: how many surfaces move.
        itemsize: of a number, bytes.

    >>> memory(40, 28, driven=1)
    72800
    """
    return itemsize * (50 * (steps + impacts) + 370 * steps * driven)


def _as(dtype, leaf):
    leaf = jnp.asarray(leaf)
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.number) else leaf


def _is_pytree(path: Callable) -> bool:
    return not jax.tree_util.all_leaves([path])


def _alternate(impacts: Impacts, step: jax.Array) -> jax.Array:
    """Whether the last three impacts were on two surfaces in turn and all but at once, ()."""
    surface, time = impacts.surface[-2:], impacts.time[-3:]
    return (surface[0] != surface[-1]) & (time[-1] - time[0] < step / 100)


@functools.cache
def _compiled(count: int, max_impacts: int) -> Callable[..., Rollout]:
    """One compiled function for each size, so that equal calls compile once."""

    def run(world, state, paths, duration, contact):
        times = duration * np.linspace(0, 1, count + 1, dtype=duration.dtype)
        ends, grid = pieces.boundaries(paths, times)
        still = jax.lax.stop_gradient(paths)  # contact models that need a derivative ask again
        series = [pieces.pieces(path, ends[:-1], ends[1:]) for path in still]
        plan = Plan(ends, grid, times[1], tuple(one for one, _ in series), paths)
        fly = contact.fly if world.surfaces else fly_freely
        flight = fly(world, plan, state, max_impacts)
        seen = [*jax.tree.leaves(flight.final), *(jnp.ravel(one) for one, _ in series)]
        finite = jnp.all(jnp.isfinite(jnp.concatenate(seen)))
        far = jnp.max(jnp.sum(jnp.abs(flight.states.position), axis=-1))
        far = far * float(jnp.finfo(times.dtype).eps) > world.ball.radius / 100
        doubts, cut = flight.doubts, ~flight.finished
        rough = [miss > pieces.ROUGH for _, miss in series]
        told = {  # the first that holds is told, causes before what they lead to
            Status.NOT_FINITE: ~finite,
            Status.TOO_FAR: far if world.surfaces else False,
            Status.STARTS_INSIDE: doubts.inside,
            Status.ROUGH_PATH: functools.reduce(operator.or_, rough) if rough else False,
            Status.CROSSED: doubts.crossed,
            Status.TOO_FAST: cut & doubts.too_fast,
            Status.TWO_CONTACTS: cut & _alternate(flight.impacts, times[1]),
            Status.IMPACTS_EXHAUSTED: cut,
            Status.COARSE_STEP: doubts.coarse,
        }
        status = jnp.asarray(Status.OK)
        for doubt, holds in reversed(told.items()):
            status = jnp.where(holds, doubt, status)
        return Rollout(times, flight.states, flight.impacts, flight.final, status)

    return jax.jit(run)
