"""Time of the loss over that of optax's cross-entropy with integer labels, beside other ways."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffsim.losses.base import DenseInfogain, DiagonalInfogain, Infogain, SmoothingInfogain
from diffsim.losses.infogain import softmax_infogain
from diffsim.losses.kernels import forms
from studies import harness

SHAPES = ((256, 1000), (4096, 1000), (16384, 100), (256, 32768))
LABELS = 1000  # at most so many kinds of labels, as a square H of 32768 classes takes 4 GB
BASE = "optax"
COPY = "x + 1"


def naive(x: jax.Array, labels: jax.Array, values: jax.Array) -> jax.Array:
    """What one writes without thinking: −Σ H[label] log softmax(x), by automatic derivatives."""
    return -jnp.mean(jnp.sum(values[labels] * jax.nn.log_softmax(x), axis=1))


def inputs(shape: tuple[int, int], seed: int) -> tuple[jax.Array, jax.Array, dict[str, Infogain]]:
    """Logits, labels, and a record of H for every kind that has a goal."""
    rows, classes = shape
    rng = np.random.default_rng(seed)
    kinds = min(classes, LABELS)
    x = jnp.asarray(rng.standard_normal(shape, np.float32))
    labels = jnp.asarray(rng.integers(0, kinds, rows), jnp.int32)
    values = jnp.asarray(rng.uniform(0.1, 2, (kinds, classes)), x.dtype)
    return x, labels, {
        "dense": DenseInfogain(values),
        "diagonal": DiagonalInfogain(jnp.linspace(0.5, 2, classes, dtype=x.dtype)),
        "smoothing": SmoothingInfogain.create(jnp.float32(0.1), classes),
    }  # fmt: skip


def cross_entropy(x: jax.Array, labels: jax.Array, _: Any = None) -> jax.Array:
    """Optax's, with integer labels."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x, labels))


def candidates(shape: tuple[int, int], seed: int) -> dict[str, tuple[Callable, Callable]]:
    """For every way: functions for the value, and for value and gradient."""
    x, labels, records = inputs(shape, seed)
    dense: Any = records["dense"]

    def smoothed(x, labels, _):
        soft = optax.smooth_labels(jax.nn.one_hot(labels, shape[1], dtype=x.dtype), 0.1)
        return jnp.mean(optax.softmax_cross_entropy(x, soft))

    jobs: dict[str, tuple[Callable, Infogain | jax.Array | None]] = {
        BASE: (cross_entropy, None),
        **{kind: (softmax_infogain, record) for kind, record in records.items()},
        "naive": (naive, dense.values),
        "optax soft": (smoothed, None),
    }
    found = {name: _compiled(f, x, labels, extra) for name, (f, extra) in jobs.items()}
    if importlib.util.find_spec("torch") is not None:
        found |= _torch(np.asarray(x), np.asarray(labels), np.asarray(dense.values))
    return found


def passes(
    shape: tuple[int, int], seed: int
) -> tuple[dict[str, Callable[[], Any]], dict[str, int]]:
    """The passes that a value and its gradient are made of, each alone; and the bytes they move.

    Those are of what a pass is given and what it gives back, of H the labels' rows: none can move
    less.
    """
    x, labels, records = inputs(shape, seed)
    calls, moved = {}, {}

    def rows(argument):
        return (
            argument.values[np.unique(labels)] if isinstance(argument, DenseInfogain) else argument
        )

    def add(name, f, *arguments):
        compiled = jax.jit(f).lower(*arguments).compile()
        calls[name] = lambda: compiled(*arguments)
        result = compiled(*arguments)
        used = jax.tree.map(
            rows, (arguments, result), is_leaf=lambda a: isinstance(a, DenseInfogain)
        )
        moved[name] = sum(leaf.nbytes for leaf in jax.tree.leaves(used))
        return result

    add(COPY, lambda x: x + 1, x)
    add("largest of each row", lambda x: jnp.max(x, axis=1), x)
    add("exp of each logit", jnp.exp, x)
    add("optax, value and gradient", jax.value_and_grad(cross_entropy), x, labels)
    for kind, h in records.items():
        chosen = forms(h)
        kernel = chosen.get(jax.default_backend(), chosen["default"]).kernel
        residual = add(f"{kind}, sums", kernel.sums, x, labels, h)[1]
        add(f"{kind}, slopes", kernel.slopes, x, labels, h, residual)
        add(f"{kind}, value and gradient", jax.value_and_grad(softmax_infogain), x, labels, h)
    return calls, moved


def _compiled(f: Callable, x: jax.Array, labels: jax.Array, extra: Any):
    value, both = jax.jit(f), jax.jit(jax.value_and_grad(f))
    return lambda: value(x, labels, extra), lambda: both(x, labels, extra)


def _torch(x: np.ndarray, labels: np.ndarray, values: np.ndarray):
    """Torch's cross-entropy with integer labels, and with the rows of H as soft labels."""
    import torch

    logits = torch.tensor(x, requires_grad=True)
    targets, matrix = torch.tensor(labels, dtype=torch.long), torch.tensor(values)

    def both(loss):
        def call():
            logits.grad = None
            loss().backward()

        return call

    integer = lambda: torch.nn.functional.cross_entropy(logits, targets)  # noqa: E731
    soft = lambda: torch.nn.functional.cross_entropy(logits, matrix[targets])  # noqa: E731
    return {"torch": (integer, both(integer)), "torch soft": (soft, both(soft))}


def benchmark(
    rounds: int = 25,
    seed: int = 0,
    cpu: bool = False,
    shapes: tuple[tuple[int, int], ...] = SHAPES,
) -> harness.Found:
    """Print median times of the value, and of value and gradient, relative to optax; float32.

    A second table has the passes that they are made of, each alone: the megabytes that it has to
    move, the least time for those at the speed of x + 1 on the same logits, and the time it takes.
    A pass far above its least time computes more than it moves. Torch takes part if installed
    (extra bench). H has at most 1000 rows.

    Args:
        rounds: number of timed calls of each, in random order, each after an untimed one.
        seed: seed of logits, labels, H and the order of the calls.
        cpu: count processor time instead of wall time, for a machine that is busy.
        shapes: rows and classes.
    """
    clock = time.process_time if cpu else time.perf_counter

    def rows() -> Iterator[harness.Row]:
        for shape in shapes:
            found = candidates(shape, seed)
            for index, what in enumerate(("value", "value and gradient")):
                calls = {name: pair[index] for name, pair in found.items()}
                seconds = harness.medians(calls, rounds, seed, clock=clock, warm=True)
                label = f"{shape[0]} x {shape[1]}, {what}"
                yield {"timed": label, "optax, ms": 1e3 * seconds[BASE]} | harness.ratios(
                    seconds, BASE
                )

    def single() -> Iterator[harness.Row]:
        for shape in shapes:
            calls, moved = passes(shape, seed)
            seconds = harness.least(calls, rounds, clock=clock, warm=True)
            speed = moved[COPY] / seconds[COPY]
            for name, taken in seconds.items():
                yield {
                    "pass": f"{shape[0]} x {shape[1]}, {name}",
                    "MB": moved[name] / 1e6,
                    "least, ms": 1e3 * moved[name] / speed,
                    "ms": 1e3 * taken,
                    "over least": taken * speed / moved[name],
                }

    return harness.show("median time over that of optax", rows()) | harness.show(
        "passes, and the least time for what they move", single()
    )
