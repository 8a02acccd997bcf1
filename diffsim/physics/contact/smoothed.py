"""Spring-damper contact without corners: felt a little before the ball touches."""

import jax
import jax.numpy as jnp
from flax import struct

from diffsim.physics.contact import penalty
from diffsim.physics.contact.base import Flight


@struct.dataclass
class Smoothed:
    """Spring-damper contact with depth softplus(−κ gap)/κ and soft patch edges.

    It tends to :class:`~diffsim.physics.Compliant` as the sharpness grows. With
    x = k δ − c dgap/dt · σ(−κ gap), N = x σ(κ x/k) · σ(κ margin) · tanh(κ distance): smooth in
    everything, so that a ball which passes an edge still has a slope towards it; the price is a
    force at a distance of about 1/κ.

    Attributes:
        sharpness: κ, 1/m; 1e4 acts within about 0.1 mm.
        stiffness: k, N/m.
        damping: c, N s/m; None fits each surface's restitution.
        slip_speed: friction is full from about this slip on, m/s.
        substeps: for each time step; None cuts a contact in 30.

    >>> from diffsim.physics import BallState, World, simulate, table
    >>> drop = BallState.create([0.0, 0.0, 0.9])
    >>> contact = Smoothed(sharpness=1e4)
    >>> rollout = simulate(World.create([table()]), drop, duration=0.2, contact=contact)
    >>> bool(rollout.final.velocity[2] > 0)
    True
    """

    sharpness: jax.Array | float
    stiffness: jax.Array | float = 1e4
    damping: jax.Array | float | None = None
    slip_speed: jax.Array | float = 0.1
    substeps: int | None = struct.field(pytree_node=False, default=None)

    @classmethod
    def create(
        cls, sharpness, stiffness=1e4, damping=None, slip_speed=0.1, substeps=None
    ) -> "Smoothed":
        """With checked values; raises as :func:`~diffsim.physics.contact.penalty.created`."""
        settings = {"damping": damping, "slip_speed": slip_speed, "substeps": substeps}
        return penalty.created(cls, sharpness=sharpness, stiffness=stiffness, **settings)

    def prepared(self, world, step: float) -> "Smoothed":
        """With ``substeps`` filled in."""
        return penalty.prepared(self, world, step)

    def fly(self, world, plan, state, max_impacts) -> Flight:
        """See :class:`~diffsim.physics.contact.base.Contact`."""
        return penalty.fly(self, world, plan, state, max_impacts)

    def normal_force(self, damping, near, ball):
        """Normal force of each surface, N."""
        kappa, sigmoid = self.sharpness, jax.nn.sigmoid
        gap = near.gap(ball.radius)
        force = self.stiffness * jax.nn.softplus(-kappa * gap) / kappa
        force = force - damping * near.gap_rate * sigmoid(-kappa * gap)
        force = force * sigmoid(kappa / self.stiffness * force) * sigmoid(kappa * near.margin)
        return force * jnp.tanh(kappa * jax.nn.relu(gap + ball.radius))
