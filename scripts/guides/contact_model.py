# %% [markdown]
# # Add a contact model
#
# A contact model is a record with two methods: `prepared(world, step)` fills in what depends on the
# time grid, `fly(world, plan, state, max_impacts)` follows the ball. The penalty models share small
# steps and friction, so a new one only needs a law for the normal force. Here it is Hertz's, whose
# force grows with the depth to the power of 3/2, and a dashpot after Hunt and Crossley (J. Appl.
# Mech. 42 (1975) 440): N = k δ^(3/2) (1 + χ dδ/dt).

# %%
import jax
import jax.numpy as jnp
from flax import struct

from diffsim import BallState, World, simulate, table
from diffsim.physics.contact import penalty


@struct.dataclass
class Hertz:
    """N = max(k δ^(3/2) (1 − χ dgap/dt), 0) at a depth δ.

    Attributes:
        stiffness: k, N/m^1.5.
        damping: χ, s/m.
        slip_speed: friction is full from about this slip on, m/s.
        substeps: for each time step.
    """

    stiffness: float = 3e5
    damping: float = 0.1
    slip_speed: float = 0.1
    substeps: int = struct.field(pytree_node=False, default=600)

    def prepared(self, world, step):
        return self

    def fly(self, world, plan, state, max_impacts):
        return penalty.fly(self, world, plan, state, max_impacts)

    def normal_force(self, damping, near, ball):
        gap = near.gap(ball.radius)
        inside = (gap < 0) & (gap > -ball.radius) & (near.margin >= 0)
        depth = jnp.where(inside, -gap, 1.0)  # guarded: the root has no slope at zero
        force = self.stiffness * depth**1.5 * (1 - damping * near.gap_rate)
        return jnp.where(inside, jnp.maximum(force, 0.0), 0.0)


# %% [markdown]
# A ball dropped 10 cm above a table. Without a dashpot Hertz's contact conserves energy: the ball
# leaves as fast as it came, but for the air. With one it leaves more slowly.

# %%
world = World.create([table()])
drop = BallState.create([0.0, 0.0, 0.88])


def ratio(contact):
    impacts = simulate(world, drop, duration=0.2, contact=contact).impacts
    return -impacts.after.velocity[0, 2] / impacts.before.velocity[0, 2]


elastic, lossy = float(ratio(Hertz(damping=0.0))), float(ratio(Hertz()))
print(f"restitution {elastic:.3f} without a dashpot, {lossy:.3f} with one")
assert abs(elastic - 1) < 0.01
assert lossy < elastic - 0.02
print("its derivative in the dashpot:", float(jax.grad(lambda c: ratio(Hertz(damping=c)))(0.1)))

# %% [markdown]
# In the package a model is a file in `physics/contact`, with a `create` that checks its settings,
# and a line in `physics/contact/table.py`; it then inherits the tests that all share: no gain of
# energy, balance of momentum, and gradients against differences.
