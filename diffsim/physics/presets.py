"""Published constants of table tennis, each with its source. The sources disagree: compare them.

Ball and table sizes are those of the ITTF Handbook, Laws of Table Tennis: 2.7 g, 40 mm; table
2.74 m × 1.525 m × 0.76 m; net 0.1525 m high and as far over each side; a ball dropped from 30 cm
rebounds 23 cm, which is e ≈ √(23/30) = 0.876 in a vacuum and more in air. What a source does not
give is an estimate here, not measured: μ 0.25 of the table, e 0.78 (as :func:`koc`), μ 0.4 and
radius 0.08 m of the paddle, C_M, net and floor.

>>> [round(float(preset().ball.drag_coefficient), 3) for preset in PRESETS.values()]
[0.4, 0.472, 0.55, 0.505, 0.4]
"""

import math
from collections.abc import Callable

from diffsim.physics.state import Air, Ball
from diffsim.physics.surfaces import Surface, floor, net, paddle, table
from diffsim.physics.world import World

_AREA, _MASS = math.pi * 0.02**2, 2.7e-3


def _world(drag, density, table_, bat) -> World:
    ball = Ball.create(drag_coefficient=drag)
    return World.create([table_, net(), floor(), bat], ball=ball, air=Air.create(density))


def ittf() -> World:
    """Sizes, mass and rebound of the ITTF Handbook; C_D = 0.4 of a smooth sphere.

    Down, v² = (g/k)(1 − exp(−2 k 0.3 m)); up to h, v² = (g/k)(exp(2 k h) − 1): k = ½ ρ C_D A/m.
    """
    k = 0.5 * 1.204 * 0.4 * _AREA / _MASS
    bouncy = math.sqrt(math.expm1(2 * k * 0.23) / -math.expm1(-2 * k * 0.3))
    return _world(0.4, 1.204, table(bouncy, 0.25), paddle(0.08, 0.78, 0.4))


def robot_table_tennis() -> World:
    """Identified for a robot: C_D 0.472 at 1.225 kg/m³, table e 0.974, μ 0.1.

    Source: D'Ambrosio et al., "Robotic table tennis: a case study into a high speed learning
    system", RSS 2023, system identification.
    """
    return _world(0.472, 1.225, table(0.974, 0.1), paddle(0.08, 0.78, 0.4))


def ace() -> World:
    """Identified at match speed: C_D 0.55 at 1.204 kg/m³, table e 0.98 − 0.02 |v_z|, μ 0.25.

    Source: the ACE robot table-tennis system, 2026.
    """
    bouncy = table(0.98, 0.25, restitution_slope=0.02)
    return _world(0.55, 1.204, bouncy, paddle(0.08, 0.78, 0.4))


def koc() -> World:
    """k_D = 0.1414 /m, table e 0.88, racket e 0.78 of radius 0.076 m.

    Source: O. Koç, G. Maeda & J. Peters, "Online optimal trajectory generation for robot table
    tennis", Robotics and Autonomous Systems 105 (2018) 121. The drag is given as k_D =
    ½ ρ C_D A/m; C_D follows for ρ = 1.204 kg/m³.
    """
    drag = 0.1414 * 2 * _MASS / (1.204 * _AREA)
    return _world(drag, 1.204, table(0.88, 0.25), paddle(0.076, 0.78, 0.4))


def nakashima() -> World:
    """Table e 0.93, μ 0.25; the rest as :func:`ittf`.

    Source: A. Nakashima, Y. Ogawa, Y. Kobayashi & Y. Hayakawa, "Modeling of rebound phenomenon of
    a rigid ball with friction and elastic effects", ACC 2010.
    """
    return _world(0.4, 1.204, table(0.93, 0.25), paddle(0.08, 0.78, 0.4))


def rubber_paddle(radius=0.08) -> Surface:
    """A paddle with rubber that turns the spin round: e 0.81, k_p 1.9e-3 kg.

    There J_t = −k_p u_t without a limit, so μ is 1 here, an estimate, as is the radius; and
    e_t = k_p (1 + 1/a)/m − 1 = 0.76.
    Source: A. Nakashima, Y. Ogawa, Y. Kobayashi & Y. Hayakawa, as for :func:`nakashima`.

    >>> round(float(rubber_paddle().tangential_restitution), 2)
    0.76
    """
    return paddle(radius, 0.81, 1.0, tangential_restitution=1.9e-3 * 2.5 / _MASS - 1)


PRESETS: dict[str, Callable[[], World]] = {
    "ittf": ittf,
    "robot-table-tennis": robot_table_tennis,
    "ace": ace,
    "koc": koc,
    "nakashima": nakashima,
}
