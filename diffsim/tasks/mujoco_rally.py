"""One rally of the arm in MuJoCo: a black box from trajectory weights to a loss, in NumPy alone."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.motion.arm import JOINT_SPEED, SCENE, SHARE, ArmGenerator
from diffsim.physics import BallState
from diffsim.physics.flight import ConstantCoefficients
from diffsim.physics.surfaces import NET_CLEARANCE, NET_HEIGHT, TABLE_HEIGHT
from diffsim.tasks import mujoco_contact
from diffsim.tasks.arm import ArmHitsTarget

STEP = 2e-3  # s; of the arm and of free flight
TERMS = ("landing", "miss", "net", "torque", "limits")
MEASURES: dict[str, type] = {"hit": bool, "legal": bool, "landing_error": float}
_EVERY = 10  # steps between two looks at the torques
_WIDE, _FLAT = 0.6, 5.0  # m; radius of the practice paddle, half extents of the practice table


@dataclasses.dataclass(frozen=True)
class MuJoCoRally:
    """A served ball and the swing of an arm, played by MuJoCo's C engine.

    The arm is driven by servos on joint angle and rate (see the MJCF), to which the trajectory is
    given every 2 ms and whose torques are held to the motors' limits, so that it follows about as
    well as a real one. The ball flies with MuJoCo's own drag and Magnus force. Near a surface the
    step is a twentieth of the time of contact; the contact is tuned to the world's restitution
    and friction (:mod:`diffsim.tasks.mujoco_contact`).

    The loss is taken in a practice world as :class:`~diffsim.tasks.HitToTarget` has: a wide
    paddle, a wide table, no net. It holds arrays and numbers only: it can be pickled, and a worker
    loads the scene once.

    Attributes:
        place, rate: joint angles and rates at every step as affine maps of the weights, the
            constant first, (steps, joints, 1 + weights), rad and rad/s.
        limits: of the joints, (joints, 2), rad.
        numbers: of the world, as MuJoCo needs them, by name.
        weights: of the terms of the loss, by name.
        target: (x, y), m.
        swing: s; for the serve to arrive, and again for the return to land.
    """

    place: np.ndarray
    rate: np.ndarray
    limits: np.ndarray
    numbers: tuple[tuple[str, Any], ...]
    weights: dict[str, float]
    target: tuple[float, float]
    swing: float

    @classmethod
    def create(cls, task: ArmHitsTarget) -> "MuJoCoRally":
        """The rally of a task, its world carried over to MuJoCo.

        Raises:
            ValueError: the arm is not the shipped one; joint angles that are not affine in the
                weights; a restitution that depends on the speed; another aerodynamic model.
        """
        if not isinstance(task.generator, ArmGenerator):
            raise ValueError(f"generator: expected one of an arm, got {task.generator!r}")
        place, rate = _affine(task.generator)
        weights = {
            name: float(getattr(task, f"{name}_weight"))
            for name in ("miss", "net", "torque", "limit")
        }
        limits = np.asarray(task.generator.arm.limits, float)
        x, y = np.asarray(task.target, float).tolist()
        return cls(
            place, rate, limits, _numbers(task.world), weights, (x, y), float(task.duration) / 2
        )

    def __call__(self, weights: np.ndarray, start: BallState, real: Any) -> dict[str, float]:
        """The summands of the loss if ``real`` is False, what really happens if it is True.

        Args:
            weights: of the trajectory, (weights,).
            start: the serve.
            real: which world.

        Returns:
            :data:`TERMS` and :data:`MEASURES` by name; those not asked for are NaN.
        """
        found = dict.fromkeys((*TERMS, *MEASURES), float("nan"))
        return found | (self.measures if real else self.terms)(weights, start)

    def terms(self, weights: np.ndarray, start: BallState) -> dict[str, float]:
        """The summands of the loss by name, as :meth:`ArmHitsTarget.terms` has them."""
        hit, off_middle, torque, state = self._swing(weights, start, True)
        numbers, factor = dict(self.numbers), self.weights
        radius = numbers["radius"]
        landing, _ = self._land(state, True)
        miss = max(off_middle - radius - 0.5 * numbers["paddle_radius"], 0.0)
        x, z, vx, vz = state[0], state[2], state[7], state[9]
        low = 0.0
        if hit and vx > 0.5:  # over the net, in a vacuum, by a radius and the clearance
            time = -x / vx
            height = z + vz * time + 0.5 * numbers["gravity"][2] * time**2
            low = max(TABLE_HEIGHT + NET_HEIGHT + radius + NET_CLEARANCE - height, 0.0)
        middle, half = self.limits.mean(axis=1), np.ptp(self.limits, axis=1) / 2
        angles = (self.place @ np.r_[1.0, weights] - middle) / half
        rates = self.rate @ np.r_[1.0, weights] / JOINT_SPEED
        beyond = np.maximum(np.abs(np.concatenate([angles, rates], axis=1)) - SHARE, 0.0)
        return {
            "landing": float(np.hypot(*(landing[:2] - self.target))),
            "miss": factor["miss"] * miss,
            "net": float(factor["net"] * low),
            "torque": factor["torque"] * torque,
            "limits": factor["limit"] * float((beyond**2).sum(axis=1).mean()),
        }

    def measures(self, weights: np.ndarray, start: BallState) -> dict[str, float]:
        """``hit`` and ``legal`` (0 or 1), and ``landing_error`` (m, NaN if not legal)."""
        hit, _, _, state = self._swing(weights, start, False)
        landing, surface = self._land(state, False) if hit else (state, "")
        legal = surface == "table" and landing[0] > 0
        error = float(np.hypot(*(landing[:2] - self.target))) if legal else float("nan")
        return {"hit": float(hit), "legal": float(legal), "landing_error": error}

    def _swing(self, weights, start, practice):
        """Until the ball has left the paddle, or there is no more hope that it meets it.

        Returns:
            hit, distance of the ball from the paddle's middle as they meet (m), mean squared
            torque as a share of the limits, and the ball's qpos and qvel, (13,).
        """
        import mujoco

        scene = _scene(self.numbers, practice, True)
        model, data = scene.model, scene.data
        affine = np.r_[1.0, weights]
        asked = np.concatenate([self.place @ affine, (self.rate @ affine) * scene.lead], axis=1)
        asked[-1, 7:] = 0.0  # at the end it stands still
        mujoco.mj_resetData(model, data)
        data.qpos[:3], data.qpos[7:] = start.position, asked[0, :7]
        data.qvel[:3], data.qvel[3:6] = start.velocity, start.spin
        data.qvel[6:] = self.rate[0] @ affine
        place, paddle, ctrl = data.qpos, data.site_xpos[0], data.ctrl
        touched, off_middle, torques, looked, index = False, None, [], 0, -1
        for time in scene.steps(self.swing):
            if int(time / STEP) != index:  # the servos are told where to be at the end of a step
                index = int(time / STEP)
                ctrl[:] = asked[min(index + 1, len(asked) - 1)]
                if index >= looked:
                    looked += _EVERY
                    torques.append(np.mean((data.qfrc_actuator[6:] / scene.torque_limit) ** 2))
            mujoco.mj_step(model, data)
            names = scene.touching()
            if "paddle" in names:
                if not touched:
                    off_middle = float(np.linalg.norm(place[:3] - paddle))
                touched = True
            elif touched or "floor" in names:
                break
        if off_middle is None:
            off_middle = float(np.linalg.norm(place[:3] - paddle))
        state = np.concatenate([place[:7], data.qvel[:6]])
        return touched, off_middle, float(np.mean(torques[1:])), state

    def _land(self, state, practice):
        """Where the ball comes down next, (3,), and on what ('' if not in time)."""
        import mujoco

        scene = _scene(self.numbers, practice, False)
        model, data = scene.model, scene.data
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = state[:7], state[7:]
        for _ in scene.steps(self.swing):
            mujoco.mj_step(model, data)
            if names := scene.touching():
                return data.qpos[:3].copy(), names[0]
        return data.qpos[:3].copy(), ""


def _affine(generator: ArmGenerator) -> tuple[np.ndarray, np.ndarray]:
    """Joint angles and rates at every step, each as an affine map of the weights."""
    joints, count = generator.joints, generator.weight_count
    steps = round(float(joints.duration) / STEP)
    times = jnp.linspace(0.0, 1.0, steps + 1) * joints.duration

    def table(weights):
        path = joints(weights)
        one = jnp.ones_like(path.duration)
        return jax.vmap(lambda t: jnp.stack(jax.jvp(path.coordinates, (t,), (one,))))(times)

    basis = jnp.concatenate([jnp.zeros((1, count)), jnp.eye(count)])
    tables = np.array(jax.jit(jax.vmap(table))(basis), float)
    tables[1:] -= tables[0]
    maps = np.moveaxis(tables, 0, -1)  # (time, place or rate, joint, 1 + weights)
    probe = np.cos(np.arange(count))
    wanted, got = np.asarray(jax.jit(table)(jnp.asarray(probe, float))), maps @ np.r_[1.0, probe]
    if not np.allclose(got, wanted, rtol=1e-3, atol=1e-3):
        raise ValueError("generator: expected joint angles affine in the weights, got others")
    return maps[:, 0].copy(), maps[:, 1].copy()


def _numbers(world: Any) -> tuple[tuple[str, Any], ...]:
    """What MuJoCo needs to know of a world, hashable."""
    if not isinstance(world.aerodynamics, ConstantCoefficients):
        raise ValueError(f"world: expected ConstantCoefficients, got {world.aerodynamics!r}")
    ball = world.ball
    numbers: dict[str, Any] = {
        "radius": float(ball.radius),
        "mass": float(ball.mass),
        "inertia": float(ball.inertia_factor * ball.mass * ball.radius**2),
        # Its drag is C ρ A |v| v. Its Magnus force is C ρ V w × v, and to it comes, of the opposite
        # sign, what the mass of air carried along, ρ V/2, feels in the frame that spins.
        "fluid": (
            float(ball.drag_coefficient) / 2,
            0.0,
            0.0,
            0.0,
            3 / 8 * float(ball.magnus_coefficient) + 0.5,
        ),
        "density": float(world.air.density),
        "gravity": tuple(np.asarray(world.gravity, float).tolist()),
    }
    for surface in world.surfaces:
        if float(surface.restitution_slope) != 0:
            raise ValueError(f"restitution_slope: expected 0 in MuJoCo, got one of {surface.name}")
        numbers[surface.name] = (float(surface.restitution), float(surface.friction))
        if surface.driven:
            numbers["paddle_radius"] = float(surface.disk_radius)
    if missing := {"table", "net", "floor", "paddle"} - set(numbers):
        raise ValueError(f"world: expected a table, a net, a floor and a paddle, got no {missing}")
    return tuple(numbers.items())


class _Scene:
    """A compiled model with its state: of one process, and used by one call at a time."""

    def __init__(self, numbers: dict[str, Any], practice: bool, arm: bool):
        import mujoco

        spec = mujoco.MjSpec.from_file(str(SCENE))
        spec.option.density, spec.option.gravity = numbers["density"], numbers["gravity"]
        ball = spec.body("ball")
        ball.mass, ball.inertia = numbers["mass"], [numbers["inertia"]] * 3
        spec.geom("ball").size[0] = numbers["radius"]
        spec.geom("ball").fluid_coefs = numbers["fluid"]
        spec.geom("paddle").size[0] = _WIDE if practice else numbers["paddle_radius"]
        if practice:
            spec.geom("table").size[:2] = _FLAT
            spec.delete(spec.pair("net"))
        if not arm:
            spec.delete(spec.pair("paddle"))
            for servo in spec.actuators:
                spec.delete(servo)
            spec.delete(spec.body("shoulder yaw"))
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.fine = mujoco_contact.fine_step()
        for pair in range(self.model.npair):
            mujoco_contact.tune(self.model, pair, *numbers[self.model.pair(pair).name])
        self._names = [self.model.geom(i).name for i in range(self.model.ngeom)]
        self._ball = self._names.index("ball")
        if arm:
            self.torque_limit = self.model.jnt_actfrcrange[1:, 1].copy()
            # The servos' rates are asked for with what viscous friction will take of them.
            gain = self.model.actuator_gainprm[7:, 0]
            self.lead = 1 + self.model.dof_damping[6:].reshape(7, -1)[:, 0] / gain

    def steps(self, end: float) -> Iterator[float]:
        """Times of the steps to take until ``end``, s; sets the step, fine near a surface."""
        data, option, time = self.data, self.model.opt, 0.0
        while time < end:
            step = self.fine if data.ncon else STEP
            option.timestep = step
            yield time
            time += step

    def touching(self) -> list[str]:
        """What the ball touches."""
        if not self.data.nefc:  # quick to see, most of the time
            return []
        contact = self.data.contact
        pairs = contact.geom[contact.dist < 0]
        return [self._names[a if b == self._ball else b] for a, b in pairs]


@functools.cache
def _scene(numbers: tuple, practice: bool, arm: bool) -> _Scene:
    return _Scene(dict(numbers), practice, arm)
