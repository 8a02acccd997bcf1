"""Dynamic movement primitives: a critically damped spring to a goal, shaped by a forcing term."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.motion import base
from diffsim.motion.piecewise import Piecewise, quintic_segments

_STEPS = 4  # of the integration, per segment of the path


@struct.dataclass
class DMP(base.Generator):
    """τ² q̈ = α (α/4 (goal − q) − τ q̇) + α²/4 scale x Σ_k ψ_k(x) w_k / Σ_k ψ_k(x), τ ẋ = −a x.

    q starts at home at rest, x at 1, and τ is the duration. ψ_k are Gaussians in x, centred evenly
    in time, each as wide as the distance to the next. The forcing is measured as the displacement
    of the goal it amounts to, not in (goal − home), so that it does not vanish where goal is home.
    The equation is integrated once, in ``generator(weights)``, by four steps a segment of the
    classical Runge–Kutta rule; the path is quintic on each segment, through the values, slopes and
    curvatures at its ends. Sixteen segments are within 2e-5 of the largest displacement.

    The weights are (w_k), one row of six a basis function; then, if ``goal`` is None, a row for the
    goal, home + scale w; then, if ``duration_scale`` is set, one weight w for
    duration exp(duration_scale w).

    Attributes:
        damping: α, of the spring.
        decay: a, of the canonical system.
        goal: coordinates (6,), m and rad; None makes them weights.
        duration_scale: log of the change of duration for a weight of 1; None keeps duration fixed.
        basis_count: number of basis functions.
        segments: of the path.

    Source: A. J. Ijspeert et al., Dynamical movement primitives: learning attractor models for
        motor behaviors, Neural Computation 25 (2013), eqs. 2.1–2.5.
    """

    damping: jax.Array
    decay: jax.Array
    goal: jax.Array | None
    duration_scale: jax.Array | None
    basis_count: int = struct.field(pytree_node=False)
    segments: int = struct.field(pytree_node=False)

    @classmethod
    def create(
        cls,
        basis_count: int = 8,
        goal: Any = None,
        duration_scale: Any = None,
        damping: Any = 25.0,
        decay: Any = 4.0,
        segments: int = 16,
        **settings: Any,
    ) -> "DMP":
        """A DMP generator.

        Args:
            basis_count: number of basis functions, at least 2.
            goal: coordinates (6,), m and rad; None makes them weights.
            duration_scale: log of the change of duration for a weight of 1; None keeps it fixed.
            damping: α, of the spring.
            decay: a, of the canonical system.
            segments: of the path; the error goes as (damping / segments)⁴.
            settings: duration, home, normal and scale, see :func:`diffsim.motion.base.settings`.

        Raises:
            ValueError: a setting is out of range.

        >>> import jax.numpy as jnp
        >>> path = DMP.create(goal=[0.1, 0.2, 0.3, 0.0, 0.0, 0.0])(jnp.zeros(48))
        >>> [round(float(x), 3) for x in path(1.0).position]
        [0.1, 0.2, 0.3]
        """
        common = base.settings(**settings)
        if goal is not None:
            goal = base.setting("goal", goal, common["home"].shape)
        if duration_scale is not None:
            duration_scale = base.setting("duration_scale", duration_scale)
        return cls(
            **common,
            damping=base.setting("damping", damping, positive=True),
            decay=base.setting("decay", decay, positive=True),
            goal=goal,
            duration_scale=duration_scale,
            basis_count=base.count("basis_count", basis_count, 2),
            segments=base.count("segments", segments, 1),
        )

    @property
    def weight_count(self) -> int:
        rows = self.basis_count + (self.goal is None)
        return self.axes * rows + (self.duration_scale is not None)

    def __call__(self, weights: jax.Array) -> base.Path:
        path = super().__call__(weights)
        if self.duration_scale is None:
            return path
        tempo = jnp.exp(self.duration_scale.astype(path.duration.dtype) * weights[-1])
        return base.Path(path.curve, path.duration * tempo, path.orientation)

    def curve(self, weights: jax.Array) -> Piecewise:
        rows = self.displacements(weights[: len(weights) // self.axes * self.axes])
        goal = self.home + rows[-1] if self.goal is None else self.goal
        steps = _STEPS * self.segments
        phases = jnp.linspace(0.0, 1.0, 2 * steps + 1, dtype=weights.dtype)
        shape = jax.vmap(self.basis)(phases)
        stiffness = self.damping**2 / 4
        forcing = stiffness * jnp.matmul(shape, rows[: self.basis_count], precision="highest")
        step = 1 / steps

        def rates(state, force):
            place, slope = state
            return slope, stiffness * (goal - place) - self.damping * slope + force

        def advance(state, forces):
            first = rates(state, forces[0])
            second = rates(_moved(state, first, step / 2), forces[1])
            third = rates(_moved(state, second, step / 2), forces[1])
            last = rates(_moved(state, third, step), forces[2])
            mean = jax.tree.map(
                lambda a, b, c, d: (a + 2 * (b + c) + d) / 6, first, second, third, last
            )
            return (state := _moved(state, mean, step)), state

        start = (self.home, jnp.zeros_like(self.home))
        forces = jnp.stack([forcing[:-1:2], forcing[1::2], forcing[2::2]], axis=1)
        _, later = jax.lax.scan(advance, start, forces)
        ends = slice(_STEPS - 1, None, _STEPS)
        place, slope = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[ends]]), start, later)
        _, bend = rates((place, slope), forcing[:: 2 * _STEPS])
        nodes = jnp.stack([place, slope, bend], axis=1)
        return Piecewise(quintic_segments(nodes, _STEPS * step))

    def basis(self, phase: jax.Array) -> jax.Array:
        """x ψ_k(x) / Σ ψ(x) at a phase, (basis_count,)."""
        decayed = jnp.exp(-self.decay * phase)
        centres = jnp.exp(-self.decay * jnp.linspace(0.0, 1.0, self.basis_count, dtype=phase.dtype))
        gaps = -jnp.diff(centres)
        widths = jnp.concatenate([gaps, gaps[-1:]])
        return decayed * jax.nn.softmax(-((decayed - centres) ** 2) / (2 * widths**2))


def _moved(state, rates, step):
    return jax.tree.map(lambda value, rate: value + step * rate, state, rates)
