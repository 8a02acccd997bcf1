"""When an impact happens, as a function of the arc and of how the surface moves."""

import jax
import jax.numpy as jnp

from diffsim.physics.arc import Arc
from diffsim.physics.court import shifted
from diffsim.physics.proximity import proximity
from diffsim.physics.search import GRAZING_SPEED


@jax.custom_jvp
def impact_time(s, arc: Arc, late, jet, patch, radius):
    """The root s of the gap, as a function of the arc and the motion of the surface.

    By the implicit function theorem ds/dθ = −(∂gap/∂θ)/(∂gap/∂s), to any order; a grazing impact
    gets derivative 0 instead of infinity.

    Args:
        s: the root.
        arc: the ball.
        late: start of the arc in its interval, s.
        jet: coordinates of the surface at the root, and their derivatives, (4, 12, B).
        patch, radius: of the surface and the ball.
    """
    return s


@impact_time.defjvp
def _(primals, tangents):
    (_, arc, late, jet, patch, radius), (_, *ways) = primals, tangents
    s = impact_time(*primals)

    def gap(arc, late, jet, radius, patch=patch):
        near = proximity(patch, shifted(jet, late + s * arc.duration), arc(s))
        return near.gap(radius), near.gap_rate

    extents = () if patch.edge_radius is None else (patch,)  # of a plate move its outside
    ways = (*ways[:3], ways[4], ways[3])[: 4 + len(extents)]
    (_, rate), (change, _) = jax.jvp(gap, (arc, late, jet, radius, *extents), ways)
    steep = (jnp.abs(rate) > GRAZING_SPEED) & (arc.duration > 0)
    return s, jnp.where(steep, -change / jnp.where(steep, arc.duration * rate, 1.0), 0.0)
