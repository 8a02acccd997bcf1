"""Contact by a stiff spring and a dashpot, in small fixed steps."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.contact import penalty
from diffsim.physics.contact.base import Flight


@struct.dataclass
class Compliant:
    """Spring-damper contact: N = max(k δ − c dgap/dt, 0) at a depth δ, and Coulomb friction.

    It tends to the impulse law as the stiffness grows: by default the dashpot is the one that
    gives each surface its restitution (at zero speed). Its gradients go through the contact
    itself, so their size grows with the stiffness; that is what it is here to show.

    Attributes:
        stiffness: k, N/m.
        damping: c, N s/m, the same for all surfaces; None fits each surface's restitution.
        slip_speed: friction is full from about this slip on, m/s.
        substeps: for each time step; None cuts a contact in 30.

    >>> from diffsim.physics import BallState, World, simulate, table
    >>> world = World.create([table(restitution=0.5)])
    >>> drop = BallState.create([0.0, 0.0, 0.9])
    >>> rollout = simulate(world, drop, duration=0.2, contact=Compliant(1e4))
    >>> before, after = rollout.impacts.before.velocity[0, 2], rollout.impacts.after.velocity[0, 2]
    >>> impacts = rollout.impacts
    >>> speeds = impacts.after.velocity[0, 2], impacts.before.velocity[0, 2]
    >>> round(float(-speeds[0] / speeds[1]), 1)
    0.5
    """

    stiffness: jax.Array | float
    damping: jax.Array | float | None = None
    slip_speed: jax.Array | float = 0.1
    substeps: int | None = struct.field(pytree_node=False, default=None)

    @classmethod
    def create(cls, stiffness, damping=None, slip_speed=0.1, substeps=None) -> "Compliant":
        """With checked values; raises as :func:`~diffsim.physics.contact.penalty.created`."""
        return penalty.created(
            cls, stiffness=stiffness, damping=damping, slip_speed=slip_speed, substeps=substeps
        )

    def prepared(self, world, step: float) -> "Compliant":
        """With ``substeps`` filled in."""
        return penalty.prepared(self, world, step)

    def fly(self, world, plan, state, max_impacts) -> Flight:
        """See :class:`~diffsim.physics.contact.base.Contact`."""
        return penalty.fly(self, world, plan, state, max_impacts)

    def normal_force(self, damping, near, ball):
        """Normal force of each surface, N."""
        gap = near.gap(ball.radius)
        force = self.stiffness * -gap - damping * near.gap_rate
        inside = (gap < 0) & (gap > -ball.radius) & (near.margin >= 0)
        return jnp.where(inside, jnp.maximum(force, 0.0), 0.0)
