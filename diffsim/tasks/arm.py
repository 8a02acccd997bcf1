"""Hit a served ball to a target with a seven-joint arm, sparing its motors and its joints."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check
from diffsim._types import ArrayLike
from diffsim.motion import BSpline
from diffsim.motion.arm import arm_generator, joint_costs, joint_load
from diffsim.physics import World
from diffsim.tasks.hit_target import SWING, SWING_TIME, HitToTarget, Serves

# What the arm reaches: two thirds of the speeds and two thirds of the width of the table.
REACH = {
    "start": ((1.2, -0.3, 1.05), (1.4, 0.3, 1.25)),
    "bounce": ((-0.95, -0.25), (-0.6, 0.25)),
    "speed": (3.9, 6.5),
}


@struct.dataclass
class ArmHitsTarget(HitToTarget):
    """:class:`HitToTarget` with the paddle at the end of an arm.

    The limits are those of joints and motors, and of how near links and paddle come to the table;
    the loss has what the motion asks of the motors too (:func:`diffsim.motion.arm.joint_costs`).

    Attributes:
        torque_weight: loss for each unit of mean squared torque, as a share of its limit.
    """

    torque_weight: jax.Array = struct.field(default=0.0)

    @classmethod
    def create(
        cls,
        world: World | None = None,
        generator: Any = None,
        serves: Serves | None = None,
        *,
        torque_weight: ArrayLike = 0.02,
        limit_weight: ArrayLike = 50.0,
        miss_weight: ArrayLike = 10.0,
        **settings: Any,
    ) -> "ArmHitsTarget":
        """The task with checked settings; the others are those of :class:`HitToTarget`.

        Args:
            generator: weights to the paths of an arm, see :mod:`diffsim.motion.arm`.

        >>> task = ArmHitsTarget.create()
        >>> task.weight_count
        28
        """
        if generator is None:
            generator = arm_generator(BSpline, SWING_TIME, **SWING)
        serves = Serves.create(**REACH) if serves is None else serves
        own: dict[str, Any] = {"limit_weight": limit_weight, "miss_weight": miss_weight}
        plain = HitToTarget.create(world, generator, serves, **own, **settings)
        fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
        return cls(**fields, torque_weight=_check.in_range("torque_weight", torque_weight, 0.0))

    def costs(self, path: Any) -> dict[str, jax.Array]:
        found = joint_costs(path)
        dtype = found["torque"].dtype
        weights = {"torque": self.torque_weight, "limits": self.limit_weight}
        return {name: jnp.asarray(weights[name], dtype) * cost for name, cost in found.items()}

    def load(self, path: Any) -> jax.Array:
        """The largest share of any limit of the arm that the swing takes, (): feasible up to 1."""
        return joint_load(path)
