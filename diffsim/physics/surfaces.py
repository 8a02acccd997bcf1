"""Surfaces a ball can hit: flat patches and round-edged plates, fixed or carried along a path."""

from collections.abc import Callable
from typing import Any

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

    The ball passes its border freely, unless that has an ``edge_radius`` ρ: then it is a solid
    plate 2 ρ thick with a round border, all points within ρ of a middle patch that is smaller by
    ρ. Its outer size is that of the patch. A one-sided plate lies below its face; a two-sided one
    has a face ρ before and behind the middle plane.

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
        edge_radius: ρ, (), m, at most the half extents and the radius of the disk; None for a
            border that cannot be hit.
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
    edge_radius: jax.Array | None = None
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
        edge_radius=None,
        name="surface",
        driven=False,
    ) -> "Surface":
        """A patch from its centre, its normal and the direction ``u`` of the first extent.

        Raises:
            ValueError: a wrong shape; a zero normal; u along the normal; an extent ≤ 0; e outside
                [0, 1.5]; μ < 0; e_t outside [0, 1]; an edge radius < 0, larger than the patch, or
                of a patch without one border.

        >>> wall = Surface.create(normal=[1.0, 0.0, 0.0], half_extents=[1.0, 2.0])
        >>> wall.rotation[:, 2].tolist()
        [1.0, 0.0, 0.0]
        """
        half_extents = _check.floating("half_extents", half_extents, (2,))
        disk_radius = _check.floating("disk_radius", disk_radius, ())
        for key, extent in (("half_extents", half_extents), ("disk_radius", disk_radius)):
            _check.in_range(key, jnp.where(jnp.isinf(extent), 1.0, extent), 0.0, open_low=True)
        if edge_radius is not None:
            edge_radius = edge("edge_radius", edge_radius, half_extents, disk_radius)
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
            edge_radius=edge_radius,
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


def edge(name: str, radius, half_extents: jax.Array, disk_radius: jax.Array) -> jax.Array:
    """A checked edge radius of a patch.

    Raises:
        ValueError: a concrete one is negative, not finite, or larger than the patch; the patch has
            no border, or that of both a rectangle and a disk.
    """
    radius = _check.in_range(name, _check.floating(name, radius, ()), 0.0)
    if isinstance(half_extents, jax.core.Tracer) or isinstance(disk_radius, jax.core.Tracer):
        return radius
    extents = np.asarray(half_extents).min(), np.asarray(disk_radius).max()
    if np.isinf(extents).all() or np.isfinite(extents).all():
        raise ValueError(f"{name}: expected None for a patch that is no rectangle and no disk")
    return _check.in_range(name, radius, 0.0, float(min(extents)))


def table(
    restitution=0.9, friction=0.2, *, restitution_slope=0.0, edge_radius=None, name="table"
) -> Surface:
    """The top of an ITTF table, 2.74 m × 1.525 m at z = 0.76 m, its middle over the origin.

    Its long side is along x; with an ``edge_radius``, m, it is a plate with edges to be hit.
    Source: ITTF Handbook, Laws of Table Tennis, 2.1.

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
        edge_radius=edge_radius,
        name=name,
    )


def net(restitution=0.1, friction=0.2, *, edge_radius=None, name="net") -> Surface:
    """An ITTF net across the table at x = 0: 0.1525 m high, 0.1525 m over on each side.

    Both faces reflect; a ball passes its top freely, or hits it where there is an ``edge_radius``,
    m, or a :func:`net_cord`. Source: ITTF Handbook, 2.2.

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
        edge_radius=edge_radius,
        name=name,
    )


def net_cord(restitution=0.5, friction=0.2, *, radius=0.003, name="net cord") -> Surface:
    """The cord along the top of :func:`net`: a round rod, its top at the height of the net.

    Args:
        radius: of the rod, m. The Handbook gives none: its tape may be 15 mm high, folded.

    >>> net_cord(radius=0.002).edge_radius.item() < 0.003
    True
    """
    return Surface.create(
        center=(0.0, 0.0, TABLE_HEIGHT + NET_HEIGHT - radius),
        normal=(1.0, 0.0, 0.0),
        u=(0.0, 1.0, 0.0),
        half_extents=(TABLE_WIDTH / 2 + NET_OVERHANG, radius),
        two_sided=True,
        restitution=restitution,
        friction=friction,
        edge_radius=radius,
        name=name,
    )


def table_edges(restitution=0.7, friction=0.2, *, radius=0.01) -> tuple[Surface, ...]:
    """The four edges of :func:`table`, round rods with a material of their own.

    >>> [rod.name for rod in table_edges()]
    ['table edge -x', 'table edge +x', 'table edge -y', 'table edge +y']
    """
    rods = []
    for axis, (half, length) in enumerate(
        ((TABLE_LENGTH / 2, TABLE_WIDTH / 2), (TABLE_WIDTH / 2, TABLE_LENGTH / 2))
    ):
        across = jnp.eye(3)[axis]
        for sign in "-+":
            rods.append(
                Surface.create(
                    center=float(f"{sign}1") * (half - radius) * across
                    + jnp.array([0.0, 0.0, TABLE_HEIGHT - radius]),
                    u=jnp.eye(3)[1 - axis],
                    half_extents=(length, radius),
                    two_sided=True,
                    restitution=restitution,
                    friction=friction,
                    edge_radius=radius,
                    name=f"table edge {sign}{'xy'[axis]}",
                )
            )
    return tuple(rods)


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
    edge_radius=None,
    name="paddle",
) -> Surface:
    """A round paddle, both faces reflecting, driven by the path given to the simulator.

    With an ``edge_radius``, m, it is that thick on either side, and has a rim to be hit.

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
        edge_radius=edge_radius,
        name=name,
        driven=True,
    )


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
        distance: of the centre from the plane, signed, or from the skin of a plate, m.
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

    @property
    def over_face(self) -> jax.Array | None:
        """Whether the face of a plate is what is nearest, () bool; None without plates."""
        return None if self.normal is None else jnp.all(self.normal[:2] == 0, axis=0)


@jax.jit
def proximity(patch: Patch, jet: jax.Array, ball: Body, flat: jax.Array | None = None) -> Proximity:
    """How a ball stands to a patch, or to a plate.

    With R the rotation of the surface and c its centre: local = Rᵀ (x − c).

    Args:
        jet: coordinates of the surface and their rates, (2, 12, …).
        flat: where a plate counts as its face alone, bool.
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
    near = Proximity(distance, rate, side, jnp.minimum(in_rectangle, in_disk), local)
    if patch.edge_radius is None:
        return near
    moves = [_along(jnp.unstack(turning, axis=1), offset), _along(jnp.unstack(axes, axis=1), speed)]
    return _plate(patch, near, sum(moves), False if flat is None else flat)


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
    face = jnp.stack([jnp.zeros_like(near.side), jnp.zeros_like(near.side), near.side])
    normal = jnp.where(round_ & (size > 0), normal, face)
    return Proximity(
        distance=jnp.where(round_, size - radius, near.distance),
        rate=jnp.where(round_, jnp.sum(normal * moves, axis=0), near.rate),
        side=jnp.where(round_, 1.0, near.side),
        margin=jnp.where(round_ & ~jnp.asarray(flat), jnp.inf, near.margin),
        local=near.local,
        normal=normal,
        edge_radius=radius,
    )


def contact_frame(jet: jax.Array, near: Proximity, radius: jax.Array) -> tuple[Vector, Vector]:
    """The unit normal towards the ball, and the velocity of the surface where it is touched, m/s.

    contact = x − r n,  v_s = ċ + Ṙ Rᵀ (contact − c).
    """
    (_, axes), (moving, turning) = _parts(jet[0]), _parts(jet[1])
    if near.normal is not None:
        arm = near.local - radius * near.normal
        normal = _along(jnp.unstack(axes), near.normal)
        return Vector.of(normal), Vector.of(moving + _along(jnp.unstack(turning), arm))
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
