"""A jointed arm that carries the paddle: joint trajectories in, paddle poses and torques out."""

import dataclasses
import functools
from pathlib import Path as File
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim.motion import base
from diffsim.motion.mjcf import chain
from diffsim.physics.state import Pose
from diffsim.physics.surfaces import TABLE_HEIGHT, TABLE_LENGTH, TABLE_WIDTH
from diffsim.physics.vector import Vector

SCENE = File(__file__).with_name("arm.xml")  # also for MuJoCo: ball, table and net are in it


@struct.dataclass
class Arm:
    """A chain of hinges, each about the z axis of its link, with the paddle at its end.

    MuJoCo reads the file; what it makes of it are the numbers here. The chain is walked in scalar
    code, so that a batch becomes plain loops; MuJoCo's own kinematics
    and inverse dynamics, in C, are what the tests compare it with.

    Attributes:
        offset: origin of each link in the frame of the one before, (n, 3), m.
        turn: frame of each link in that of the one before, at joint angle zero, (n, 3, 3).
        mass: of each link, (n,), kg.
        center: of mass, in the link's frame, (n, 3), m.
        inertia: about the centre of mass, in the link's frame, (n, 3, 3), kg m².
        armature: inertia of each motor, seen at its joint, (n,), kg m².
        damping: viscous friction of each joint, (n,), N m s/rad.
        limits: lowest and highest angle of each joint, (n, 2), rad.
        torque_limit: largest torque of each motor, (n,), N m.
        tool_offset: centre of the paddle in the last link's frame, (3,), m.
        tool_turn: paddle's frame in that of the last link, (3, 3); its normal is the third column.
        gravity: (3,), m/s².
    """

    offset: jax.Array
    turn: jax.Array
    mass: jax.Array
    center: jax.Array
    inertia: jax.Array
    armature: jax.Array
    damping: jax.Array
    limits: jax.Array
    torque_limit: jax.Array
    tool_offset: jax.Array
    tool_turn: jax.Array
    gravity: jax.Array

    @classmethod
    def load(cls, file: File = SCENE, site: str = "paddle") -> "Arm":
        """The chain of hinges that carries a site of an MJCF file, from the world outwards.

        Args:
            file: MJCF; the default is a Barrett WAM, whose numbers and their sources it tells.
            site: its frame is the paddle's, its z axis the normal.

        Raises:
            ValueError: no such file or site; a joint on the way that is not a hinge about the z
                axis through its link's origin; two joints in one body.

        >>> arm = Arm.load()
        >>> arm.joint_count, round(float(arm.mass.sum()), 1)
        (7, 19.6)
        """
        fields = chain(str(file), site)
        return cls(**{name: jnp.asarray(value, float) for name, value in fields.items()})

    @property
    def joint_count(self) -> int:
        return self.mass.shape[-1]

    def pose(self, place: jax.Array, rate: jax.Array) -> Pose:
        """The paddle at joint angles (n,), rad, that change at ``rate``, rad/s."""
        last, _ = _links(self, place, rate, jnp.zeros_like(place))
        tool = last.moved(self.tool_offset, self.tool_turn)
        return Pose(
            position=tool.origin.array,
            rotation=jnp.stack([axis.array for axis in tool.axes], axis=1),
            velocity=tool.velocity.array,
            angular_velocity=tool.spin.array,
        )

    def skeleton(self, place: jax.Array) -> jax.Array:
        """Origins of the links at joint angles (n,), rad, and the paddle's centre: (n + 1, 3)."""
        still = jnp.zeros_like(place)
        last, links = _links(self, place, still, still)
        tool = last.moved(self.tool_offset, self.tool_turn).origin
        return jnp.concatenate([links.origin.array, tool.array[None]])  # (n, 3) of a scan

    def torques(self, place: jax.Array, rate: jax.Array, bend: jax.Array) -> jax.Array:
        """What the motors must give for joint accelerations ``bend``: inverse dynamics.

        τ = M(q) q̈ + c(q, q̇) + damping q̇ by the recursive Newton–Euler algorithm (Luh, Walker &
        Paul, J. Dyn. Sys. Meas. Control 102 (1980) 69), in the world's frame. The air is left out.

        Returns:
            (n,), N m.
        """
        last, links = _links(self, place, rate, bend)

        def inwards(outer, part):
            force, moment, origin = outer
            link, mass, center, inertia = part
            arm = link.vector(center)
            push = mass * link.acceleration_at(arm)
            twist = link.times(inertia, link.angular_acceleration)
            twist += link.spin.cross(link.times(inertia, link.spin))
            moment = moment + (origin - link.origin).cross(force) + arm.cross(push) + twist
            return (force + push, moment, link.origin), link.axes[2].dot(moment)

        nothing = Vector.of(jnp.zeros(3, place.dtype))
        parts = links, self.mass, self.center, self.inertia
        start = nothing, nothing, last.origin
        torques = jax.lax.scan(inwards, start, parts, reverse=True)[1]
        motor = self.armature * bend + self.damping * rate
        return torques + motor


@struct.dataclass
class ArmPath:
    """A paddle's motion at the end of an arm: ``path(t)`` is its :class:`Pose`, as of any path.

    Attributes:
        joints: joint angles over time, rad.
        arm: what they move.
    """

    joints: base.Path
    arm: Arm

    @property
    def duration(self) -> jax.Array:
        return self.joints.duration

    @property
    def breaks(self) -> jax.Array:
        return self.joints.breaks

    # Recomputed in reverse mode: what the chain of links leaves on the way is much to keep.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def __call__(self, time: jax.Array | float) -> Pose:
        """The pose at one time (s), a scalar of the path's dtype."""
        time = base.instant(time, self.duration.dtype)
        return self.arm.pose(*jax.jvp(self.joints.coordinates, (time,), (jnp.ones_like(time),)))

    rates = base.Path.rates

    def motion(self, time: jax.Array | float) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Joint angles, their rates and their accelerations at one time, each (n,), rad and s."""
        time = base.instant(time, self.duration.dtype)
        one = jnp.ones_like(time)

        def moving(t):
            return jax.jvp(self.joints.coordinates, (t,), (one,))

        (place, rate), (_, bend) = jax.jvp(moving, (time,), (one,))
        return place, rate, bend

    def skeleton(self, time: jax.Array | float) -> jax.Array:
        """Origins of the links and the paddle's centre at one time, (n + 1, 3), m."""
        time = base.instant(time, self.duration.dtype)
        return self.arm.skeleton(self.joints.coordinates(time))

    def torques(self, time: jax.Array | float) -> jax.Array:
        """What the motors must give at one time, (n,), N m."""
        return self.arm.torques(*self.motion(time))


@struct.dataclass
class ArmGenerator:
    """Turns weights into an :class:`ArmPath`: a generator for the joints, and the arm.

    >>> from diffsim.motion import Polynomial
    >>> arm = Arm.load()
    >>> swing = ArmGenerator.create(Polynomial.create(axes=7, home=HOME, scale=[0.3] * 7), arm)
    >>> path = swing(jnp.zeros(swing.weight_count))
    >>> [round(float(x), 2) + 0.0 for x in path(0.0).position]
    [-1.6, 0.0, 0.98]

    Attributes:
        joints: weights to joint angles.
        arm: what they move.
    """

    joints: base.Generator
    arm: Arm

    @classmethod
    def create(cls, joints: base.Generator, arm: Arm) -> "ArmGenerator":
        """A generator and an arm that fit.

        Raises:
            ValueError: one has more coordinates than the other has joints; the home is beyond
                the joints' limits.
        """
        if joints.axes != arm.joint_count:
            raise ValueError(f"joints: expected {arm.joint_count} coordinates, got {joints.axes}")
        low, high = np.asarray(arm.limits).T
        home = np.asarray(joints.home)
        if np.any((home < low) | (home > high)):
            raise ValueError(f"joints: expected a home within {low} and {high}, got {home}")
        return cls(joints, arm)

    @property
    def weight_count(self) -> int:
        return self.joints.weight_count

    @property
    def starts_at_rest(self) -> bool:
        return self.joints.starts_at_rest

    def __call__(self, weights: jax.Array) -> ArmPath:
        """The path of these weights, (weight_count,)."""
        joints = self.joints(weights)
        arm = jax.tree.map(lambda leaf: leaf.astype(joints.duration.dtype), self.arm)
        return ArmPath(joints, arm)


# The paddle upright at (-1.6, 0, 0.98) m, its normal along (1, 0, 0.15), the handle upwards.
HOME = (0.132, 0.982, -0.4, 1.643, -2.147, -0.673, -0.93)


# How fast a joint may turn, rad/s: an assumption.
JOINT_SPEED = 8.0
SHARE = 0.9  # of a limit, from which on it costs something
# How near to the table a link's axis and the paddle's middle may come, m: about their radii.
LINK_RADIUS = 0.05
PADDLE_RADIUS = 0.08


def joint_costs(path: ArmPath, *, share: Any = SHARE, points: int = 16) -> dict[str, jax.Array]:
    """What a motion asks of the arm, over the middles of equal intervals.

    ``torque``: mean_t mean_j (τ_j / limit_j)². ``limits``: mean_t Σ max(0, x − share)² over the
    shares x of :func:`joint_load`: zero while the limits are kept, and once differentiable
    throughout.

    Returns:
        Two numbers, each ().
    """
    dtype = path.duration.dtype
    middles = (jnp.arange(base.count("points", points, 1), dtype=dtype) + 0.5) / points
    torque, shares = jax.vmap(lambda time: _shares(path, time))(middles * path.duration)
    share = jnp.asarray(share, dtype)
    # The square is compared, so that the slope of |x| at zero is never asked for.
    over = jnp.sqrt(jnp.maximum(shares**2, share**2)) - share
    return {"torque": jnp.mean(torque**2), "limits": jnp.mean(jnp.sum(over**2, axis=1))}


def joint_load(path: ArmPath, *, points: int = 64) -> jax.Array:
    """The largest share of any limit of the arm that a motion takes: it is feasible up to 1.

    Over evenly spaced times, both ends included: distances of the angles from the middles of
    their ranges, rates, torques, and how near links and paddle come to the table. Infinite
    unless the motion ends at rest.

    Returns:
        The load, (), dimensionless.
    """
    grid = jnp.linspace(0.0, 1.0, base.count("points", points, 2), dtype=path.duration.dtype)
    _, shares = jax.vmap(lambda time: _shares(path, time))(grid * path.duration)
    _, rate, _ = path.motion(path.duration)
    return jnp.where(jnp.all(jnp.abs(rate) < 0.05), jnp.max(jnp.abs(shares)), jnp.inf)


def _shares(path: ArmPath, time: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Torques as shares of their limits, (n,), and all shares, (5 n,), at one time."""
    arm = path.arm
    place, rate, bend = path.motion(time)
    torque = arm.torques(place, rate, bend) / arm.torque_limit
    middle, half = jnp.mean(arm.limits, axis=1), (arm.limits[:, 1] - arm.limits[:, 0]) / 2
    bones = arm.skeleton(place)
    near = jnp.concatenate([(bones[:-1] + bones[1:]) / 2, bones[1:]])  # middles and ends of links
    radius = np.append(np.full(len(near) - 1, LINK_RADIUS), PADDLE_RADIUS).astype(place.dtype)
    edge = np.array([TABLE_LENGTH / 2, TABLE_WIDTH / 2, TABLE_HEIGHT], place.dtype)
    inside = edge - jnp.concatenate([jnp.abs(near[:, :2]), near[:, 2:]], axis=1)
    table = jnp.maximum(2 + jnp.min(inside, axis=1) / radius, 0.0)  # 1 one radius off, 2 at it
    return torque, jnp.concatenate([(place - middle) / half, rate / JOINT_SPEED, torque, table])


@struct.dataclass
class _Link:
    """A frame and how it moves, in the world's frame."""

    axes: tuple[Vector, ...]
    origin: Vector
    velocity: Vector
    spin: Vector
    acceleration: Vector  # less gravity
    angular_acceleration: Vector

    def vector(self, local: Any) -> Vector:
        x, y, z = self.axes
        return x * local[0] + y * local[1] + z * local[2]

    def times(self, matrix: jax.Array, vector: Vector) -> Vector:
        """R matrix Rᵀ vector."""
        x, y, z = (axis.dot(vector) for axis in self.axes)
        return self.vector([row[0] * x + row[1] * y + row[2] * z for row in matrix])

    def acceleration_at(self, arm: Vector) -> Vector:
        swing = self.spin.cross(self.spin.cross(arm))
        return self.acceleration + self.angular_acceleration.cross(arm) + swing

    def moved(self, offset: jax.Array, turn: jax.Array) -> "_Link":
        """A frame fixed to this one."""
        arm = self.vector(offset)
        return _Link(
            axes=tuple(self.vector(turn[:, j]) for j in range(3)),
            origin=self.origin + arm,
            velocity=self.velocity + self.spin.cross(arm),
            spin=self.spin,
            acceleration=self.acceleration_at(arm),
            angular_acceleration=self.angular_acceleration,
        )

    def hinged(self, angle: jax.Array, rate: jax.Array, bend: jax.Array) -> "_Link":
        """This frame turned about its z axis."""
        x, y, z = self.axes
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        turning = z * rate
        return dataclasses.replace(
            self,
            axes=(x * cosine + y * sine, y * cosine - x * sine, z),
            spin=self.spin + turning,
            angular_acceleration=self.angular_acceleration + z * bend + self.spin.cross(turning),
        )


def _links(arm: Arm, place: jax.Array, rate: jax.Array, bend: jax.Array) -> tuple[_Link, _Link]:
    """The last link, and all of them, from the world outwards.

    A loop: written out, the seven links take XLA many times as long to compile.
    """
    axes = tuple(Vector.of(axis) for axis in jnp.eye(3, dtype=place.dtype))
    still = Vector.of(jnp.zeros(3, place.dtype))
    world = _Link(axes, still, still, still, -Vector.of(arm.gravity), still)

    def outwards(link, joint):
        offset, turn, *motion = joint
        link = link.moved(offset, turn).hinged(*motion)
        return link, link

    return jax.lax.scan(outwards, world, (arm.offset, arm.turn, place, rate, bend))


def arm_generator(kind: Any, duration: Any = 1.1, scale: float = 0.3, **extra: Any) -> ArmGenerator:
    """The shipped arm, its joints driven by a generator of one kind from :data:`HOME`.

    >>> from diffsim.motion import MinimumJerk
    >>> arm_generator(MinimumJerk, via_times=[0.6]).weight_count
    21
    """
    arm = Arm.load()
    count = arm.joint_count
    settings = {"duration": duration, "home": HOME, "scale": [scale] * count, "axes": count}
    return ArmGenerator.create(kind.create(**settings, **extra), arm)
