"""Published comparisons of pathwise and score-function gradients, run again beside their figures.

>>> sorted(CASES)
['ball-with-wall', 'chaos', 'friction', 'pushing', 'tennis']
"""

from studies.cases.ball_with_wall import BALL_WITH_WALL
from studies.cases.base import Case, Measured, Published, Row
from studies.cases.chaos import CHAOS
from studies.cases.friction import FRICTION
from studies.cases.pushing import PUSHING
from studies.cases.tennis import TENNIS

CASES: dict[str, Case] = {
    case.name: case for case in (BALL_WITH_WALL, PUSHING, FRICTION, TENNIS, CHAOS)
}

__all__ = ["CASES", "Case", "Measured", "Published", "Row"]
