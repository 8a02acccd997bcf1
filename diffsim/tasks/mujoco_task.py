"""The arm's hitting task with MuJoCo's engine in the place of the event-driven world."""

import dataclasses
from collections.abc import Callable

import jax

from diffsim.physics import BallState
from diffsim.tasks.arm import ArmHitsTarget
from diffsim.tasks.mujoco_rally import MEASURES, TERMS, MuJoCoRally


@dataclasses.dataclass(frozen=True)
class MujocoHits:
    """What a trainer needs to know of a task whose simulator is a black box on the host.

    Serves, what the network sees of them, and the generator are those of the arm's task; there is
    no ``loss`` that JAX could trace, but a ``simulator``.

    Attributes:
        arm: the task.
        simulator: ``simulator(weights, start, real)`` → numbers by name, in NumPy.
        workers: processes to run it in; 0 for this one.
    """

    arm: ArmHitsTarget
    simulator: Callable[..., dict[str, float]]
    workers: int = 0
    terms = TERMS
    measures = MEASURES

    @classmethod
    def create(cls, arm: ArmHitsTarget | None = None, workers: int = 0) -> "MujocoHits":
        """The task in MuJoCo; by default the shipped arm's.

        >>> MujocoHits.create().weight_count
        28
        """
        arm = ArmHitsTarget.create() if arm is None else arm
        return cls(arm, MuJoCoRally.create(arm), workers)

    @property
    def weight_count(self) -> int:
        return self.arm.weight_count

    def sample(self, key: jax.Array) -> BallState:
        return self.arm.sample(key)

    def observe(self, start: BallState) -> jax.Array:
        return self.arm.observe(start)
