"""Scenes as TOML: one file says what the world is and how the ball starts."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim._text import short
from diffsim.physics import surfaces as presets
from diffsim.physics.scene_keys import (
    AIR,
    BALL,
    EDGE,
    EXTENT,
    MATERIAL,
    MOTION,
    POSE,
    STATE,
    TOP,
    SceneError,
    shown,
)
from diffsim.physics.simulate import Rollout, Status, memory, room, simulate
from diffsim.physics.state import Air, Ball, BallState, Pose
from diffsim.physics.surfaces import Surface, axes, edge
from diffsim.physics.vector import Vector
from diffsim.physics.world import World

MAX_MEMORY = 4e9  # of a flight and its description, bytes
_DESCRIBED = 2_100  # of an impact as lists, text and JSON, bytes
MAX_BYTES = 500_000  # of a file: a second of parsing
MAX_SURFACES = 256
MAX_NAME = 60  # characters


@struct.dataclass
class PolynomialPose:
    """A pose that moves by a polynomial and turns about a fixed axis at an even rate.

    c(t) = Σ_k center[k] tᵏ;  R(t) = exp(t rate [axis]×) R(0).

    Attributes:
        center: coefficients, (K, 3), m/sᵏ.
        rotation: at t = 0, world from surface, (3, 3).
        axis: unit vector, (3,).
        rate: rad/s, ().
    """

    center: jax.Array
    rotation: jax.Array
    axis: jax.Array
    rate: jax.Array

    def __call__(self, time: jax.Array) -> Pose:
        position = velocity = jnp.zeros_like(self.axis)
        for row in self.center[::-1]:
            velocity = velocity * time + position
            position = position * time + row
        cosine, sine = jnp.cos(self.rate * time), jnp.sin(self.rate * time)
        axis = Vector.of(self.axis)

        def turn(column):  # Rodrigues' formula
            v = Vector.of(column)
            turned = v * cosine + axis.cross(v) * sine + axis * (axis.dot(v) * (1 - cosine))
            return turned.array

        rotation = jnp.stack([turn(self.rotation[:, i]) for i in range(3)], axis=-1)
        return Pose(position, rotation, velocity, self.rate * self.axis)


@struct.dataclass
class Scene:
    """A world, a start and the paths of what moves, ready for :func:`run`.

    Attributes:
        world: the world.
        state: the ball at time 0.
        paths: one for each driven surface.
        duration: s.
        step: longest time step, s.
    """

    world: World
    state: BallState
    paths: tuple[PolynomialPose, ...]
    duration: float = struct.field(pytree_node=False)
    step: float = struct.field(pytree_node=False)


def load(path: str | Path) -> Scene:
    """Read a scene file.

    Raises:
        SceneError: the file cannot be read, is not TOML, or holds a key or value not allowed.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f"{short(path)}: cannot be read: {short(error)}") from error
    return loads(text)


def loads(text: str) -> Scene:
    """A scene from the text of a TOML file.

    >>> scene = loads('''
    ... duration = 0.5
    ... [ball]
    ... position = [0, 0, 1]
    ... [[surface]]
    ... kind = "table"
    ... ''')
    >>> scene.duration, [surface.name for surface in scene.world.surfaces]
    (0.5, ['table'])
    >>> loads("duration = -1")
    Traceback (most recent call last):
    ...
    diffsim.physics.scene_keys.SceneError: duration: expected a number > 0, got -1
    """
    if len(text) > MAX_BYTES:
        raise SceneError(f"expected at most {MAX_BYTES} bytes, got more")
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SceneError(f"not TOML: {short(error)}") from error
    try:
        return _scene(data)
    except SceneError:
        raise
    except ValueError as error:
        raise SceneError(short(error, 300)) from error


def _scene(data: Mapping) -> Scene:
    top = _read("", data, TOP, required=("duration",), others=("ball", "air", "surface"))
    ball = _read("ball.", _section(data, "ball"), BALL | STATE, required=("position",))
    air = _read("air.", _section(data, "air"), AIR)
    listed = data.get("surface", [])
    if not isinstance(listed, list):
        raise SceneError("surface: expected [[surface]] tables, got one [surface]")
    if len(listed) > MAX_SURFACES:
        raise SceneError(f"surface: expected at most {MAX_SURFACES}, got {len(listed)}")
    surfaces: list[Surface] = []
    paths = []
    for i, entry in enumerate(listed):
        surface, path = _surface(f"surface[{i}].", entry)
        taken = {other.name for other in surfaces}
        if "name" not in entry and surface.name in taken:
            free = (f"{surface.name} {k}" for k in range(2, MAX_SURFACES + 2))
            surface = dataclasses.replace(
                surface, name=next(name for name in free if name not in taken)
            )
        surfaces.append(surface)
        paths += [] if path is None else [path]
    world = World.create(
        surfaces,
        ball=Ball.create(**{key: value for key, value in ball.items() if key in BALL}),
        air=Air.create(**air),
        gravity=top.get("gravity", (0.0, 0.0, -9.81)),
    )
    state = BallState.create(**{key: value for key, value in ball.items() if key in STATE})
    duration, step = float(top["duration"]), float(top.get("step", 0.05))
    itemsize = jnp.dtype(jnp.result_type(float)).itemsize
    impacts = room(duration)
    size = memory(duration / step, impacts, len(paths), itemsize) + _DESCRIBED * impacts
    if size > MAX_MEMORY:
        raise SceneError(
            f"duration: expected what takes at most {MAX_MEMORY:.0e} bytes, got {duration:g} s in "
            f"steps of {step:g} s, which take {size:.2g}"
        )
    return Scene(world, state, tuple(paths), duration, step)


def run(scene: Scene) -> Rollout:
    """Simulate a scene."""
    return simulate(scene.world, scene.state, scene.paths, duration=scene.duration, step=scene.step)


def jacobian(scene: Scene) -> jax.Array:
    """d(final position, velocity, spin)/d(initial position, velocity, spin), (9, 9)."""

    def final(vector):
        rollout = run(dataclasses.replace(scene, state=BallState(*jnp.split(vector, 3))))
        return jnp.concatenate(jax.tree.leaves(rollout.final))

    return jax.jit(jax.jacfwd(final))(jnp.concatenate(jax.tree.leaves(scene.state)))


def describe(scene: Scene, rollout: Rollout) -> dict[str, Any]:
    """A rollout as plain lists and numbers, for JSON; what is not finite becomes None."""

    impacts = jax.device_get(rollout.impacts)
    found = [i for i, valid in enumerate(impacts.valid.tolist()) if valid]
    return {
        "final": {
            "position": plain(rollout.final.position.tolist()),
            "velocity": plain(rollout.final.velocity.tolist()),
            "spin": plain(rollout.final.spin.tolist()),
        },
        "impacts": [
            {
                "time": plain(impacts.time[i].item()),
                "surface": scene.world.surfaces[int(impacts.surface[i])].name,
                "position": plain(impacts.before.position[i].tolist()),
                "velocity_before": plain(impacts.before.velocity[i].tolist()),
                "velocity_after": plain(impacts.after.velocity[i].tolist()),
                "spin_after": plain(impacts.after.spin[i].tolist()),
            }
            for i in found
        ],
        "status": Status(int(rollout.status)).name.lower().replace("_", "-"),
    }


def plain(value):
    """Nested lists of numbers with None for what is not finite, as JSON has no NaN."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value if math.isfinite(value) else None


def table(result: Mapping[str, Any]) -> str:
    """The result of :func:`describe` as text."""

    def vector(values):
        return " ".join(f"{math.nan if value is None else value:12.6f}" for value in values)

    lines = [f"status    {result['status']}"]
    lines += [f"{key:9} {vector(values)}" for key, values in result["final"].items()]
    for impact in result["impacts"]:
        lines.append(f"impact    {vector([impact['time']])} s on {impact['surface']}")
        lines += [f"  {key:16}{vector(impact[key])}" for key in list(impact)[2:]]
    if "jacobian" in result:
        lines += ["jacobian", *(vector(row) for row in result["jacobian"])]
    return "\n".join(lines)


def _section(data: Mapping, name: str) -> Mapping:
    section = data.get(name, {})
    if not isinstance(section, Mapping):
        raise SceneError(f"{name}: expected a table, got {shown(section)}")
    return section


def _read(prefix, data, keys, *, required=(), others=()) -> dict[str, Any]:
    """The checked values of one table, whose keys must be among ``keys`` and ``others``."""
    for key in data:
        if key not in keys and key not in others:
            allowed = ", ".join(sorted([*keys, *others]))
            raise SceneError(
                f"{prefix}{short(key)}: unknown key, got {shown(data[key])}; allowed: {allowed}"
            )
    for key in required:
        if key not in data:
            raise SceneError(f"{prefix}{key}: missing, expected {keys[key].allowed}")
    return {key: keys[key].check(prefix + key, data[key]) for key in keys if key in data}


def _surface(prefix: str, data: Any) -> tuple[Surface, PolynomialPose | None]:
    if not isinstance(data, Mapping):
        raise SceneError(f"{prefix[:-1]}: expected a table, got {shown(data)}")
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in EXTENT:
        raise SceneError(f"{prefix}kind: expected one of {', '.join(EXTENT)}, got {shown(kind)}")
    bounded = kind not in ("floor", "net_cord")
    keys = MATERIAL | POSE | MOTION | EXTENT[kind] | (EDGE if bounded else {})
    values = _read(
        prefix, data, keys,
        required=tuple(EXTENT[kind]) if kind in ("rectangle", "disk") else (),
        others=("kind", "name", "two_sided"),
    )  # fmt: skip
    name, two_sided = data.get("name", kind), data.get("two_sided")
    if not isinstance(name, str):
        raise SceneError(f"{prefix}name: expected a string, got {shown(name)}")
    if len(name) > MAX_NAME or not name.isprintable():
        raise SceneError(
            f"{prefix}name: expected at most {MAX_NAME} printable characters, got {shown(name)}"
        )
    if not isinstance(two_sided, bool | None):
        raise SceneError(f"{prefix}two_sided: expected true or false, got {shown(two_sided)}")
    for key in ("normal", "u", "rotation_axis"):
        if key in values:
            size = max(map(abs, values[key]))
            if not size:
                raise SceneError(f"{prefix}{key}: expected a direction, got {values[key]}")
            values[key] = [component / size for component in values[key]]  # squares stay in range
    moves = any(key in values for key in MOTION)
    if moves and ("rotation_rate" in values) != ("rotation_axis" in values):
        raise SceneError(f"{prefix}rotation_rate: expected together with rotation_axis")
    if "center" in values and "center_polynomial" in values:
        raise SceneError(f"{prefix}center: expected center or center_polynomial, got both")

    base = None if kind in ("rectangle", "disk") else getattr(presets, kind)
    surface = Surface.create(two_sided=kind == "disk") if base is None else base()
    changes: dict[str, Any] = {
        key: jnp.asarray(float(values[key])) for key in MATERIAL if key in values
    }
    changes |= {key: _array(values[key]) for key in ("center", "half_extents") if key in values}
    if "radius" in values:
        changes["disk_radius"] = jnp.asarray(float(values["radius"]))
    if two_sided is not None:
        changes["two_sided"] = jnp.asarray(two_sided)
    surface = dataclasses.replace(surface, name=name, driven=moves, **changes)
    if "edge_radius" in values:
        extents = surface.half_extents, surface.disk_radius
        rounded = edge(prefix + "edge_radius", float(values["edge_radius"]), *extents)
        surface = dataclasses.replace(surface, edge_radius=rounded)
    surface = dataclasses.replace(surface, rotation=_rotation(prefix, surface, values, data))
    if not moves:
        return surface, None
    axis = _array(values.get("rotation_axis", [0.0, 0.0, 1.0]))
    return surface, PolynomialPose(
        center=_array(values["center_polynomial"]) if "center_polynomial" in values
        else surface.center[None],
        rotation=surface.rotation,
        axis=axis / jnp.linalg.norm(axis),
        rate=jnp.asarray(float(values.get("rotation_rate", 0.0))),
    )  # fmt: skip


def _rotation(prefix: str, surface: Surface, values: Mapping, given: Mapping) -> jax.Array:
    """Axes of a surface from ``normal`` and ``u``, either of which may be left at its default."""
    if "normal" not in values and "u" not in values:
        return surface.rotation
    normal = _array(values["normal"]) if "normal" in values else surface.rotation[:, 2]
    try:
        return axes(normal, _array(values["u"]) if "u" in values else None)
    except ValueError as error:
        told = f"{prefix}u: expected a direction across the normal, got {shown(given.get('u'))}"
        raise SceneError(told) from error


def _array(value) -> jax.Array:
    return jnp.asarray(value, jnp.result_type(float))
