"""Published comparisons of pathwise and score-function gradients, run again beside their figures.

>>> sorted(CASES)
['ball-with-wall', 'chaos', 'friction', 'pushing', 'tennis']
"""

from diffsim.gradients.cases.ball_with_wall import BALL_WITH_WALL
from diffsim.gradients.cases.base import Case, Measured, Published, Row
from diffsim.gradients.cases.chaos import CHAOS
from diffsim.gradients.cases.friction import FRICTION
from diffsim.gradients.cases.pushing import PUSHING
from diffsim.gradients.cases.tennis import TENNIS

CASES: dict[str, Case] = {
    case.name: case for case in (BALL_WITH_WALL, PUSHING, FRICTION, TENNIS, CHAOS)
}

__all__ = ["CASES", "Case", "Measured", "Published", "Row"]
