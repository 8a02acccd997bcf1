"""A simulator that JAX cannot trace, with the derivative of its loss estimated at its input."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from diffsim._types import Tree
from diffsim.gradients import deferred
from diffsim.gradients.base import Method, attach, posed, reduced
from diffsim.gradients.blackbox.host import Host, Penalty, Statistics
from diffsim.gradients.blackbox.primitive import losses
from diffsim.gradients.random_directions import SPSA

if TYPE_CHECKING:
    from rich.console import Console


class BlackBox:
    """Any Python callable on NumPy arrays as a loss with a gradient.

    dL/dθ = ĝ · dP/dθ: ĝ estimates the derivative at the simulator's input P from losses alone,
    the network's Jacobian dP/dθ is exact. Two ways in. :meth:`value_and_grad` makes a host step:
    compiled forward pass, simulator, compiled pullback, with no callback. Calling the box gives
    a scalar function for use inside jit, vmap, grad, jvp and scan. In both, all perturbations
    of all rows go out as one batch.

    Args:
        simulator: ``simulator(x, *args)``, x and args trees of NumPy arrays like those given to
            the box. It returns the loss, a real number, or whatever ``output`` says.
        output: shapes and dtypes of its result, a tree of ``jax.ShapeDtypeStruct`` (or arrays)
            for one sample; None for one real number of any type.
        loss: result of one sample → real number, with NumPy; None where the result is the loss.
        batched: the simulator takes and returns rows: every leaf has a leading axis. A call that
            fails is halved and run again until the culprits stand alone.
        workers: spawned processes to run it in; 0 for this one. A worker imports what unpickling
            the simulator and its arguments needs, and the program's main module: 0.2 s, or a
            second if that means JAX. They are needed by simulators that use JAX inside jit.
        timeout: s that one call may take, from its start; needs workers. It ends the worker and all
            processes it started, as does the end of this program, however it comes; on other
            systems than Linux, those of its process group.
        most_calls: a worker is replaced after as many, for a simulator that leaks; needs workers.
        most_memory: bytes; a worker is replaced after the call with which it has more.
        on_error: what to do about a sample that raises, hangs, kills its worker or has no finite
            loss: "raise" its own error; "mask" it, which drops the terms it spoils (a row left
            without any has a NaN gradient); or ``Penalty(value)`` as its loss. A batch in which
            all fail is an error always, and so is a result of the wrong shape or type.
        method: any estimator that uses values alone.
        cache: results kept by the content of their input, the oldest dropped first.
        progress: show a bar for every batch, on this console if it is one.

    Raises:
        TypeError: the simulator is not callable, or cannot be pickled for workers.
        ValueError: settings that cannot work.

    >>> from diffsim.gradients import CentralDifference
    >>> box = BlackBox(lambda x: float((x**2).sum()), method=CentralDifference())
    >>> print(jax.jit(jax.grad(box))(jnp.array([1.0, 2.0])).round(2))
    [2. 4.]
    """

    def __init__(
        self,
        simulator: Callable,
        *,
        output: Tree = None,
        loss: Callable[[Tree], Tree] | None = None,
        batched: bool = False,
        workers: int = 0,
        timeout: float | None = None,
        most_calls: int | None = None,
        most_memory: int | None = None,
        on_error: str | Penalty = "raise",
        method: Method | None = None,
        cache: int = 0,
        progress: "bool | Console" = False,
    ):
        self.method = SPSA() if method is None else method
        _check_method(self.method)
        self._host = Host(
            simulator,
            output=output,
            loss=loss,
            batched=batched,
            workers=workers,
            timeout=timeout,
            most_calls=most_calls,
            most_memory=most_memory,
            on_error=on_error,
            cache=cache,
            progress=progress,
        )

    @property
    def statistics(self) -> Statistics:
        """Calls, failures and seconds so far."""
        return self._host.statistics

    def close(self) -> None:
        """End the workers; they start again if they are needed again."""
        if self._host.pool is not None:
            self._host.pool.close()

    def __enter__(self) -> "BlackBox":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __call__(self, x: Tree, *args: Tree, key: jax.Array | None = None) -> jax.Array:
        """The objective at x, with the method's estimate as its derivative in x.

        Nothing is differentiated in ``args``. For many rows, vmap with one key a row. Inside
        jit an error of the simulator ends the computation as a ``JaxRuntimeError`` with its
        message (:meth:`jit` raises the error itself), and Ctrl-C waits for the call to end.

        Args:
            x: any tree of floats: the simulator's input.
            args: trees of arrays, given to the simulator as they are.
            key: for a method that draws.
        """
        problem = self._problem(self.method, x, key)
        points = deferred.points(self.method, problem)
        rows = jax.vmap(problem.unravel)(points)
        given = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (len(points), *jnp.shape(leaf))),
            jax.lax.stop_gradient(args),
        )
        answers = losses(self._host, (rows, *given), points.dtype)
        value, gradient, _ = self._estimate(self.method, problem, answers)
        return attach(value, jax.lax.stop_gradient(gradient), x)

    def jit(self, function: Callable) -> Callable:
        """``jax.jit`` of a function that calls this box, raising the simulator's own errors.

        JAX turns an error in a callback into one of its own; this waits for the result and
        raises the error that the simulator raised.
        """
        compiled = jax.jit(function)

        def call(*args, **kwargs):
            self._host.error = None
            try:
                return jax.block_until_ready(compiled(*args, **kwargs))
            except jax.errors.JaxRuntimeError:
                if self._host.error is None:
                    raise
                raise self._host.error from None

        return call

    def value_and_grad(self, forward: Callable, method: Method | None = None) -> Callable:
        """A host step: the mean objective of a batch of rows, and its gradient in parameters.

        The forward pass and the pullback are compiled, the simulator runs between them. Under
        "mask" a row of which nothing is left is dropped from the mean.

        Args:
            forward: ``forward(parameters, *inputs)`` → x, every leaf with one row a sample.
            method: instead of the box's own.

        Returns:
            ``step(parameters, *inputs, args=(), key=None)`` → value and gradient (a tree like
            the parameters); ``args`` is a tuple of trees with a row for each row of x, and ``key``
            is one for all rows, or one for each.

        >>> box = BlackBox(lambda x, aim: float(((x - aim) ** 2).sum()))
        >>> step = box.value_and_grad(lambda scale, inputs: scale * inputs)
        >>> inputs, key = jnp.ones((8, 1)), jax.random.key(0)
        >>> value, slope = step(jnp.array(3.0), inputs, args=(np.ones((8, 1)),), key=key)
        >>> round(float(value), 2), round(float(slope), 2)
        (4.0, 4.0)
        """
        method = self.method if method is None else method
        _check_method(method)

        def rows(parameters, inputs):
            x = forward(parameters, *inputs)
            counts = {leaf.shape[:1] for leaf in jax.tree.leaves(x)}
            if len(counts) != 1 or counts == {()}:
                raise ValueError(f"forward: expected leaves with one row a sample, got {counts}")
            return x, counts.pop()[0]

        def keys(key, count):
            typed = key is not None and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
            one = key is not None and key.ndim == (0 if typed else 1)
            return jax.random.split(key, count) if one else key

        @jax.jit
        def ahead(parameters, inputs, key):
            def asked(x, key):
                problem = self._problem(method, x, key)
                return jax.vmap(problem.unravel)(deferred.points(method, problem))

            x, count = rows(parameters, inputs)
            return jax.vmap(asked)(x, keys(key, count))

        @jax.jit
        def back(parameters, inputs, key, answers):
            # The forward pass once more: it costs little beside a simulator.
            x, pull = jax.vjp(lambda p: rows(p, inputs)[0], parameters)
            value, gradient, kept = jax.vmap(
                lambda x, key, found: self._estimate(method, self._problem(method, x, key), found)
            )(x, keys(key, len(answers)), answers)

            def masked(good, tree):
                return jax.tree.map(lambda leaf: jnp.where(good, leaf, 0), tree)

            slope = jax.vmap(masked)(kept > 0, gradient)
            number = jnp.sum(kept > 0)
            slope = jax.tree.map(lambda leaf: leaf / number.astype(leaf.dtype), slope)
            return jnp.nanmean(value), pull(slope)[0], number

        def step(parameters, *inputs, args=(), key=None):
            asked = jax.device_get(ahead(parameters, inputs, key))
            first = jax.tree.leaves(asked)[0]
            count, each = first.shape[:2]
            asked = jax.tree.map(lambda leaf: leaf.reshape(count * each, *leaf.shape[2:]), asked)
            given = jax.tree.map(lambda leaf: _repeated(leaf, count, each), jax.device_get(args))
            answers = self._host.losses((asked, *given), first.dtype)
            value, slope, number = back(parameters, inputs, key, answers.reshape(count, each))
            if self._host.on_error == "mask" and not int(number):
                raise FloatingPointError("simulator: every row lost all its terms to failures")
            return value, slope

        return step

    def results(self, x: Tree, *args: Tree) -> Tree:
        """The simulator's checked results for rows of x and args, each leaf with a leading axis.

        Raises:
            Exception: the first failure, whatever ``on_error`` says.
        """
        found, failures = self._host.results(jax.device_get((x, *args)))
        if failures:
            raise min(failures.items())[1]
        return found

    def evaluations(self, x: Tree, method: Method | None = None) -> int:
        """Simulations that one estimate at x takes."""
        method = self.method if method is None else method
        key = jax.random.key(0)
        return jax.eval_shape(
            lambda x: deferred.points(method, self._problem(method, x, key)), x
        ).shape[0]

    def _problem(self, method, x, key) -> Tree:
        return posed(None, method, x, (), key, kind=deferred.Deferred)

    def _estimate(self, method, problem, answers):
        drawn = deferred.draws(method, problem, answers)
        value, gradient, _, kept = reduced(drawn, self._host.on_error == "mask")
        return value, problem.unravel_x(gradient), kept


def _check_method(method: object) -> None:
    if not isinstance(method, Method):
        raise TypeError(f"method: expected a Method record such as SPSA(), got {method!r}")
    method.check()


def _repeated(leaf: Tree, count: int, each: int) -> np.ndarray:
    """A row of args for every perturbation of its row of x."""
    leaf = np.asarray(leaf)
    if leaf.shape[:1] != (count,):
        raise ValueError(f"args: expected {count} rows, one for each row of x, got {leaf.shape}")
    return np.repeat(leaf, each, axis=0)
