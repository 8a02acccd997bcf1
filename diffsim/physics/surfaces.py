"""Surfaces a ball can hit: flat patches, fixed or carried along a path."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _check
from diffsim.physics.state import Body, Pose
from diffsim.physics.vector import Vector, orthonormal, safe_sqrt

Path = Callable[[jax.Array], Pose]

TABLE_LENGTH, TABLE_WIDTH, TABLE_HEIGHT = 2.74, 1.525, 0.76
NET_HEIGHT, NET_OVERHANG = 0.1525, 0.1525


@struct.dataclass
class Surface:
    """A flat patch: the part of a plane inside a rectangle and a disk.

    A driven surface takes its pose from the ``path`` given to the simulator, a fixed one from
    ``center`` and ``rotation``.

    Attributes:
        center: (3,), m, world frame.
        rotation: world from surface frame, (3, 3); columns: u, v, normal.
        half_extents: of the rectangle along u and v, (2,), m; inf for no bound.
        disk_radius: (), m; inf for no bound.
        two_sided: () bool, True where the back face reflects as well.
        restitution: e, ratio of the normal speeds after and before, ().
        restitution_slope: e falls by this much per m/s of approach speed, (), s/m.
        friction: Coulomb coefficient μ, ().
        tangential_restitution: e_t, the part of the slip that comes back the other way, ().
        once: () bool, True where the surface is gone after its first impact.
        name: what reports call it.
        driven: whether a path moves it.
    """

    center: jax.Array
    rotation: jax.Array
    half_extents: jax.Array
    disk_radius: jax.Array
    two_sided: jax.Array
    restitution: jax.Array
    restitution_slope: jax.Array
    friction: jax.Array
    tangential_restitution: jax.Array
    once: jax.Array
    name: str = struct.field(pytree_node=False, default="surface")
    driven: bool = struct.field(pytree_node=False, default=False)

    @classmethod
    def create(
        cls,
        *,
        center=(0.0, 0.0, 0.0),
        normal=(0.0, 0.0, 1.0),
        u=None,
        half_extents=(jnp.inf, jnp.inf),
        disk_radius=jnp.inf,
        two_sided=False,
        restitution=0.9,
        restitution_slope=0.0,
        friction=0.2,
        tangential_restitution=0.0,
        once=False,
        name="surface",
        driven=False,
    ) -> "Surface":
        """A patch from its centre, its normal and the direction ``u`` of the first extent.

        Raises:
            ValueError: a wrong shape; a zero normal; u along the normal; an extent ≤ 0; e outside
                [0, 1.5]; μ < 0; e_t outside [0, 1].

        >>> wall = Surface.create(normal=[1.0, 0.0, 0.0], half_extents=[1.0, 2.0])
        >>> wall.rotation[:, 2].tolist()
        [1.0, 0.0, 0.0]
        """
        half_extents = _check.floating("half_extents", half_extents, (2,))
        disk_radius = _check.floating("disk_radius", disk_radius, ())
        for key, extent in (("half_extents", half_extents), ("disk_radius", disk_radius)):
            _check.in_range(key, jnp.where(jnp.isinf(extent), 1.0, extent), 0.0, open_low=True)
        normal = _check.direction("normal", normal)
        return cls(
            center=_check.in_range("center", _check.floating("center", center, (3,))),
            rotation=axes(normal, None if u is None else _check.direction("u", u)),
            half_extents=half_extents,
            disk_radius=disk_radius,
            two_sided=jnp.asarray(two_sided),
            restitution=_check.in_range("restitution", restitution, 0.0, 1.5),
            restitution_slope=_check.in_range("restitution_slope", restitution_slope, 0.0),
            friction=_check.in_range("friction", friction, 0.0),
            tangential_restitution=_check.in_range(
                "tangential_restitution", tangential_restitution, 0.0, 1.0
            ),
            once=jnp.asarray(once),
            name=name,
            driven=driven,
        )


def axes(normal: jax.Array, u: jax.Array | None = None) -> jax.Array:
    """Rotation (3, 3) with the third column along ``normal`` and the first along ``u``.

    Raises:
        ValueError: concrete directions that this precision does not tell apart.

    >>> axes(jnp.asarray([0.0, 0.0, 2.0])).tolist()[2]
    [0.0, 0.0, 1.0]
    """
    rotation = orthonormal(normal, None if u is None else u.astype(normal.dtype))
    if isinstance(rotation, jax.core.Tracer):
        return rotation
    least = 1.0
    if u is not None:
        both = [np.asarray(x, float) / np.max(np.abs(np.asarray(x, float))) for x in (normal, u)]
        least = np.linalg.norm(np.cross(*both)) / np.sqrt(float(jnp.finfo(rotation.dtype).eps))
    if least < 1 or not np.all(np.isfinite(np.asarray(rotation))):
        raise ValueError(
            f"u: expected a direction across the normal, got {np.asarray(u).tolist()} along it"
        )
    return rotation


def table(restitution=0.9, friction=0.2, *, restitution_slope=0.0, name="table") -> Surface:
    """The top of an ITTF table, 2.74 m × 1.525 m at z = 0.76 m, its middle over the origin.

    Its long side is along x. Source: ITTF Handbook, Laws of Table Tennis, 2.1.

    >>> table().center[2].round(2).item() > 0.75
    True
    """
    return Surface.create(
        center=(0.0, 0.0, TABLE_HEIGHT),
        u=(1.0, 0.0, 0.0),
        half_extents=(TABLE_LENGTH / 2, TABLE_WIDTH / 2),
        restitution=restitution,
        restitution_slope=restitution_slope,
        friction=friction,
        name=name,
    )


def net(restitution=0.1, friction=0.2, *, name="net") -> Surface:
    """An ITTF net across the table at x = 0: 0.1525 m high, 0.1525 m over on each side.

    Both faces reflect; its top edge has no thickness. Source: ITTF Handbook, 2.2.

    >>> net().half_extents.round(4).tolist()[1] < 0.08
    True
    """
    return Surface.create(
        center=(0.0, 0.0, TABLE_HEIGHT + NET_HEIGHT / 2),
        normal=(1.0, 0.0, 0.0),
        u=(0.0, 1.0, 0.0),
        half_extents=(TABLE_WIDTH / 2 + NET_OVERHANG, NET_HEIGHT / 2),
        two_sided=True,
        restitution=restitution,
        friction=friction,
        name=name,
    )


def floor(restitution=0.8, friction=0.4, *, height=0.0, name="floor") -> Surface:
    """The unbounded floor plane at ``height``, m.

    >>> floor().name
    'floor'
    """
    return Surface.create(
        center=(0.0, 0.0, height), restitution=restitution, friction=friction, name=name
    )


def Paddle(
    radius=0.08,
    restitution=0.8,
    friction=0.4,
    *,
    restitution_slope=0.0,
    tangential_restitution=0.0,
    name="paddle",
) -> Surface:
    """A round paddle, both faces reflecting, driven by the path given to the simulator.

    >>> Paddle(radius=0.1, restitution=0.75, friction=0.4).driven
    True
    """
    return Surface.create(
        disk_radius=radius,
        two_sided=True,
        restitution=restitution,
        restitution_slope=restitution_slope,
        friction=friction,
        tangential_restitution=tangential_restitution,
        name=name,
        driven=True,
    )


@struct.dataclass
class Patch:
    """What a :class:`Surface` is apart from its pose, as numbers: nine rows of any shape.

    Attributes:
        rows: half extents, disk radius, whether two-sided, restitution, its slope, friction,
            tangential restitution, whether gone after an impact, (9, …).
    """

    rows: jax.Array

    @classmethod
    def of(cls, surface: Surface) -> "Patch":
        """From scalars."""
        names = "disk_radius two_sided restitution restitution_slope friction"
        rows = [getattr(surface, key) for key in (*names.split(), "tangential_restitution", "once")]
        rest = jnp.stack([jnp.asarray(row, surface.center.dtype) for row in rows])
        return cls(jnp.append(surface.half_extents, rest))

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
        distance: of the centre from the plane, signed, m.
        rate: its time derivative, m/s.
        side: +1, or -1 where the ball is behind a two-sided surface.
        margin: how far inside the patch the contact point lies (negative: outside), m.
        local: the centre of the ball in the surface's own axes u, v and normal, (3, …), m.
    """

    distance: jax.Array
    rate: jax.Array
    side: jax.Array
    margin: jax.Array
    local: jax.Array


@jax.jit
def proximity(patch: Patch, jet: jax.Array, ball: Body) -> Proximity:
    """How a ball stands to a patch.

    With R the rotation of the surface and c its centre: local = Rᵀ (x − c).

    Args:
        jet: coordinates of the surface and their rates, (2, 12, …).
    """
    (center, axes), (moving, turning) = _parts(jet[0]), _parts(jet[1])
    offset = (ball.position - Vector.of(center)).array
    local = _along(jnp.unstack(axes, axis=1), offset)
    speed = (ball.velocity - Vector.of(moving)).array
    rate = _along(jnp.unstack(turning[2]), offset) + _along(jnp.unstack(axes[2]), speed)
    distance = local[2]
    side = jnp.where(patch.two_sided & (distance < 0), -1.0, 1.0).astype(distance.dtype)
    in_rectangle = jnp.min(patch.half_extents - jnp.abs(local[:2]), axis=0)
    in_disk = patch.disk_radius - safe_sqrt(jnp.sum(local[:2] ** 2, axis=0))
    return Proximity(distance, rate, side, jnp.minimum(in_rectangle, in_disk), local)


def contact_frame(jet: jax.Array, near: Proximity, radius: jax.Array) -> tuple[Vector, Vector]:
    """The unit normal towards the ball, and the velocity of the surface where it is touched, m/s.

    contact = x − r n,  v_s = ċ + Ṙ Rᵀ (contact − c).
    """
    (_, axes), (moving, turning) = _parts(jet[0]), _parts(jet[1])
    normal = axes[2] * near.side
    arm = jnp.concatenate([near.local[:2], (near.local[2] - near.side * radius)[None]])
    return Vector.of(normal), Vector.of(moving + _along(jnp.unstack(turning), arm))


def _along(axes, arm):
    """Σ_k arm_k axis_k: written out, as XLA's CPU code for a short sum is slow."""
    first, second, third = (axis * part for axis, part in zip(axes, jnp.unstack(arm), strict=True))
    return first + second + third


def _parts(coordinates: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Centre (3, …) and axes (3, 3, …), one after the other."""
    return coordinates[:3], coordinates[3:].reshape(3, 3, *coordinates.shape[1:])


def gap(near: Proximity, radius: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Distance of the ball's skin from the plane on the ball's side, and its rate, m and m/s."""
    return near.side * near.distance - radius, near.side * near.rate
