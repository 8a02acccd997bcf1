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
from studies import harness

SHAPES = ((256, 1000), (4096, 1000), (16384, 100), (256, 32768))
LABELS = 1000  # at most so many kinds of labels, as a square H of 32768 classes takes 4 GB
BASE = "optax"


def naive(x: jax.Array, labels: jax.Array, values: jax.Array) -> jax.Array:
    """What one writes without thinking: −Σ H[label] log softmax(x), by automatic derivatives."""
    return -jnp.mean(jnp.sum(values[labels] * jax.nn.log_softmax(x), axis=1))


def candidates(shape: tuple[int, int], seed: int) -> dict[str, tuple[Callable, Callable]]:
    """For every way: functions for the value, and for value and gradient."""
    rows, classes = shape
    rng = np.random.default_rng(seed)
    kinds = min(classes, LABELS)
    x = rng.standard_normal(shape, np.float32)
    labels = rng.integers(0, kinds, rows).astype(np.int32)
    values = rng.uniform(0.1, 2, (kinds, classes)).astype(np.float32)
    arrays = jnp.asarray(x), jnp.asarray(labels)
    smoothing = SmoothingInfogain.create(jnp.float32(0.1), classes)

    def ours(x, labels, infogain):
        return softmax_infogain(x, labels, infogain)

    def cross_entropy(x, labels, _):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x, labels))

    def smoothed(x, labels, _):
        return jnp.mean(
            optax.softmax_cross_entropy(
                x, optax.smooth_labels(jax.nn.one_hot(labels, classes, dtype=x.dtype), 0.1)
            )
        )

    dense = DenseInfogain(jnp.asarray(values))
    diagonal = DiagonalInfogain(jnp.linspace(0.5, 2, classes, dtype=x.dtype))
    jobs: dict[str, tuple[Callable, Infogain | jax.Array | None]] = {
        BASE: (cross_entropy, None),
        "dense": (ours, dense),
        "diagonal": (ours, diagonal),
        "smoothing": (ours, smoothing),
        "naive": (naive, dense.values),
        "optax soft": (smoothed, None),
    }
    found = {name: _compiled(f, *arrays, extra) for name, (f, extra) in jobs.items()}
    if importlib.util.find_spec("torch") is not None:
        found |= _torch(x, labels, values)
    return found


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

    Torch takes part if installed (extra bench). H has at most 1000 rows.

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

    return harness.show("median time over that of optax", rows())
