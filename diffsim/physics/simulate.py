"""Play the world forward: from a state and a paddle path to a rollout."""

import enum
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics import native
from diffsim.physics.contact.base import Contact, Trace
from diffsim.physics.contact.impulse import Impulse
from diffsim.physics.events import stable
from diffsim.physics.state import BallState, Body
from diffsim.physics.surfaces import Path
from diffsim.physics.world import World


class Status(enum.IntEnum):
    """How a rollout ended."""

    OK = 0
    IMPACTS_EXHAUSTED = 1
    NOT_FINITE = 2
    TOO_FAST = 3  # for the step: it stays where drag would throw it back more than stop it


@struct.dataclass
class Impacts:
    """The impacts of a rollout in order of time; rows past the last are not valid.

    Attributes:
        time: (M,), s.
        surface: index into ``world.surfaces``, (M,) int.
        before, after: the ball just before and just after, leaves (M, 3).
        valid: (M,) bool.
    """

    time: jax.Array
    surface: jax.Array
    before: BallState
    after: BallState
    valid: jax.Array


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
            each second. A ball that needs more stops there with status IMPACTS_EXHAUSTED, as one
            that is too fast for the step does with TOO_FAST (134 m/s at 0.1 s by default).

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
        max_impacts = 8 + math.ceil(10 * float(duration))
    contact = (Impulse() if contact is None else contact).prepared(world, duration / count)
    state = BallState.create(state.position, state.velocity, state.spin)
    dtype = state.position.dtype
    world = jax.tree.map(lambda leaf: _as(dtype, leaf), world)
    contact = jax.tree.map(lambda leaf: _as(dtype, leaf), contact)
    paths = tuple(p if _is_pytree(p) else jax.tree_util.Partial(p) for p in paths)
    run = _compiled(count, max_impacts)
    return run(world, state, paths, jnp.asarray(duration, dtype), contact)


def _as(dtype, leaf):
    leaf = jnp.asarray(leaf)
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.number) else leaf


def _is_pytree(path: Callable) -> bool:
    return not jax.tree_util.all_leaves([path])


@functools.cache
def _compiled(count: int, max_impacts: int) -> Callable[..., Rollout]:
    """One compiled function for each size, so that equal calls compile once."""

    def run(world, state, paths, duration, contact):
        times = duration * jnp.linspace(0, 1, count + 1, dtype=duration.dtype)
        trace = contact.trace(world, paths, state, times, max_impacts)
        final = jax.tree.map(lambda leaf: leaf[-1], trace.state)
        calm = stable(world, Body.of(final), times[1])
        return _rollout(state, times, trace, max_impacts, calm)

    return native.function(run)


def _rollout(state: BallState, times, trace: Trace, max_impacts: int, calm: jax.Array) -> Rollout:
    """Sort the rows of a trace into the states on the grid and the impacts."""
    count = times.shape[0] - 1

    def rows(tree, index):
        return jax.tree.map(lambda leaf: leaf[index], tree)

    grid_rows = jnp.searchsorted(trace.grid, jnp.arange(1, count + 1)).clip(max=len(trace.grid) - 1)
    states = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[None], rest]),
        state,
        rows(trace.state, grid_rows),
    )
    number = jnp.where(trace.hit, jnp.cumsum(trace.hit), 0)
    belongs = number == jnp.arange(1, max_impacts + 1)[:, None]  # (max_impacts, rows)

    def impact_rows(tree):  # by masks: the gather's derivative would be a scatter
        def pick(leaf):
            mask = belongs.reshape(belongs.shape + (1,) * (leaf.ndim - 1))
            return jnp.sum(jnp.where(mask, leaf, 0), axis=1)

        return jax.tree.map(pick, tree)

    valid = jnp.any(belongs, axis=1)
    impacts = Impacts(
        time=impact_rows(trace.hit_time),
        surface=jnp.where(valid, impact_rows(trace.surface), -1),
        before=impact_rows(trace.before),
        after=impact_rows(trace.state),
        valid=valid,
    )
    final = rows(trace.state, -1)
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(final)]))
    finished = trace.grid[-1] >= count
    cut = jnp.where(calm, Status.IMPACTS_EXHAUSTED, Status.TOO_FAST)
    status = jnp.where(finished, Status.OK, cut)
    return Rollout(times, states, impacts, final, jnp.where(finite, status, Status.NOT_FINITE))
