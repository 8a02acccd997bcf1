"""Ways to fly balls: ours, the C loop, MuJoCo, MJX and brax, each as a call that is ready."""

import functools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.physics import BallState, Status, simulate
from diffsim.physics.lanes import KERNELS
from diffsim.tasks.mujoco_contact import solref
from studies.equations import equations
from studies.physics.c_loop import Loop, built, cores
from studies.physics.scenes import RESTITUTION, WORLDS, court

MODES = ("forward", "reverse", "forward-mode")
COTANGENT = np.ones(3)  # reverse: of x + y + z at the end, in position, velocity and spin
TANGENT = np.repeat([0.0, 1.0, 0.0], 3)  # forward-mode: along one more m/s in x, y and z


@dataclass(frozen=True)
class Sizes:
    """What is measured: every batch at the middle horizon, every horizon at the middle batch.

    Attributes:
        batches: numbers of balls.
        horizons: times simulated, s.
        step: time step of ours and the C loop, s.
        peer_step: time step of brax, MJX and MuJoCo, s.
        memory: most that a program may take besides its arguments, GB.
    """

    batches: tuple[int, ...] = (1, 16, 256, 4096, 65_536)
    horizons: tuple[float, ...] = (0.25, 1.0, 4.0)
    step: float = 0.05
    peer_step: float = 1e-3
    memory: float = 2.0

    def __post_init__(self):
        for name, values in vars(self).items():
            every = values if isinstance(values, tuple) else (values,)
            if not every or not all(0 < value < math.inf for value in every):
                raise ValueError(f"{name}: expected positive numbers, got {values}")

    @property
    def middle(self) -> tuple[int, float]:
        """Balls and seconds."""
        return self.batches[len(self.batches) // 2], self.horizons[len(self.horizons) // 2]

    def cases(self) -> list[tuple[int, float]]:
        """Balls and seconds: the middle ones, more balls, fewer balls, other horizons."""
        balls, seconds = self.middle
        at = self.batches.index(balls)
        batches = self.batches[at:] + self.batches[:at][::-1]
        return [(one, seconds) for one in batches] + [
            (balls, one) for one in self.horizons if one != seconds
        ]


SMALL = Sizes()
LARGE = Sizes((*SMALL.batches, 1_048_576), memory=40.0)

Flight = Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # start (9,) to end (3,) and status


@dataclass(frozen=True)
class Engine:
    """One way to fly balls.

    Attributes:
        name: as told in the table.
        scene: one of :data:`WORLDS`.
        modes: of :data:`MODES`.
        begun: for seconds and sizes, its ready call on given starts in a mode; see
            :func:`differentiated`. Raises ImportError or FileNotFoundError
            where it is not there.
        compiles: whether that takes long.
    """

    name: str
    scene: str
    modes: tuple[str, ...]
    begun: Callable[[np.ndarray, str, float, Sizes], "Ready"]
    compiles: bool = True


@dataclass(frozen=True)
class Ready:
    """A call that is compiled; it returns ends, derivatives if any, and statuses."""

    call: Callable[[], tuple]
    compiling: float | None = None
    equations: int | None = None
    temporary: int | None = None


def differentiated(flight: Flight, mode: str) -> Callable:
    """From starts (B, 9): ends (B, 3), derivative (B, 9) or (B, 3) or none, statuses (B,)."""

    def one(start: jax.Array) -> tuple:
        if mode == "forward":
            end, status = flight(start)
            return end, (), status
        if mode == "reverse":
            end, pull, status = jax.vjp(flight, start, has_aux=True)
            return end, pull(jnp.asarray(COTANGENT, end.dtype))[0], status
        return jax.jvp(flight, (start,), (jnp.asarray(TANGENT, start.dtype),), has_aux=True)

    return jax.vmap(one)


def compiled(rows: np.ndarray, mode: str, flight: Flight) -> Ready:
    """A flight of JAX in one mode, compiled for its batch."""
    x, start = jnp.asarray(rows, jnp.float32), time.perf_counter()
    traced = jax.jit(differentiated(flight, mode)).trace(x)
    program = traced.lower().compile()
    compiling = time.perf_counter() - start
    memory = program.memory_analysis()
    temporary = None if memory is None else memory.temp_size_in_bytes
    return Ready(lambda: program(x), compiling, equations(traced.jaxpr), temporary)


def _ours(
    scene: str, rows: np.ndarray, mode: str, seconds: float, sizes: Sizes, checked: bool = True
) -> Ready:
    """Ours; not checked, nothing is asked of the status, and XLA leaves out what leads to it."""
    world = WORLDS[scene]()

    def flight(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = BallState(start[:3], start[3:6], start[6:])
        done = simulate(world, state, duration=seconds, step=sizes.step)
        return done.final.position, done.status if checked else jnp.int32(Status.OK)

    return compiled(rows, mode, flight)


def _kernels(rows: np.ndarray, mode: str, seconds: float, sizes: Sizes) -> Ready:
    """Ours in kernels of an NVIDIA GPU."""
    if jax.devices()[0].platform != "gpu":
        raise OSError("no NVIDIA GPU")
    with mock.patch.dict(os.environ, {KERNELS: "1"}):
        return _ours("court", rows, mode, seconds, sizes)


def _c(width: int, rows: np.ndarray, mode: str, seconds: float, sizes: Sizes) -> Ready:
    fly = Loop(court(), width, "float")(rows, seconds, sizes.step)
    return Ready(lambda: (fly()[:, :3], (), np.zeros(len(rows), int)), built(width, "float")[1])


def model(step: float) -> str:
    """The ball over :func:`plane` for MuJoCo, MJX and brax, as MJCF.

    A contact of ten steps stands for the restitution in MuJoCo and MJX, ``elasticity`` in brax,
    where nothing else pushes the ball out. The positional pipeline of brax has static friction
    whatever the coefficient.
    """
    stiffness, damping = solref(RESTITUTION, 10 * step)
    contact = (
        f'condim="1" friction="0 0 0" solref="{stiffness} {damping}" solimp="0.99 0.99 0.001 0.5 2"'
    )
    return f"""
<mujoco>
  <option timestep="{step}" iterations="1" ls_iterations="4"/>
  <custom>
    <numeric name="elasticity" data="{RESTITUTION} {RESTITUTION}"/>
    <numeric name="baumgarte_erp" data="0"/>
  </custom>
  <worldbody>
    <geom name="floor" type="plane" size="100 100 1" {contact}/>
    <body name="ball">
      <freejoint/>
      <inertial pos="0 0 0" mass="0.0027" diaginertia="7.2e-7 7.2e-7 7.2e-7"/>
      <geom name="ball" type="sphere" size="0.02" {contact}/>
    </body>
  </worldbody>
</mujoco>"""


def _joint(start: Any, xp: Any) -> tuple[Any, Any]:
    """Of a free joint: position and quaternion, velocity and spin."""
    upright = xp.broadcast_to(xp.asarray([1, 0, 0, 0], start.dtype), (*start.shape[:-1], 4))
    return xp.concatenate([start[..., :3], upright], axis=-1), start[..., 3:]


def _stepped(
    rows: np.ndarray, mode: str, steps: int, begin: Callable, step: Callable, place: Callable
) -> Ready:
    """A flight by so many steps of a peer."""

    def flight(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        last, _ = jax.lax.scan(
            lambda state, _: (step(state), None), begin(*_joint(start, jnp)), length=steps
        )
        return place(last), jnp.zeros((), int)

    return compiled(rows, mode, flight)


def _brax(kind: str, rows: np.ndarray, mode: str, seconds: float, sizes: Sizes) -> Ready:
    import importlib

    from brax.io import mjcf

    pipeline = importlib.import_module(f"brax.{kind}.pipeline")
    system = mjcf.loads(model(sizes.peer_step))
    return _stepped(
        rows, mode, round(seconds / sizes.peer_step), functools.partial(pipeline.init, system),
        lambda state: pipeline.step(system, state, jnp.zeros(0)), lambda state: state.x.pos[0],
    )  # fmt: skip


def _mjx(rows: np.ndarray, mode: str, seconds: float, sizes: Sizes) -> Ready:
    import mujoco
    from mujoco import mjx

    known = mujoco.MjModel.from_xml_string(model(sizes.peer_step))
    there = mjx.put_model(known, impl="jax")
    empty = mjx.make_data(known, impl="jax")
    return _stepped(
        rows, mode, round(seconds / sizes.peer_step), lambda q, v: empty.replace(qpos=q, qvel=v),
        lambda state: mjx.step(there, state), lambda state: state.qpos[:3],
    )  # fmt: skip


def _mujoco(rows: np.ndarray, mode: str, seconds: float, sizes: Sizes) -> Ready:
    import mujoco
    from mujoco.rollout import Rollout

    known = mujoco.MjModel.from_xml_string(model(sizes.peer_step))
    count, steps = cores(), round(seconds / sizes.peer_step)
    block = max(1, (1 << 20) // steps)  # all states are written: 14 numbers each
    data, pool = [mujoco.MjData(known) for _ in range(count)], Rollout(nthread=count)
    q, v = _joint(rows.astype(float), np)
    first = np.column_stack([np.zeros(len(rows)), q, v])

    def call() -> tuple:
        ends = [
            pool.rollout(known, data, first[i : i + block], nstep=steps)[0][:, -1, 1:4]
            for i in range(0, len(rows), block)
        ]
        return np.concatenate(ends), (), np.zeros(len(rows), int)

    return Ready(call)


ENGINES = (
    Engine("ours, court", "court", MODES, functools.partial(_ours, "court")),
    Engine("ours, unchecked", "court", MODES[:1], functools.partial(_ours, "court", checked=False)),
    Engine("ours, kernels", "court", MODES, _kernels),
    Engine("C scalar", "court", MODES[:1], functools.partial(_c, 1), False),
    Engine("C arrays", "court", MODES[:1], functools.partial(_c, 16), False),
    Engine("ours, plane", "plane", MODES[:2], functools.partial(_ours, "plane")),
    Engine("MuJoCo", "plane", MODES[:1], _mujoco, False),
    Engine("MJX", "plane", MODES, _mjx),
    Engine("brax spring", "plane", MODES, functools.partial(_brax, "spring")),
    Engine("brax positional", "plane", MODES, functools.partial(_brax, "positional")),
)
