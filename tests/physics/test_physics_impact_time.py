"""The time of an impact: the derivative of a root, and what counts as one at the end of an arc."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.physics import Surface
from diffsim.physics.arc import Arc
from diffsim.physics.contact.impact_time import impact_time
from diffsim.physics.pieces import NODES
from diffsim.physics.proximity import Patch, Proximity
from diffsim.physics.search import first_contact, rounding
from diffsim.physics.vector import Vector

R, G, UP, LENGTH = 0.02, 9.81, -0.3, 0.05  # m, m/s², m/s at the start of the arc, s of its interval
PLATE = np.polynomial.Polynomial([0.01, 0.2, 1.5])  # m, after the start of the interval


def along(z):
    return Vector(0 * z, 0 * z, z)


def test_it_depends_on_the_height_and_on_when_the_arc_began():
    """A ball in a vacuum over a plate that speeds up meets it at the root of a parabola."""

    def wait(late, height):
        c, u, a = PLATE.coef
        linear, constant = u + 2 * a * late - UP, R + c + (u + a * late) * late - height
        square = G / 2 + a
        return (jnp.sqrt(linear**2 - 4 * square * constant) - linear) / (2 * square)

    def expected(late, height):
        return wait(late, height) / (LENGTH - late)

    point = jnp.array([0.012]), jnp.array([0.04])
    met = float(point[0][0] + wait(*point)[0])
    plate = jnp.zeros((4, 12, 1)).at[0, 3:, 0].set(jnp.eye(3).ravel())
    plate = plate.at[:, 2, 0].set(jnp.array([PLATE.deriv(k)(met) for k in range(4)]))
    s, patch = expected(*point), Patch.of(Surface.create())

    def ours(late, height):
        duration, still = LENGTH - late, along(0 * late)
        velocity = (along(UP + 0 * late), along(-G * duration), still, still, still)
        arc = Arc(duration, along(height), velocity, (still,) * 4, 0 * late)
        return impact_time(s, arc, late, plate, jnp.full(1, R), patch)

    assert 0 < float(s[0]) < 1
    slopes = [jax.jit(lambda *ways, f=f: jax.jvp(f, point, ways)) for f in (ours, expected)]
    for way in ((1.0, 0.0), (0.0, 1.0)):
        (value, slope), (_, true) = (f(*(jnp.array([x]) for x in way)) for f in slopes)
        assert float(value[0]) == float(s[0])
        assert float(slope[0]) == pytest.approx(float(true[0]), rel=1e-10)


@pytest.mark.parametrize(("end", "closed"), [(-0.2, True), (0.2, True), (2.0, False)])
def test_a_gap_of_the_size_of_rounding_at_the_end_of_an_arc_is_closed(end, closed):
    """The gap falls evenly, 1 m/s, to a multiple of what may be rounding.

    Where it ends above zero the root is known to its last bisection; Newton's steps come later.
    """
    lane, duration = jnp.ones(1), 0.08
    falls = duration * (1 - jnp.linspace(0, 1, NODES + 1))
    tiny = rounding(R + 1 + R + falls[0])  # as the ball's place and radius add up
    distance = (R + falls + end * tiny)[None, :, None]
    one, local = jnp.ones_like(distance), jnp.stack([0 * distance, 0 * distance, distance])
    near = Proximity(distance, -one, one, one, local)
    allowed = jnp.ones((1, NODES, 1), bool)
    found, s, *_ = first_contact(near, duration * lane, R * lane, lane, allowed)
    assert bool(found[0]) == closed
    assert float(s[0]) == pytest.approx(1.0 if closed else 2.0, abs=1e-3)
