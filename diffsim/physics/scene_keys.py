"""What a scene file may hold: its keys, their shapes and ranges, and what is said otherwise."""

import math
import reprlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from diffsim._text import short

MAX_ROWS = 64  # of a list whose length is free


class SceneError(ValueError):
    """A scene file that cannot be used; one line: the key, the value and what is allowed."""


class Key(NamedTuple):
    """What a key may hold: a shape (None: any length) and a range (low, high] or [low, high]."""

    shape: tuple[int | None, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    @property
    def allowed(self) -> str:
        kind = "a number" if not self.shape else f"numbers of shape {list(self.shape)}"
        kind = kind.replace("None", f"K <= {MAX_ROWS}")
        if self.low == -math.inf and self.high == math.inf:
            return f"{kind}, finite"
        if self.high == math.inf:
            return f"{kind} {'>' if self.open_low else '>='} {self.low:g}"
        return f"{kind} in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}]"

    def check(self, name: str, value: Any) -> Any:
        if not self._fits(value, self.shape, float):
            raise SceneError(f"{name}: expected {self.allowed}, got {shown(value)}")
        precision = np.dtype(jnp.result_type(float))
        if not self._fits(value, self.shape, precision.type):
            raise SceneError(f"{name}: expected {self.allowed}, as {precision}, got {shown(value)}")
        return value

    def _fits(self, value: Any, shape: tuple[int | None, ...], kind: type) -> bool:
        if shape:
            length = shape[0]
            return (
                isinstance(value, list)
                and (0 < len(value) <= MAX_ROWS if length is None else len(value) == length)
                and all(self._fits(item, shape[1:], kind) for item in value)
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not -1e300 < value < 1e300:  # also NaN, and integers too long for a float
            return False
        with np.errstate(over="ignore", under="ignore"):
            value = kind(value)
        above = value > self.low if self.open_low else value >= self.low
        return bool(np.isfinite(value)) and above and value <= self.high


_POSITIVE = Key(low=0.0, open_low=True)
_NOT_NEGATIVE = Key(low=0.0)
_VECTOR = Key(shape=(3,))

TOP = {"duration": _POSITIVE, "step": _POSITIVE, "gravity": _VECTOR}
AIR = {"density": _NOT_NEGATIVE}
BALL = {
    "mass": _POSITIVE,
    "radius": _POSITIVE,
    "inertia_factor": Key(low=0.0, high=1.0, open_low=True),
    "drag_coefficient": _NOT_NEGATIVE,
    "magnus_coefficient": Key(),
    "spin_decay_time": _POSITIVE,
}
STATE = {"position": _VECTOR, "velocity": _VECTOR, "spin": _VECTOR}
MATERIAL = {
    "restitution": Key(low=0.0, high=1.5),
    "restitution_slope": _NOT_NEGATIVE,
    "friction": _NOT_NEGATIVE,
    "tangential_restitution": Key(low=0.0, high=1.0),
}
POSE = {"center": _VECTOR, "normal": _VECTOR, "u": _VECTOR}
MOTION = {
    "center_polynomial": Key(shape=(None, 3)),
    "rotation_axis": _VECTOR,
    "rotation_rate": Key(),
}
EDGE = {"edge_radius": _NOT_NEGATIVE}
EXTENT = {
    "table": {"half_extents": Key((2,), 0.0, open_low=True)},
    "net": {"half_extents": Key((2,), 0.0, open_low=True)},
    "net_cord": {},
    "floor": {},
    "rectangle": {"half_extents": Key((2,), 0.0, open_low=True)},
    "disk": {"radius": _POSITIVE},
}


def shown(value: Any) -> str:
    """What came, in a few words however long or deep it is."""
    try:
        return short(_BRIEF.repr(value), 120)
    except ValueError:  # more digits than Python writes
        return "a number of too many digits"


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 3, 60, 60
