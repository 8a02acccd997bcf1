"""Hit a served table-tennis ball back so that it lands on a target."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim._linalg import safe_sqrt
from diffsim._types import ArrayLike
from diffsim.motion import BSpline, Generator, Limits, Path, limit_penalty, load
from diffsim.physics import (
    BallState,
    Rollout,
    Status,
    Surface,
    World,
    floor,
    net,
    paddle,
    simulate,
    table,
)
from diffsim.physics.surfaces import NET_CLEARANCE, NET_HEIGHT, TABLE_HEIGHT
from diffsim.tasks.randomise import Randomisation, Serve, uniform

# What the paddle may do. Its robot keeps to its side of the net, above the table by the paddle's
# radius, and is slower than two that were built: one of 22 m/s in swings of 0.8 s from rest to rest
# (Hardware design for table tennis robot capable of beating professional players, arXiv 2606.26643,
# abstract), a mean of 2 · 22 / 0.8 = 55 m/s²; and one of 19 m/s and 300 m/s² at the paddle (Nguyen,
# Cancio & Kim, arXiv 2505.01617; figures as told by MIT News, 12 May 2025). How much slower it is,
# 5 m/s, and how fast it turns, 10 rad/s, are assumed: for the latter nothing was found published.
ROBOT = {
    "speed": 5.0,
    "acceleration": 55.0,
    "angular_speed": 10.0,
    "box": ((-2.4, -1.0, 0.85), (-0.2, 1.0, 1.65)),
}
SPIN = 30.0  # rad/s; a usual one
# A Bézier curve from rest at home to rest at home, and how long it takes, s.
SWING: dict[str, Any] = {"control_points": 4, "degree": 7, "returns": True}
SWING_TIME = 1.6


@struct.dataclass
class Serves:
    """The box serves are drawn from: uniform but for the spin, which is normal.

    A serve is aimed, in a vacuum, from ``start`` at ``bounce`` on the robot's half. The speeds
    span the 5th to 95th percentile of real rallies (3.9 to 7.8 m/s, median 5.5). Their spin has
    median 54 rad/s, for which ``spin`` = 35; as the network does not see it, the default is less.

    Attributes:
        start: lowest and highest position at the stroke, (2, 3), m.
        bounce: lowest and highest (x, y) of the aimed first bounce, (2, 2), m.
        speed: lowest and highest horizontal speed, (2,), m/s.
        spin: standard deviation of each component, (), rad/s.
    """

    start: jax.Array
    bounce: jax.Array
    speed: jax.Array
    spin: jax.Array

    @classmethod
    def create(
        cls,
        start=((1.2, -0.4, 1.05), (1.4, 0.4, 1.25)),
        bounce=((-1.05, -0.4), (-0.6, 0.4)),
        speed=(3.9, 7.8),
        spin=10.0,
    ) -> "Serves":
        """Serves from checked ranges.

        Raises:
            ValueError: a wrong shape, a lower end above its upper end, a negative spin.

        >>> Serves.create(speed=(6.0, 5.0))
        Traceback (most recent call last):
        ...
        ValueError: speed: expected the lower end first, got [6.0, 5.0]
        """
        return cls(
            start=_check.ends("start", start, (2, 3)),
            bounce=_check.ends("bounce", bounce, (2, 2)),
            speed=_check.ends("speed", speed),
            spin=_check.in_range("spin", spin, 0.0),
        )

    def sample(self, key: jax.Array, gravity: jax.Array, height: jax.Array) -> BallState:
        """One serve, aimed at a bounce with the ball's centre at ``height``."""
        keys = jax.random.split(key, 4)
        ranges = (self.start, self.bounce, self.speed)
        start, bounce, speed = map(uniform, keys[:3], ranges)
        way = jnp.append(bounce, height) - start
        time = jnp.linalg.norm(way[:2]) / speed
        velocity = way / time - 0.5 * gravity * time
        spin = self.spin * jax.random.normal(keys[3], (3,), start.dtype)
        return BallState(start, velocity, spin)


@struct.dataclass
class HitToTarget:
    """Return a serve to a target on the other half, by one paddle trajectory.

    The loss is the distance of the return's landing from the target, m, and three dense terms:
    how far the ball meets the paddle's plane from its middle, how far it would pass below the
    net, and by how much the swing takes more than 80 % of a limit of the robot. To have a slope
    wherever the ball goes, the loss is taken in a practice world, whose table and paddle go on
    beyond their edges, without a net, and whose paddle is taken away after the hit. A ball that
    meets the real paddle and clears the real net lands at the same place in both.
    :meth:`measures` reports what happens in the real world.

    By default the swing is a Bézier curve of degree 7 from rest at home to rest at home, and the
    robot keeps to its side of the table, above it: see :data:`ROBOT`.

    Attributes:
        world: the real world: table, net, floor and paddle.
        generator: weights to paddle path.
        serves: where serves come from.
        target: (x, y) on the table, (2,), m; where they are drawn, the middle.
        targets: lowest and highest (x, y) of targets drawn with the serve, which the network then
            sees, (2, 2), m; or None.
        randomisation: of world and view, or None.
        tolerance: half extents of the area about the target that is as good as it, (2,), m; or
            None.
        hurry_weight: loss for each second from hit to landing; or None.
        miss_weight: loss for each metre that the ball passes outside the paddle's middle.
        net_weight: loss for each metre that the ball passes too low over the net.
        limit_weight: loss for each unit of mean squared excess over 80 % of a limit, as a share.
        limits: of the robot that swings the paddle.
        duration: s; half of it for the serve to arrive, half for the return to land.
        step: longest time step, s.
        observe_spin: whether the network sees the spin.
    """

    world: World
    generator: Generator
    serves: Serves
    target: jax.Array
    targets: jax.Array | None
    randomisation: Randomisation | None
    tolerance: jax.Array | None
    hurry_weight: jax.Array | None
    miss_weight: jax.Array
    net_weight: jax.Array
    limit_weight: jax.Array
    limits: Limits
    observe_spin: bool = struct.field(pytree_node=False, default=False)
    duration: float = struct.field(pytree_node=False, default=2.4)
    step: float = struct.field(pytree_node=False, default=0.1)

    @classmethod
    def create(
        cls,
        world: World | None = None,
        generator: Generator | None = None,
        serves: Serves | None = None,
        *,
        target: ArrayLike = (0.9, 0.0),
        targets: ArrayLike | None = None,
        randomisation: Randomisation | None = None,
        tolerance: ArrayLike | None = None,
        hurry_weight: ArrayLike | None = None,
        miss_weight: ArrayLike = 2.0,
        net_weight: ArrayLike = 2.0,
        limit_weight: ArrayLike = 50.0,
        limits: Limits | None = None,
        observe_spin: bool = False,
        duration: float = 2.4,
        step: float = 0.1,
    ) -> "HitToTarget":
        """The task with checked settings.

        Raises:
            ValueError: the world has not exactly one driven surface; a wrong shape or sign.

        >>> task = HitToTarget.create()
        >>> task.weight_count, task.observe(task.sample(jax.random.key(0))).shape
        (24, (6,))
        """
        if world is None:
            bat = paddle(radius=0.08, restitution=0.78, friction=0.4)
            world = World.create([table(0.9, 0.25), net(), floor(), bat])
        if world.driven_count != 1:
            raise ValueError(f"world: expected one driven surface, got {world.driven_count}")
        if generator is None:
            generator = BSpline.create(
                **SWING,
                duration=SWING_TIME,
                home=(-1.55, 0.0, 0.98, 0.0, 0.0, 0.0),
                normal=(1.0, 0.0, 0.15),
                scale=(0.3, 0.3, 0.3, 0.5, 0.5, 0.5),
            )
        if targets is not None:
            targets = _check.ends("targets", targets, (2, 2))
            target = targets.mean(axis=0)
            randomisation = randomisation or Randomisation.create()
        if tolerance is not None:
            tolerance = _check.in_range(
                "tolerance", _check.floating("tolerance", tolerance, (2,)), 0.0
            )
        if hurry_weight is not None:
            hurry_weight = _check.in_range("hurry_weight", hurry_weight, 0.0)
        return cls(
            world=world,
            targets=targets,
            randomisation=randomisation,
            tolerance=tolerance,
            hurry_weight=hurry_weight,
            generator=generator,
            serves=Serves.create() if serves is None else serves,
            target=_check.in_range("target", _check.floating("target", target, (2,))),
            miss_weight=_check.in_range("miss_weight", miss_weight, 0.0),
            net_weight=_check.in_range("net_weight", net_weight, 0.0),
            limit_weight=_check.in_range("limit_weight", limit_weight, 0.0),
            limits=Limits.create(**ROBOT) if limits is None else limits,
            observe_spin=bool(observe_spin),
            duration=float(duration),
            step=float(step),
        )

    @property
    def weight_count(self) -> int:
        return self.generator.weight_count

    def sample(self, key: jax.Array) -> BallState:
        """A serve; the ball is the same whatever else is drawn with it."""
        gravity, height = self.world.gravity, TABLE_HEIGHT + self.world.ball.radius
        ball = self.serves.sample(key, gravity, height)
        random = self.randomisation
        if random is None:
            return ball
        keys = jax.random.split(jax.random.fold_in(key, 1), 3)
        return Serve(
            **vars(ball),
            world=random.world(keys[0], self.world),
            target=self.target if self.targets is None else uniform(keys[1], self.targets),
            seen=random.view(keys[2], ball, gravity),
        )

    def observe(self, start: BallState) -> jax.Array:
        """Position and velocity, scaled to order 1, and spin and target where they are seen."""
        target = start.target if isinstance(start, Serve) else self.target
        seen = start.seen if isinstance(start, Serve) else start
        middle, half = self.serves.start.mean(axis=0), jnp.asarray([0.1, 0.4, 0.1])
        usual, spread = jnp.asarray([-5.5, 0.0, 1.0]), jnp.asarray([1.2, 0.8, 1.0])
        place = (seen.position - middle) / half.astype(middle.dtype)
        parts = [place, (seen.velocity - usual) / spread]
        if self.observe_spin:
            parts.append(seen.spin / SPIN)
        if self.targets is not None:
            low, high = self.targets
            parts.append((target - self.target) / (high - low))
        return jnp.concatenate(parts)

    def of(self, start: BallState) -> "HitToTarget":
        """The task of one serve: with the world and the target that were drawn for it."""
        if not isinstance(start, Serve):
            return self
        return dataclasses.replace(self, world=start.world, target=start.target)

    def play(self, weights: jax.Array, start: BallState, step: float = 0.02) -> Rollout:
        """What really happens, on a grid fine enough to draw."""
        path = self.generator(weights)
        return simulate(self.of(start).world, start, path, duration=self.duration, step=step)

    def loss(self, weights: jax.Array, start: BallState) -> jax.Array:
        return sum(self.terms(weights, start).values(), start=jnp.zeros((), weights.dtype))

    def terms(self, weights: jax.Array, start: BallState) -> dict[str, jax.Array]:
        self, path = self.of(start), self.generator(weights)
        flight = simulate(
            dataclasses.replace(self.world, surfaces=self._practice()),
            start,
            path,
            duration=self.duration,
            step=self.step,
            max_impacts=4,
        )
        impacts, states, swing = flight.impacts, flight.states, self.duration / 2
        hits = impacts.valid & (impacts.surface == 1)
        hit = jnp.any(hits)
        # A ball that does not meet the paddle's plane is treated as meeting it half way.
        middle = jax.tree.map(lambda leaf: leaf[leaf.shape[0] // 2], states)
        met = _first(hits, impacts.after, middle)
        met_at = jnp.where(hit, jnp.sum(jnp.where(_earliest(hits), impacts.time, 0.0)), swing)
        bounces = impacts.valid & (impacts.surface == 0) & (impacts.time > met_at)
        landing = _first(bounces, impacts.before, flight.final).position

        radius = self.world.ball.radius.astype(weights.dtype)
        off_middle = _length(met.position - path(met_at).position)
        spare = off_middle - radius  # the centre stands one radius off the plane
        miss = jnp.maximum(spare - 0.5 * self._paddle.disk_radius.astype(weights.dtype), 0.0)

        # Height over the net if the ball flew there in a vacuum, against a radius and a clearance.
        vx, vz = met.velocity[0], met.velocity[2]
        forward = vx > 0.5
        time = jnp.where(forward, -met.position[0] / jnp.where(forward, vx, 1.0), 0.0)
        gravity = self.world.gravity[2].astype(weights.dtype)
        height = met.position[2] + vz * time + 0.5 * gravity * time**2
        low = jnp.maximum(TABLE_HEIGHT + NET_HEIGHT + radius + NET_CLEARANCE - height, 0.0)
        off = landing[:2] - self.target.astype(weights.dtype)
        if self.tolerance is not None:
            off = jnp.maximum(jnp.abs(off) - self.tolerance.astype(weights.dtype), 0.0)
        hurry = {}
        if self.hurry_weight is not None:
            landed = jnp.sum(jnp.where(_earliest(bounces), impacts.time, 0.0))
            flown = jnp.where(jnp.any(bounces), landed, self.duration) - met_at
            hurry = {"hurry": self.hurry_weight.astype(weights.dtype) * flown}
        return {
            "landing": _length(off),
            **hurry,
            "miss": self.miss_weight.astype(weights.dtype) * miss,
            "net": self.net_weight.astype(weights.dtype) * jnp.where(hit & forward, low, 0.0),
            **self.costs(path),
        }

    def costs(self, path: Path) -> dict[str, jax.Array]:
        """The summands of the loss that are the motion's alone."""
        beyond = limit_penalty(path, self.limits, share=0.8, points=16)
        return {"limits": self.limit_weight.astype(beyond.dtype) * beyond}

    def load(self, path: Path) -> jax.Array:
        """The largest share of any limit that the swing takes, (): it is feasible up to 1."""
        return load(path, self.limits)

    def measures(self, weights: jax.Array, start: BallState) -> dict[str, jax.Array]:
        """In the real world: was the ball hit, did it land legally, how far off, and where, m.

        ``sound`` says whether the simulation ended with status OK, ``load`` which share of the
        robot's limits the swing takes, see :meth:`load`, and ``feasible`` whether that is all.

        A return is legal if its next impact after the paddle is on the other half of the table.
        ``landing`` is where that impact is, (3,), NaN if there is none, ``flight_time`` how long
        it flew there if it is legal, s.
        """
        self, rollout = self.of(start), self.play(weights, start, self.step)
        impacts = rollout.impacts
        names = [surface.name for surface in self.world.surfaces]
        bat = next(i for i, surface in enumerate(self.world.surfaces) if surface.driven)
        hits = _earliest(impacts.valid & (impacts.surface == bat))
        next_one = jnp.concatenate([jnp.zeros(1, bool), hits[:-1]]) & impacts.valid
        position = _first(next_one, impacts.before, rollout.final).position
        on_table = jnp.any(next_one & (impacts.surface == names.index("table")))
        legal = on_table & (position[0] > 0)
        flown = jnp.sum(jnp.where(next_one, impacts.time, 0.0) - jnp.where(hits, impacts.time, 0.0))
        error = jnp.linalg.norm(position[:2] - self.target.astype(position.dtype))
        share = self.load(self.generator(weights))
        return {
            "hit": jnp.any(hits),
            "legal": legal,
            "landing_error": jnp.where(legal, error, jnp.nan),
            "sound": rollout.status == Status.OK,
            "feasible": share <= 1,
            "load": share,
            "flight_time": jnp.where(legal, flown, jnp.nan),
            "landing": jnp.where(jnp.any(next_one), position, jnp.nan),
        }

    @property
    def _paddle(self) -> Surface:
        return next(surface for surface in self.world.surfaces if surface.driven)

    def _practice(self) -> tuple[Surface, Surface]:
        """Table and paddle without edges; the paddle is gone after its hit."""
        ground = next(surface for surface in self.world.surfaces if surface.name == "table")
        return (
            dataclasses.replace(ground, half_extents=jnp.full(2, jnp.inf)),
            dataclasses.replace(
                self._paddle, disk_radius=jnp.asarray(jnp.inf), once=jnp.asarray(True)
            ),
        )


def _earliest(valid: jax.Array) -> jax.Array:
    """The mask of the first True alone."""
    return valid & (jnp.cumsum(valid) == 1)


def _first(valid: jax.Array, rows, otherwise):
    """The first valid row of each leaf, or ``otherwise`` where there is none."""
    first = _earliest(valid)

    def pick(leaf, default):
        found = jnp.sum(jnp.where(first[:, None], leaf, 0), axis=0)
        return jnp.where(jnp.any(valid), found, default)

    return jax.tree.map(pick, rows, otherwise)


def _length(vector: jax.Array) -> jax.Array:
    return safe_sqrt(jnp.sum(vector**2))
