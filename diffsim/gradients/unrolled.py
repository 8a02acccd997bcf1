"""A loss with its time steps showing, for the estimators that use them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from diffsim._types import Tree
from diffsim.gradients.base import check_count
from diffsim.gradients.flat import flatten


@struct.dataclass
class UnrolledLoss:
    """s_{t+1} = transition(s_t, x), loss = Σ_{t=1}^{T} cost(s_t).

    Called on x it is an ordinary loss, so every method takes it; ``TotalPropagation`` and
    ``PersistentES`` also look inside.

    Attributes:
        initial: first state, any tree of floats.
        transition: (state, x) → state.
        cost: state → scalar; keep a step counter in the state where the cost depends on time.
        length: T.

    >>> unrolled = UnrolledLoss(jnp.zeros(()), lambda s, x: s + x, lambda s: s, 3)
    >>> float(unrolled(jnp.ones(())))
    6.0
    """

    initial: Tree
    transition: Callable = struct.field(pytree_node=False)
    cost: Callable = struct.field(pytree_node=False)
    length: int = struct.field(pytree_node=False)

    def __call__(self, x: Tree) -> jax.Array:
        return self.run(self.initial, x, self.length)[1]

    def run(self, state: Tree, x: Tree, steps: int) -> tuple[Tree, jax.Array]:
        """The state after some steps, and their summed cost."""

        def step(state, _):
            state = self.transition(state, x)
            return state, self.cost(state)

        after = jax.eval_shape(self.transition, state, x)  # a complex step makes the state complex
        state = jax.tree.map(lambda s, a: jnp.asarray(s, a.dtype), state, after)
        state, costs = jax.lax.scan(step, state, length=steps)
        return state, jnp.sum(costs)


@struct.dataclass
class FlatLoss:
    """An unrolled loss in flat vectors: start (q,), move(s, x) → (q,), cost(s) → scalar."""

    start: jax.Array
    move: Callable = struct.field(pytree_node=False)
    cost: Callable = struct.field(pytree_node=False)
    length: int = struct.field(pytree_node=False)


def flat_loss(problem) -> FlatLoss:
    """The problem unrolled in flat vectors; a plain loss is one step, s_1 = x, of cost f(s_1)."""
    if not isinstance(problem.loss, UnrolledLoss):
        return FlatLoss(problem.x, lambda s, x: x, lambda s: problem.value(s), 1)
    unrolled = problem.loss
    check_count("length", unrolled.length)
    start, unravel = flatten("initial", unrolled.initial)

    def move(state, x):
        return flatten("state", unrolled.transition(unravel(state), problem.unravel(x)))[0]

    return FlatLoss(start, move, lambda state: unrolled.cost(unravel(state)), unrolled.length)


def settled(problem, costs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Losses (…), settled, of the costs (T, …) of their steps; these costs; and which were good.

    From where a run fails on, its costs are such that they sum to its loss: a penalty, or NaN.
    """
    totals = jnp.cumsum(costs, axis=0)
    losses = problem.settle(totals[-1])
    good = jnp.isfinite(totals)
    known = jnp.where(good, totals, losses)
    steps = jnp.diff(known, axis=0, prepend=jnp.zeros_like(known[:1]))
    return losses, jnp.where(good, costs, steps), good
