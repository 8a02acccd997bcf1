"""How a task is played, as a record: traced by JAX, or hosted by a black box.

A player is all that a trainer knows of a task. The third, episode by episode, is
:class:`diffsim.training.closed_loop.ClosedLoop`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from diffsim._intervals import Interval
from diffsim._types import ArrayLike, Tree
from diffsim.gradients import estimate, surrogate
from diffsim.gradients.blackbox import BlackBox
from diffsim.tasks import HostTask, Serving, Task
from diffsim.training import processes, sharding
from diffsim.training.evaluate import in_chunks, summary
from diffsim.training.policy import MLP

KEYS = 4  # that a player may draw with, at the start of a run and in each update


class Player(Protocol):
    """What a trainer asks; ``memory`` is what a player carries from one update to the next."""

    def bound(self, settings: Any) -> Self:
        """The same, to be trained so; it is asked nothing else before."""
        ...

    def begin(self, keys: Sequence[jax.Array]) -> tuple[Tree, Tree]:
        """First parameters, and memory."""
        ...

    def repeated(self, step: Callable) -> Callable:
        """``step(state)``, a trainer's update by :meth:`gradient`, as :func:`repeated` makes it."""
        ...

    def gradient(self, params: Tree, memory: Tree, keys: Sequence[jax.Array]) -> tuple:
        """The loss, its gradient in the parameters, and the memory after."""
        ...

    def limited(self, params: Tree) -> Tree:
        """The parameters after an update, held to where they may be."""
        ...

    def evaluations(self) -> int:
        """Simulations, or control steps, that a gradient takes, a derivative counted as one."""
        ...

    def blame(self, params: Tree, keys: Sequence[jax.Array]) -> str:
        """Where a loss or gradient that is not finite comes from."""
        ...

    def measure(self, params: Tree, key: jax.Array, step: int) -> dict[str, float]:
        """A row of metrics, on one fixed batch."""
        ...

    def evaluate(self, params: Tree, key: jax.Array, count: int) -> dict[str, Interval]:
        """How well fresh starts are played, with 95 % intervals."""
        ...

    def policy(self, params: Tree) -> Callable[[jax.Array], jax.Array]:
        """From what is seen to what is done."""
        ...

    def close(self) -> None:
        """End what runs beside this process."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class _OneTrajectory:
    """What players share of tasks that are decided at the start.

    Attributes:
        task: what to play.
        settings: how to train; not needed to :meth:`play`.
    """

    task: Serving
    settings: Any = None

    def bound(self, settings: Any) -> Self:
        return dataclasses.replace(self, settings=settings)

    def begin(self, keys):
        return self._network(keys[0])[1], ()

    def limited(self, params):
        return params

    def close(self) -> None:
        pass

    def policy(self, params: Tree) -> Callable[[jax.Array], jax.Array]:
        """Observation to trajectory weights."""
        return nnx.merge(self._graph, params)

    def serves(self, key: jax.Array) -> Tree:
        """A batch of starts."""
        return self._sampled(jax.random.split(key, self.settings.batch))

    def answers(self, params: Tree, starts: ArrayLike) -> jax.Array:
        """The network's trajectory weights for each of them, (n, weights)."""
        network = self.policy(params)
        return jax.vmap(lambda start: network(self.task.observe(start)))(starts)

    def play(self, policy: Callable, key: jax.Array, count: int = 1000) -> dict[str, np.ndarray]:
        """The task's measures of each of ``count`` serves in the real world."""
        starts = self._sampled(jax.random.split(key, count))
        answer = jax.jit(jax.vmap(lambda start: policy(self.task.observe(start))))
        return self.outcomes(answer(starts), starts)

    def evaluate(self, params: Tree, key: jax.Array, count: int) -> dict[str, Interval]:
        return summary(self.play(self.policy(params), key, count))

    def measure(self, params: Tree, key: jax.Array, step: int) -> dict[str, float]:
        """Loss terms and real-world measures."""
        starts = self.serves(key)
        weights = self._answered(params, starts)
        terms = self.terms(weights, starts)
        means = {name: float(jnp.mean(term)) for name, term in terms.items()}
        real = summary(self.outcomes(weights, starts))
        return {
            "loss": sum(means.values()),
            **{name: measure.value for name, measure in real.items()},
            **{f"term_{name}": value for name, value in means.items()},
        }

    def blame(self, params: Tree, keys: Sequence[jax.Array]) -> str:
        starts = self.serves(keys[0])
        terms = self.terms(self.answers(params, starts), starts)
        bad = [name for name, term in terms.items() if not bool(jnp.all(jnp.isfinite(term)))]
        return f"in the loss term {' and '.join(bad)}" if bad else "in the gradient"

    def terms(self, weights: jax.Array, starts: ArrayLike) -> dict[str, jax.Array]:
        """The summands of the loss of each row."""
        raise NotImplementedError

    def outcomes(self, weights: jax.Array, starts: ArrayLike) -> dict[str, np.ndarray]:
        """The task's measures of each row."""
        raise NotImplementedError

    def _network(self, key: jax.Array) -> tuple[Tree, Tree]:
        seen = jax.eval_shape(lambda key: self.task.observe(self.task.sample(key)), key)
        count, hidden = self.task.weight_count, self.settings.hidden
        return nnx.split(MLP(seen.size, hidden, count, rngs=nnx.Rngs(key)))

    @functools.cached_property
    def _graph(self) -> Tree:
        return self._network(jax.random.key(0))[0]

    # As one program each: operation by operation they are some thirty to compile.
    @functools.cached_property
    def _sampled(self) -> Callable:
        return jax.jit(jax.vmap(self.task.sample))

    @functools.cached_property
    def _answered(self) -> Callable:
        return jax.jit(self.answers)


def repeated(step: Callable) -> Callable:
    """``run(state, count)``: so many steps, compiled as one program.

    ``step(state)`` gives a new state, a loss and a gradient's norm. It ends before the first step
    whose loss or norm is not finite.

    Returns:
        from a state and a count, the state, and loss and norm of the last step tried.

    >>> state, loss, _ = repeated(lambda x: (x + 1, 1 / (3 - x), x))(jnp.zeros(()), 10)
    >>> state.item(), loss.item()
    (3.0, inf)
    """

    def one(carry):
        done, state, *_ = carry
        new, *seen = step(state)
        finite = jnp.all(jnp.isfinite(jnp.stack(seen)))
        state = jax.tree.map(lambda old, new: jnp.where(finite, new, old), state, new)
        return done + 1, state, *seen

    def run(state, count):
        seen = [jnp.zeros_like(shape) for shape in jax.eval_shape(step, state)[1:]]
        more = lambda c: (c[0] < count) & jnp.all(jnp.isfinite(jnp.stack(c[2:])))  # noqa: E731
        return jax.lax.while_loop(more, one, (0, state, *seen))[1:]

    return jax.jit(run)


_CHUNK = 128  # rows played by one call, so that any number of them compiles once


class Traced(_OneTrajectory):
    """A :class:`~diffsim.tasks.Task`, in JAX throughout, over all devices.

    >>> from diffsim.tasks import HitToTarget
    >>> from diffsim.training import Settings, Trainer
    >>> trainer = Trainer(Traced(HitToTarget.create()), Settings(batch=4))
    >>> trainer.evaluations_per_step()
    4
    """

    task: Task

    def repeated(self, step):
        return repeated(step)

    def gradient(self, params, memory, keys):
        rows = [jax.random.split(key, self.settings.batch) for key in keys[:2]]
        value, slope = sharding.averaged(self._value_and_slope)(params, rows)
        return value, slope, memory

    def _value_and_slope(self, params, keys):
        """Over serves and noise drawn from these keys, whichever device has them."""
        serve_keys, noise_keys = keys
        starts = jax.vmap(self.task.sample)(serve_keys)
        loss = surrogate(self.task.loss, self.settings.method())

        def objective(params):
            weights = self.answers(params, starts)
            return jnp.mean(
                jax.vmap(lambda w, s, k: loss(w, s, key=k))(weights, starts, noise_keys)
            )

        return jax.value_and_grad(objective)(params)

    def evaluations(self) -> int:
        key = jax.random.key(0)

        def one():
            start = self.task.sample(key)
            weights = jnp.zeros(self.task.weight_count, jax.tree.leaves(start)[0].dtype)
            return estimate(self.task.loss, self.settings.method())(weights, start, key=key)

        return jax.eval_shape(one).evaluations * self.settings.batch

    def terms(self, weights, starts):
        return self._terms(weights, starts)

    def outcomes(self, weights, starts):
        return in_chunks(lambda part: self._measures(*part), (weights, starts), _CHUNK)

    # Compiled once for each record, the task's settings constants in them.
    @functools.cached_property
    def _terms(self) -> Callable:
        return jax.jit(jax.vmap(self.task.terms))

    @functools.cached_property
    def _measures(self) -> Callable:
        return jax.jit(jax.vmap(self.task.measures))


class Hosted(_OneTrajectory):
    """A :class:`~diffsim.tasks.HostTask`, its simulator run by a black box that this record owns.

    The simulator runs between the compiled forward pass and pullback. Every process of a run
    simulates its share of the serves; its devices do not matter.
    """

    task: HostTask

    @functools.cached_property
    def box(self) -> BlackBox:
        """The simulator with its workers."""
        task = self.task

        def total(found):
            return sum(float(found[name]) for name in task.terms)

        output = {name: np.zeros(()) for name in (*task.terms, *task.measures)}
        return BlackBox(task.simulator, output=output, loss=total, workers=task.workers)

    def close(self) -> None:
        """End the workers; they start again if they are needed again."""
        self.box.close()

    def repeated(self, step):
        def run(state, count):
            for _ in range(count):
                new, *seen = step(sharding.local(state))
                if not np.isfinite(seen).all():
                    break
                state = sharding.replicated(new)
            return state, *seen

        return run

    def gradient(self, params, memory, keys):
        starts, noise_keys = processes.own(self._draw(*keys[:2]))
        practice = _world(noise_keys, False)
        value, slope = processes.averaged(
            self._slope(params, starts, args=(starts, practice), key=noise_keys)
        )
        return value, slope, memory

    @functools.cached_property
    def _draw(self) -> Callable:
        return jax.jit(lambda a, b: (self.serves(a), jax.random.split(b, self.settings.batch)))

    @functools.cached_property
    def _slope(self) -> Callable:
        return self.box.value_and_grad(self.answers, self.settings.method())

    def evaluations(self) -> int:
        start = jax.eval_shape(self.task.sample, jax.random.key(0))
        weights = jnp.zeros(self.task.weight_count, jax.tree.leaves(start)[0].dtype)
        return self.box.evaluations(weights, self.settings.method()) * self.settings.batch

    def terms(self, weights, starts):
        found = self.box.results(weights, starts, _world(weights, False))
        return {name: found[name].astype(float) for name in self.task.terms}

    def outcomes(self, weights, starts):
        found = self.box.results(weights, starts, _world(weights, True))
        return {name: found[name].astype(kind) for name, kind in self.task.measures.items()}


def _world(rows: Any, real: bool) -> np.ndarray:
    """Which world, for each row."""
    return np.full(len(rows), real)
