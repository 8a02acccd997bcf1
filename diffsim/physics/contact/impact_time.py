"""When an impact happens, as a function of the arc and of how the surface moves."""

import jax
import jax.numpy as jnp

from diffsim.physics.court import shifted
from diffsim.physics.given import given
from diffsim.physics.proximity import proximity
from diffsim.physics.search import GRAZING_SPEED


@given
def impact_time(s, args, tangents):
    """``impact_time(s, arc, late, jet, radius, patch)``: the root s of the gap, as a function.

    By the implicit function theorem ds/dθ = −(∂gap/∂θ)/(∂gap/∂s), to any order; a grazing impact
    gets derivative 0 instead of infinity.

    Args:
        s: the root.
        arc: the ball.
        late: start of the arc in its interval, s.
        jet: coordinates of the surface at the root, and their derivatives, (4, 12, B).
        radius, patch: of the ball and the surface.
    """
    _, *inputs, patch = args

    def gap(arc, late, jet, radius, patch=patch):
        near = proximity(patch, shifted(jet, late + s * arc.duration), arc(s))
        return near.gap(radius), near.gap_rate

    arc, extents = inputs[0], () if patch.edge_radius is None else (patch,)
    ways = tangents[1 : 5 + len(extents)]  # of a plate moves its outside too
    (_, rate), (change, _) = jax.jvp(gap, (*inputs, *extents), ways)
    steep = (jnp.abs(rate) > GRAZING_SPEED) & (arc.duration > 0)
    return jnp.where(steep, -change / jnp.where(steep, arc.duration * rate, 1.0), 0.0)
