"""Surfaces a ball can hit: flat patches and round-edged plates, fixed or carried along a path."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _check
from diffsim.physics.state import Pose
from diffsim.physics.vector import orthonormal

Path = Callable[[jax.Array], Pose]

TABLE_LENGTH, TABLE_WIDTH, TABLE_HEIGHT = 2.74, 1.525, 0.76
NET_HEIGHT, NET_OVERHANG = 0.1525, 0.1525
NET_CLEARANCE = 0.04  # m; between ball and net, less than which costs


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
    return _rod(
        TABLE_WIDTH / 2 + NET_OVERHANG,
        radius,
        center=(0.0, 0.0, TABLE_HEIGHT + NET_HEIGHT - radius),
        normal=(1.0, 0.0, 0.0),
        u=(0.0, 1.0, 0.0),
        restitution=restitution,
        friction=friction,
        name=name,
    )


def table_edges(restitution=0.7, friction=0.2, *, radius=0.01) -> tuple[Surface, ...]:
    """The four edges of :func:`table`, round rods with a material of their own.

    >>> [rod.name for rod in table_edges()]
    ['table edge -x', 'table edge +x', 'table edge -y', 'table edge +y']
    """
    across, low = jnp.eye(3), jnp.array([0.0, 0.0, TABLE_HEIGHT - radius])
    halves = (TABLE_LENGTH / 2, TABLE_WIDTH / 2)
    return tuple(
        _rod(
            halves[1 - axis],
            radius,
            center=sign * (halves[axis] - radius) * across[axis] + low,
            u=across[1 - axis],
            restitution=restitution,
            friction=friction,
            name=f"table edge {'+-'[sign < 0]}{'xy'[axis]}",
        )
        for axis in (0, 1)
        for sign in (-1.0, 1.0)
    )


def _rod(half_length: float, radius, **settings: Any) -> Surface:
    """A round rod along u, whose settings are those of :meth:`Surface.create`."""
    return Surface.create(
        half_extents=(half_length, radius), two_sided=True, edge_radius=radius, **settings
    )


def floor(restitution=0.8, friction=0.4, *, height=0.0, name="floor") -> Surface:
    """The unbounded floor plane at ``height``, m.

    >>> floor().name
    'floor'
    """
    return Surface.create(
        center=(0.0, 0.0, height), restitution=restitution, friction=friction, name=name
    )


def paddle(
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

    >>> paddle(radius=0.1, restitution=0.75, friction=0.4).driven
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
