"""Balls in flight: ours beside a C loop, brax, MJX and MuJoCo, each speed with its error."""

import ctypes
import dataclasses
import functools
import math
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._files import checked, replacing
from diffsim.physics import (
    Air,
    BallState,
    ConstantCoefficients,
    Surface,
    World,
    floor,
    lanes,
    simulate,
    table,
)
from diffsim.physics.simulate import Status
from diffsim.tasks.mujoco_contact import solref
from studies import harness
from studies.accelerator import machine

Row = dict[str, Any]
MODES = ("forward", "reverse", "forward-mode")
COTANGENT = np.ones(3)  # reverse: of x + y + z at the end, in position, velocity and spin
TANGENT = np.repeat([0.0, 1.0, 0.0], 3)  # forward-mode: along one more m/s in x, y and z
SAMPLE = 256  # balls whose errors are measured
RESTITUTION = 0.9


@dataclass(frozen=True)
class Sizes:
    """What is measured: every batch at the middle horizon, every horizon at the middle batch.

    Attributes:
        batches: balls.
        horizons: s.
        step: of ours and the C loop, s.
        peer_step: of brax, MJX and MuJoCo, s.
        memory: most that a program may ask for besides its arguments, GB.
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


def court() -> World:
    """A table over a floor, in air."""
    return World.create([table(RESTITUTION, 0.25), floor(RESTITUTION, 0.4)])


def plane() -> World:
    """A floor without friction, without air: what every peer can do, and what has a closed form."""
    return World.create([floor(RESTITUTION, 0.0)], air=Air.create(0.0))


WORLDS: dict[str, Callable[[], World]] = {"court": court, "plane": plane}


def starts(count: int) -> np.ndarray:
    """Position, velocity and spin of balls thrown towards the far side, (count, 9), in float32."""
    low = np.array([-1.3, -0.3, 0.9, 1.0, -0.5, -1.0, -60.0, -60.0, -60.0])
    high = np.array([-0.3, 0.3, 1.3, 5.0, 0.5, 2.0, 60.0, 60.0, 60.0])
    drawn = np.random.default_rng(0).random((count, 9))
    return (low + (high - low) * drawn).astype(np.float32)


def closed_form(rows: np.ndarray, seconds: float) -> np.ndarray:
    """Where balls over :func:`plane` are after so long, (n, 3), from their starts (n, 9).

    Bounce n is at t₁ + 2 u/g (e + … + eⁿ⁻¹) with t₁ = (v + u)/g, u² = v² + 2 g (z − r), and
    leaves with eⁿ u.
    """
    world = plane()
    g, e = -float(world.gravity[2]), float(world.surfaces[0].restitution)
    radius = float(world.ball.radius)
    z, v = rows[:, 2] - radius, rows[:, 5]
    u = np.sqrt(v**2 + 2 * g * z)
    left = seconds - (v + u) / g
    height = z + v * seconds - g * seconds**2 / 2
    while np.any(left >= 0):
        u = e * u
        height = np.where(left >= 0, u * left - g * left**2 / 2, height)
        left = left - np.where(left >= 0, 2 * u / g, 0)
    return np.column_stack([rows[:, :2] + rows[:, 3:5] * seconds, radius + height])


class _Level(ctypes.Structure):
    _fields_ = [
        ("height", ctypes.c_double), ("half", ctypes.c_double * 2),
        ("restitution", ctypes.c_double), ("friction", ctypes.c_double),
    ]  # fmt: skip


class _World(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_double)
        for name in ("gravity", "drag", "magnus", "radius", "inertia", "rest_speed")
    ]


def _level(surface: Surface) -> bool:
    """Whether it is what the C loop takes it for."""
    plain = Surface.create(
        center=(0.0, 0.0, surface.center[2]), u=(1.0, 0.0, 0.0), name=surface.name,
        half_extents=surface.half_extents, restitution=surface.restitution,
        friction=surface.friction,
    )  # fmt: skip
    turned = surface.rotation if np.isinf(surface.half_extents).all() else plain.rotation
    plain = dataclasses.replace(plain, rotation=turned)
    if surface.driven or not np.array_equal(surface.rotation[:, 2], [0, 0, 1]):
        return False
    return jax.tree.all(jax.tree.map(np.array_equal, plain, surface))


@functools.cache
def _built(width: int, real: str) -> tuple[Any, float]:
    """The C loop for so many balls at once, and the seconds its compiler took.

    Raises:
        FileNotFoundError: there is no compiler.
        ValueError: the compiler failed.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise FileNotFoundError("no compiler")
    source, start = Path(__file__).with_name("flight.c"), time.perf_counter()
    flags = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "flight.so"
        done = subprocess.run(
            [compiler, "-std=c99", *flags, f"-DW={width}", f"-DREAL={real}", "-shared", "-fPIC",
             str(source), "-o", str(made), "-lm"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ValueError(f"{compiler} failed: {done.stderr.strip().splitlines()[:1]}")
        library = ctypes.CDLL(str(made))
    return library, time.perf_counter() - start


@dataclass(frozen=True)
class Loop:
    """Flights by the C loop, over all cores this process may use from 1,024 balls on.

    Attributes:
        world: with fixed level surfaces about the z axis, open to above.
        width: balls side by side, of which a structure of arrays is read; 1 reads rows.
        real: "float" or "double".
    """

    world: World
    width: int = 8
    real: str = "double"

    def __post_init__(self):
        ball, air = self.world.ball, self.world.aerodynamics
        others = [one.name for one in self.world.surfaces if not _level(one)]
        if np.any(self.world.gravity[:2]):
            others.append("gravity")
        if np.isfinite(ball.spin_decay_time):
            others.append("spin_decay_time")
        if not isinstance(air, ConstantCoefficients):
            others.append(type(air).__name__)
        if others:
            raise ValueError(f"world: expected what the C loop has, got {', '.join(others)}")

    def __call__(self, rows: np.ndarray, seconds: float, step: float) -> Callable[[], np.ndarray]:
        """A call that flies balls (n, 9) and returns their ends, (n, 9).

        Raises:
            FloatingPointError: by the call, where balls come to rest, which it does not follow.
        """
        library, _ = _built(self.width, self.real)
        ball, air = self.world.ball, self.world.air
        push = 0.5 * float(air.density) * np.pi * float(ball.radius) ** 2 / float(ball.mass)
        about = _World(
            float(self.world.gravity[2]), push * float(ball.drag_coefficient),
            push * float(ball.magnus_coefficient * ball.radius), float(ball.radius),
            float(ball.inertia_factor), 0.01,
        )  # fmt: skip
        order = sorted(self.world.surfaces, key=lambda one: -float(one.center[2]))
        parts = [
            _Level(float(s.center[2]), (ctypes.c_double * 2)(*map(float, s.half_extents)),
                     float(s.restitution), float(s.friction))
            for s in order
        ]  # fmt: skip
        surfaces = (_Level * len(parts))(*parts)
        kind = np.float32 if self.real == "float" else np.float64
        data = np.array(rows if self.width == 1 else rows.T, kind, order="C")
        count, steps = len(rows), max(1, int(np.ceil(seconds / step - 1e-9)))
        strides = (9, 1) if self.width == 1 else (1, count)
        threads = cores() if count >= 1024 else 1
        ends = [count * i // threads // 64 * 64 for i in range(threads)] + [count]

        def call() -> np.ndarray:
            work = data.copy()

            def fly(first: int, last: int) -> int:
                return library.fly(
                    ctypes.byref(about), surfaces, len(parts), ctypes.c_void_p(work.ctypes.data),
                    *map(ctypes.c_long, (*strides, first, last)), ctypes.c_double(seconds), steps,
                )  # fmt: skip

            if threads == 1:
                resting = fly(0, count)
            else:
                with ThreadPoolExecutor(threads) as pool:
                    resting = sum(pool.map(fly, ends[:-1], ends[1:]))
            if resting:
                raise FloatingPointError(f"{resting} balls come to rest")
            return work if self.width == 1 else work.T

        return call


def cores() -> int:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def reference(scene: str, seconds: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends (n, 3) and their derivative in the starts (n, 3, 9), in float64.

    By the closed form over the plane, by the C loop at a step of 2 ms else; by central differences
    (of 1e-5), which err by some 1e-9.
    """
    rows = starts(count).astype(float)

    def ends(rows: np.ndarray) -> np.ndarray:
        if scene == "plane":
            return closed_form(rows, seconds)
        return Loop(WORLDS[scene]())(rows, seconds, 2e-3)()[:, :3]

    nudges = 1e-5 * np.eye(9)
    slopes = [(ends(rows + nudge) - ends(rows - nudge)) / 2e-5 for nudge in nudges]
    return ends(rows), np.stack(slopes, axis=-1)


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


def equations(inside: Any, seen: set | None = None) -> int:
    """How many a jaxpr has to the bottom, those of a function called several times once.

    >>> double = jax.jit(lambda x: x + x)
    >>> equations(jax.make_jaxpr(lambda x: double(double(x)))(1.0))
    3
    """
    seen = set() if seen is None else seen
    if isinstance(inside, list | tuple):
        return sum(equations(part, seen) for part in inside)
    inside = getattr(inside, "jaxpr", inside)
    if not hasattr(inside, "eqns") or id(inside) in seen:
        return 0
    seen.add(id(inside))
    total = len(inside.eqns)
    for eqn in inside.eqns:
        total += sum(equations(parameter, seen) for parameter in eqn.params.values())
        if eqn.primitive.name == "lanes":  # traced again where it is lowered
            shapes = [jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) for x in eqn.invars]
            run = jax.make_jaxpr(lambda *args, eqn=eqn: lanes.run(*args, **eqn.params))
            found = run(*shapes)
            seen.add(found)  # kept, so that ids stay its own
            total += equations(found, seen)
    return total


def _ours(scene: str, rows: np.ndarray, mode: str, seconds: float, sizes: Sizes) -> Ready:
    world = WORLDS[scene]()

    def flight(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = BallState(start[:3], start[3:6], start[6:])
        done = simulate(world, state, duration=seconds, step=sizes.step)
        return done.final.position, done.status

    return compiled(rows, mode, flight)


def _c(width: int, rows: np.ndarray, mode: str, seconds: float, sizes: Sizes) -> Ready:
    fly = Loop(court(), width, "float")(rows, seconds, sizes.step)
    return Ready(lambda: (fly()[:, :3], (), np.zeros(len(rows), int)), _built(width, "float")[1])


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
    Engine("C scalar", "court", MODES[:1], functools.partial(_c, 1), False),
    Engine("C arrays", "court", MODES[:1], functools.partial(_c, 16), False),
    Engine("ours, plane", "plane", MODES[:2], functools.partial(_ours, "plane")),
    Engine("MuJoCo", "plane", MODES[:1], _mujoco, False),
    Engine("MJX", "plane", MODES, _mjx),
    Engine("brax spring", "plane", MODES, functools.partial(_brax, "spring")),
    Engine("brax positional", "plane", MODES, functools.partial(_brax, "positional")),
)


def errors(scene: str, mode: str, seconds: float, found: tuple) -> dict[str, float | None]:
    """Of the ends, m: median and worst; of the finite derivatives, relative: the median."""
    names = ("error, m", "worst, m", "gradient")
    end, slope, _ = (np.asarray(x, float)[:SAMPLE] for x in found)
    try:
        wanted, jacobian = reference(scene, seconds, len(end))
    except (FileNotFoundError, ValueError):
        return dict.fromkeys(names)
    apart = np.linalg.norm(end - wanted, axis=1)
    values: list[float | None] = [float(np.median(apart)), float(apart.max()), None]
    if mode != "forward":
        right = COTANGENT @ jacobian if mode == "reverse" else jacobian @ TANGENT
        off = np.linalg.norm(slope - right, axis=1) / np.linalg.norm(right, axis=1)
        values[2] = float(np.median(off[np.isfinite(off)])) if np.isfinite(off).any() else None
    return dict(zip(names, values, strict=True))


def measured(engine: Engine, mode: str, balls: int, seconds: float, sizes: Sizes) -> Row:
    """The figures of one row; the last says what is to know about them, or why there are none."""
    ready = engine.begun(starts(balls), mode, seconds, sizes)
    row: Row = {
        "ms": None,
        "balls/s": None,
        "compile, s": ready.compiling,
        "equations": ready.equations,
        "B/ball": None if ready.temporary is None else ready.temporary / balls,
    }
    if (ready.temporary or 0) > sizes.memory * 1e9:
        return row | {"note": "over memory"}
    begun = time.perf_counter()
    found = jax.block_until_ready(ready.call())
    took = time.perf_counter() - begun
    if took < 1:  # else once is enough
        took = harness.least({"": ready.call}, int(np.clip(0.5 / took, 3, 20)))[""]
    row |= {"ms": 1e3 * took, "balls/s": balls / took}
    row |= errors(engine.scene, mode, seconds, found)
    end, slope, status = found
    doubts = {
        "balls not ok": np.asarray(status) != Status.OK,
        "ends not finite": ~np.isfinite(end).all(1),
        "gradients not finite": ~np.isfinite(slope).all(1) if len(slope) else np.zeros(1),
    }
    notes = [f"{int(np.sum(doubt))} {name}" for name, doubt in doubts.items() if np.any(doubt)]
    return row | {"note": ", ".join(notes) or None}


def rows(
    sizes: Sizes,
    limit: float,
    engines: tuple[Engine, ...] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Every engine, mode and size: what need not compile first, then by size and mode in turn.

    What would take more than the time left, or a seventh of it all, is "over budget", what would
    need more memory "over memory", as the sizes before tell.
    """
    engines, start = ENGINES if engines is None else engines, clock()
    found: dict[tuple[int, str], list[Row]] = {
        (number, mode): [] for number, engine in enumerate(engines) for mode in engine.modes
    }
    jobs = [
        (
            engines[number].compiles and 1 + order + MODES.index(mode),
            MODES.index(mode),
            number,
            case,
        )
        for order, case in enumerate(sizes.cases())
        for number, mode in found
    ]
    for _, index, number, case in sorted(jobs):
        engine, mode = engines[number], MODES[index]
        took, memory = expected(found[number, mode], found[number, engine.modes[0]], mode, *case)
        row: Row = {"engine": engine.name, "mode": mode}
        row["balls"], row["s"] = case
        if memory > sizes.memory * 1e9:
            row["note"] = "over memory"
        elif took > min(start + limit - clock(), limit / 7):
            row["note"] = "over budget"
        else:
            row |= attempted(engine, mode, *case, sizes)
        found[number, mode].append(row)
    return [row for part in found.values() for row in gathered(part)]


def gathered(found: list[Row]) -> list[Row]:
    """Rows in order, those without figures for the same reason as one."""
    order = sorted(found, key=lambda row: (row["s"], row["balls"]))
    there = [row for row in order if row.get("ms")]
    left = [row for row in order if not row.get("ms")]
    for note, s in dict.fromkeys((row["note"], row["s"]) for row in left):
        same = [row for row in left if (row["note"], row["s"]) == (note, s)]
        there.append(same[0] | {"balls": ", ".join(str(row["balls"]) for row in same)})
    return there


def attempted(engine: Engine, *case: Any) -> Row:
    """What was measured, or a note on why nothing was."""
    try:
        return measured(engine, *case)
    except ImportError as error:
        return {"note": f"not installed: {error.name}"}
    except (OSError, ValueError, FloatingPointError, jax.errors.JaxRuntimeError) as error:
        return {"note": str(error).splitlines()[0]}


def expected(
    done: list[Row], forward: list[Row], mode: str, balls: int, seconds: float
) -> tuple[float, float]:
    """Seconds and bytes that a size will take, from what it took others, or another mode.

    >>> row = {"ms": 1e3, "balls": 10, "s": 2.0, "compile, s": 5.0, "B/ball": 8.0}
    >>> expected([row], [], "reverse", 20, 1.0), expected([], [row], "reverse", 20, 1.0)
    ((7.0, 160.0), (21.0, 0.0))
    """
    own = [row for row in done if row.get("ms")]
    timed = own or [row for row in forward if row.get("ms")]
    if not timed:
        return 0.0, 0.0
    near = min(timed, key=lambda row: abs(math.log(row["balls"] / balls)))
    run = 2e-3 * near["ms"] * (balls * seconds) / (near["balls"] * near["s"])
    if own:
        return (near["compile, s"] or 0.0) + run, (near["B/ball"] or 0.0) * balls
    share = {"forward": 1, "reverse": 3, "forward-mode": 2}[mode]
    return share * ((near["compile, s"] or 0.0) + run), 0.0


def drawn(found: list[Row], seconds: float) -> Any:
    """Balls a second over the batch, in each mode; the errors are in the legend."""
    made = harness.figure(14, 6)
    names = list(dict.fromkeys(row["engine"] for row in found))
    panels = made.subplots(1, 3, sharex=True, sharey=True)
    for panel, mode in zip(panels, MODES, strict=True):
        panel.set(title=mode, xlabel="balls", xscale="log", yscale="log")
        measure, unit = ("error, m", ", m") if mode == "forward" else ("gradient", ", relative")
        for number, name in enumerate(names):
            line = [
                (row["balls"], row["balls/s"], row.get(measure))
                for row in found
                if (row["engine"], row["mode"], row["s"]) == (name, mode, seconds) and row.get("ms")
            ]
            if line:
                balls, speeds, errs = zip(*line, strict=True)
                label = f"{name}: {harness.told(errs[-1])}"
                panel.plot(balls, speeds, ".-", color=f"C{number}", label=label)
        panel.legend(
            title=f"median error{unit}", fontsize="small", loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
        )  # fmt: skip
    panels[0].set_ylabel(f"flights of {seconds:g} s a second")
    return made


def benchmark(
    sizes: Sizes = SMALL,
    limit: float = 240.0,
    plot: Path | None = None,
) -> harness.Found:
    """Flights a second, in value and derivative, with their errors; ours and others.

    On the court (a table over a floor, drag, spin and friction) ours stands beside the same
    physics as a plain C loop, on the plane (no air, no friction) beside brax, MJX and MuJoCo.
    Ends are measured against float64: the closed form on the plane, the C loop at a step of 2 ms
    on the court. What the time or the memory does not allow, and what is not there, is said.
    A call is timed with its data in place, the least of some; C and MuJoCo run on the host's cores.

    Args:
        sizes: batches, horizons and steps; a GPU takes larger ones unless they are given.
        limit: seconds for all.
        plot: where a figure goes.
    """
    about = machine()
    if plot is not None:
        checked(plot, (".png", ".pdf", ".svg"))
    if sizes == SMALL and about["platform"] != "cpu":
        sizes = LARGE
    about["cores"] = f"{cores()} x {processor()}"
    kept = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)  # seconds to compile are meant
    try:
        title = ", ".join(f"{name} {value}" for name, value in about.items())
        found = harness.show(title, rows(sizes, limit))
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
    if plot is not None:
        (table,) = found.values()
        with replacing(plot) as temporary:
            drawn(table, sizes.middle[1]).savefig(temporary, format=plot.suffix[1:])
    return found


def processor() -> str:
    """What the host computes with."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
