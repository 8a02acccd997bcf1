"""Real images: with H from class distances a network's mistakes become less severe."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.progress import track

from diffsim import _extra
from diffsim._files import figure_path, new_figure, save_figure
from diffsim._intervals import student_interval
from diffsim.losses import (
    DenseInfogain,
    DiagonalInfogain,
    Infogain,
    from_distances,
    softmax_infogain,
)
from studies import harness

CLASSES, PIXELS = 10, 64
# How wrong it is to read one digit as another, as when reading a meter.
DISTANCES = np.abs(np.arange(CLASSES)[:, None] - np.arange(CLASSES)).astype(np.float32)


@dataclass(frozen=True)
class Options:
    """Train on few of scikit-learn's digits with cross-entropy and with infogain, and compare."""

    seeds: int = 40
    """Networks trained with each loss, each on its own images."""
    images: int = 300
    """Images to train on; the rest of the 1,797 are for testing."""
    steps: int = 400
    """Updates by Adam, each on all the images."""
    hidden: int = 64
    """Width of the hidden layer."""
    beta: float = 0.5
    """The similarity S of digits i and j is exp(-beta |i - j|), with rows that sum to 1."""
    share: float = 0.75
    """H = (1 - share) I + share S: more makes mistakes milder, too much makes more of them."""
    seed: int = 0
    """Seed of the first network; the others count on from it."""
    out: Path = Path("runs/digits/confusion.png")
    """File for the picture: .png, .pdf or .svg."""

    def __post_init__(self):
        for name in ("steps", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Measures:
    """Of each seed's network: (seeds,) and the confusion (seeds, true, read)."""

    accuracy: np.ndarray
    severity: np.ndarray
    confusion: np.ndarray

    @classmethod
    def of(cls, confusion: np.ndarray) -> "Measures":
        """Accuracy, and the mean distance |true - read| of the mistakes."""
        mistakes = confusion * (DISTANCES > 0)
        count = mistakes.sum((1, 2))
        severity = (mistakes * DISTANCES).sum((1, 2)) / np.maximum(count, 1)
        return cls(1 - count / confusion.sum((1, 2)), severity, confusion)


def images() -> tuple[jax.Array, jax.Array]:
    """The digits, (1797, 64) from 0 to 1, and what they are.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise _extra.missing("the study of digits", "scikit-learn", "demo") from error
    data = load_digits()
    return jnp.asarray(data.data / 16, jnp.float32), jnp.asarray(data.target, jnp.int32)


def confusion(key: jax.Array, infogain: Infogain, options: Options, x, labels) -> jax.Array:
    """Train one network from the key; its test images counted by (true, read)."""
    shuffle, init = jax.random.split(key)
    order = jax.random.permutation(shuffle, len(x))
    train, test = order[: options.images], order[options.images :]
    rngs = nnx.Rngs(init)
    network = nnx.Sequential(
        nnx.Linear(PIXELS, options.hidden, rngs=rngs),
        nnx.relu,
        nnx.Linear(options.hidden, CLASSES, rngs=rngs),
    )
    graph, parameters = nnx.split(network)
    optimizer = optax.adam(3e-3)

    def loss(parameters):
        return softmax_infogain(nnx.merge(graph, parameters)(x[train]), labels[train], infogain)

    def update(carry, _):
        parameters, state = carry
        with jax.numpy_dtype_promotion("standard"):  # optax mixes int and float in its powers
            changes, state = optimizer.update(jax.grad(loss)(parameters), state)
        return (optax.apply_updates(parameters, changes), state), None

    start = (parameters, optimizer.init(parameters))
    (parameters, _), _ = jax.lax.scan(update, start, length=options.steps)
    read = jnp.argmax(nnx.merge(graph, parameters)(x[test]), axis=1)
    return jnp.zeros((CLASSES, CLASSES), jnp.int32).at[labels[test], read].add(1)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half of its 95 % interval over the seeds (Student)."""
    mean, _, high = student_interval(values)
    return mean, high - mean


def compare(options: Options) -> dict[str, Measures]:
    """Measures with cross-entropy and with infogain, seed by seed on the same images.

    Raises:
        ValueError: fewer than two seeds, no images left to test on, or a β or share out of range.
        ImportError: scikit-learn is not installed.
    """
    x, labels = images()
    if options.seeds < 2:
        raise ValueError(f"seeds: expected at least 2, for an interval, got {options.seeds}")
    if not 1 <= options.images < len(x):
        raise ValueError(f"images: expected in [1, {len(x)}), got {options.images}")
    if not 0 <= options.share <= 1:
        raise ValueError(f"share: expected in [0, 1], got {options.share}")
    similar = from_distances(DISTANCES, options.beta, normalise=True).values
    losses: dict[str, Infogain] = {
        "cross-entropy": DiagonalInfogain(jnp.ones(CLASSES, jnp.float32)),
        "infogain": DenseInfogain(
            (1 - options.share) * jnp.eye(CLASSES, dtype=jnp.float32) + options.share * similar
        ),
    }
    found = {}
    for name, infogain in losses.items():
        run = jax.jit(lambda key, h=infogain: confusion(key, h, options, x, labels))
        keys = [jax.random.key(options.seed + k) for k in range(options.seeds)]
        found[name] = Measures.of(
            np.stack([np.asarray(run(key)) for key in track(keys, f"{name:14}", transient=True)])
        )
    return found


def rows(found: dict[str, Measures]) -> Iterator[harness.Row]:
    """Both losses and their difference, with 95 % intervals over the seeds."""
    plain, ours = found.values()
    measures = {name: (m.accuracy, m.severity) for name, m in found.items()}
    measures["difference"] = (ours.accuracy - plain.accuracy, ours.severity - plain.severity)
    for name, (accuracy, severity) in measures.items():
        percent, around = interval(100 * accuracy)
        mean, half = interval(severity)
        yield {
            "loss": name,
            "accuracy (%)": f"{percent:.2f} ± {around:.2f}",
            "|true - read| of mistakes": f"{mean:.3f} ± {half:.3f}",
        }


def picture(found: dict[str, Measures], path: str | os.PathLike) -> Path:
    """Draw the mistakes of each loss: how often a digit is read as another.

    Raises:
        ValueError: the name does not end in .png, .pdf or .svg.
    """
    file = figure_path(path)
    figure = new_figure(9, 4.4, dpi=150)
    shares = {
        name: 100 * np.mean(m.confusion / m.confusion.sum((1, 2), keepdims=True), axis=0)
        for name, m in found.items()
    }
    for share in shares.values():
        np.fill_diagonal(share, np.nan)
    highest = max(np.nanmax(share) for share in shares.values())
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, share) in zip(axes, shares.items()):
        drawn = axis.imshow(share, cmap="magma_r", vmin=0, vmax=highest)
        accuracy, severity = found[name].accuracy.mean(), found[name].severity.mean()
        axis.set_title(
            f"{name}: {100 * accuracy:.1f} % right, mistakes {severity:.2f} off", size=10
        )
        axis.set_xlabel("read as")
        axis.set_xticks(range(CLASSES))
        axis.set_yticks(range(CLASSES))
    axes[0].set_ylabel("digit")
    figure.colorbar(drawn, ax=axes, label="% of the test images")
    return save_figure(figure, file)


def run(options: Options) -> harness.Found:
    """Print the table and write the picture; the table."""
    figure_path(options.out)
    found = compare(options)
    title = f"{options.seeds} seeds, {options.images} images to train on, 95 % intervals"
    table = harness.show(title, rows(found))
    print(f"picture: {picture(found, options.out)}")
    return table
