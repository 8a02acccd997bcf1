"""How a ball stands to surfaces: their numbers, the gap to them, and where they are touched."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim._linalg import safe_sqrt
from diffsim.physics.device import call
from diffsim.physics.state import Body, Pose
from diffsim.physics.surfaces import Surface
from diffsim.physics.vector import Vector


@struct.dataclass
class Patch:
    """What a :class:`Surface` is apart from its pose, as numbers: nine rows of any shape, or ten.

    Attributes:
        rows: half extents, disk radius, whether two-sided, restitution, its slope, friction,
            tangential restitution, whether gone after an impact, and where a world has plates the
            edge radius, (9 or 10, …). The extents of a plate are those of its middle patch.
    """

    rows: jax.Array

    @classmethod
    def of(cls, surface: Surface, edged: bool = False) -> "Patch":
        """From scalars, with the row of edges or without."""
        names = "disk_radius two_sided restitution restitution_slope friction"
        rows = [getattr(surface, key) for key in (*names.split(), "tangential_restitution", "once")]
        rest = jnp.stack([jnp.asarray(row, surface.center.dtype) for row in rows])
        numbers = jnp.append(surface.half_extents, rest)
        if not edged:
            return cls(numbers)
        radius = -1.0 if surface.edge_radius is None else surface.edge_radius
        inset = jnp.maximum(jnp.asarray(radius, numbers.dtype), 0.0)
        return cls(jnp.append(numbers.at[:3].add(-inset), jnp.asarray(radius, numbers.dtype)))

    @property
    def half_extents(self) -> jax.Array:
        """(2, …), m."""
        return self.rows[:2]

    @property
    def disk_radius(self) -> jax.Array:
        return self.rows[2]

    @property
    def two_sided(self) -> jax.Array:
        return self.rows[3] > 0

    @property
    def restitution(self) -> jax.Array:
        return self.rows[4]

    @property
    def restitution_slope(self) -> jax.Array:
        return self.rows[5]

    @property
    def friction(self) -> jax.Array:
        return self.rows[6]

    @property
    def tangential_restitution(self) -> jax.Array:
        return self.rows[7]

    @property
    def once(self) -> jax.Array:
        return self.rows[8] > 0

    @property
    def edge_radius(self) -> Any:
        """m, -1 where the border cannot be hit; None in a world without plates."""
        return self.rows[9] if self.rows.shape[0] > 9 else None


def coordinates(pose: Pose) -> tuple[jax.Array, ...]:
    """A pose as numbers: centre and the columns of the rotation, and their rates, (12,) each."""
    (x, y, z), (first, second, third) = map(jnp.unstack, (pose.angular_velocity, pose.rotation))
    turning = jnp.stack([y * third - z * second, z * first - x * third, x * second - y * first])
    return tuple(
        jnp.append(place, matrix.T)
        for place, matrix in ((pose.position, pose.rotation), (pose.velocity, turning))
    )


@struct.dataclass
class Proximity:
    """How a ball stands to one surface at one time.

    Attributes:
        distance: of the centre from the plane, signed, or from the outside of a plate, m.
        rate: its time derivative, m/s.
        side: +1, or -1 where the ball is behind a two-sided patch.
        margin: how far inside the patch the contact point lies (negative: outside), m; infinite
            for a plate.
        local: the centre of the ball in the surface's own axes u, v and normal, (3, …), m.
        normal: towards the ball, in the same axes, (3, …); None in a world without plates.
        edge_radius: of :class:`Patch`.
    """

    distance: jax.Array
    rate: jax.Array
    side: jax.Array
    margin: jax.Array
    local: jax.Array
    normal: jax.Array | None = None
    edge_radius: Any = None

    def gap(self, radius: jax.Array) -> jax.Array:
        """Signed distance between a ball of that radius and the surface, m."""
        return self.side * self.distance - radius

    @property
    def gap_rate(self) -> jax.Array:
        """Time derivative of the gap, m/s."""
        return self.side * self.rate

    @property
    def face(self) -> jax.Array:
        """On which side of the plane the ball is, 1 or -1; 0 where an edge is nearest."""
        if self.normal is None:
            return self.side
        return jnp.where(jnp.all(self.normal[:2] == 0, axis=0), self.normal[2], 0.0)


@call
def proximity(patch: Patch, jet: jax.Array, ball: Body, face: jax.Array | None = None) -> Proximity:
    """How a ball stands to a patch, or to a plate.

    With R the rotation of the surface and c its centre: local = Rᵀ (x − c).

    Args:
        jet: coordinates of the surface and their rates, (2, 12, …).
        face: on which side it counts as its face alone, however deep the ball is in it: 1 or -1;
            0 where it counts as it is.
    """
    (center, axes), (moving, turning) = _parts(jet[0]), _parts(jet[1])
    offset = (ball.position - Vector.of(center)).array
    local = _along(jnp.unstack(axes, axis=1), offset)
    speed = (ball.velocity - Vector.of(moving)).array
    rate = _along(jnp.unstack(turning[2]), offset) + _along(jnp.unstack(axes[2]), speed)
    distance = local[2]
    behind = patch.two_sided & (distance < 0)
    behind = behind if face is None else jnp.where(face == 0, behind, face < 0)
    side = jnp.where(behind, -1.0, 1.0).astype(distance.dtype)
    in_rectangle = jnp.min(patch.half_extents - jnp.abs(local[:2]), axis=0)
    in_disk = patch.disk_radius - safe_sqrt(jnp.sum(local[:2] ** 2, axis=0))
    near = Proximity(distance, rate, side, jnp.minimum(in_rectangle, in_disk), local)
    if patch.edge_radius is None:
        return near
    moves = [_along(jnp.unstack(turning, axis=1), offset), _along(jnp.unstack(axes, axis=1), speed)]
    return _plate(patch, near, sum(moves), jnp.asarray(False) if face is None else face != 0)


def _plate(patch: Patch, near: Proximity, moves: jax.Array, flat) -> Proximity:
    """The same, where it is a plate: distance = |local − q| − ρ, q nearest in the middle patch.

    Args:
        moves: rate of ``near.local``, m/s.
    """
    radius, planar = patch.edge_radius, near.local[:2]
    round_ = radius >= 0
    inner = jnp.clip(planar, -patch.half_extents, patch.half_extents)
    out = safe_sqrt(jnp.sum(inner**2, axis=0))
    beyond = out > patch.disk_radius
    inner *= jnp.where(beyond, patch.disk_radius / jnp.where(beyond, out, 1.0), 1.0)
    height = near.local[2] + jnp.where(patch.two_sided, 0.0, radius)
    arm = jnp.concatenate([jnp.where(flat, 0.0, planar - inner), height[None]])
    size = safe_sqrt(jnp.sum(arm**2, axis=0))
    normal = arm / jnp.where(size > 0, size, 1.0)
    up = jnp.stack([jnp.zeros_like(near.side), jnp.zeros_like(near.side), near.side])
    normal = jnp.where(round_ & ~flat & (size > 0), normal, up)
    size = jnp.where(flat, near.side * height, size)
    return Proximity(
        distance=jnp.where(round_, size - radius, near.distance),
        rate=jnp.where(round_, jnp.sum(normal * moves, axis=0), near.rate),
        side=jnp.where(round_, 1.0, near.side),
        margin=jnp.where(round_ & ~flat, jnp.inf, near.margin),
        local=near.local,
        normal=normal,
        edge_radius=radius,
    )


@jax.jit
def contact_frame(jet: jax.Array, near: Proximity, radius: jax.Array) -> tuple[Vector, Vector]:
    """The unit normal towards the ball, and the velocity of the surface where it is touched, m/s.

    contact = x − r n,  v_s = ċ + Ṙ Rᵀ (contact − c).
    """
    (_, axes), (moving, turning) = _parts(jet[0]), _parts(jet[1])
    if near.normal is not None:
        arm = near.local - radius * near.normal
        normal = _along(jnp.unstack(axes), near.normal)
        return Vector.of(normal), Vector.of(moving + _along(jnp.unstack(turning), arm))
    (x, y, z), (first, second, third) = jnp.unstack(near.local), jnp.unstack(turning)
    velocity = moving + first * x + second * y + third * (z - near.side * radius)
    return Vector.of(axes[2] * near.side), Vector.of(velocity)


def _along(axes, arm):
    """Σ_k arm_k axis_k: written out, as XLA's CPU code for a short sum is slow."""
    first, second, third = (axis * part for axis, part in zip(axes, jnp.unstack(arm), strict=True))
    return first + second + third


def _parts(coordinates: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Centre (3, …) and axes (3, 3, …), one after the other."""
    return coordinates[:3], coordinates[3:].reshape(3, 3, *coordinates.shape[1:])
