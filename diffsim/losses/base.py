"""The kinds of H: one record each, that can give the row of a label."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim._check import floating, in_range
from diffsim._types import ArrayLike

EVERY = slice(None)
BLOCK = 128  # rows of H written out at a time, for soft labels of a kind without a better way


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


class Infogain:
    """H, (K, C): how much of a label k counts for class j. To add a kind, give ``rows``."""

    @property
    def shape(self) -> tuple[int, int]:
        """Labels K and classes C."""
        raise NotImplementedError

    def rows(self, labels: jax.Array, part: slice = EVERY) -> jax.Array:
        """The rows of labels, (n,) in [0, K) -> (n, C), or only a part of their columns."""
        raise NotImplementedError

    def matrix(self) -> jax.Array:
        """H written out, (K, C)."""
        return self.rows(jnp.arange(self.shape[0]))

    def mixed(self, soft: jax.Array) -> jax.Array:
        """The rows of soft labels, soft · H, (n, K) -> (n, C); H is not written out."""
        (count, classes), number = self.shape, soft.shape[0]
        pad = -count % BLOCK
        labels = jnp.minimum(jnp.arange(count + pad), count - 1).reshape(-1, BLOCK)
        parts = jnp.pad(soft, ((0, 0), (0, pad))).reshape(number, -1, BLOCK)

        @jax.checkpoint
        def add(total, block):
            return total + _product(block[1], self.rows(block[0])), None

        start = jnp.zeros((number, classes), soft.dtype)
        return jax.lax.scan(add, start, (labels, parts.swapaxes(0, 1)))[0]


def _matrix(name: str, values: ArrayLike, low: float = -np.inf) -> jax.Array:
    array = in_range(name, values, low)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name}: expected a matrix (labels, classes), got {array.shape}")
    return array


def _like_distances(values: ArrayLike) -> bool:
    """Whether a square matrix, if it is known, is zero on its diagonal and not negative beside."""
    if isinstance(values, jax.core.Tracer):
        return False
    with jax.ensure_compile_time_eval():
        array = jnp.asarray(values)
        if array.shape[0] != array.shape[1] or jnp.any(jnp.diagonal(array)):
            return False
        return bool(jnp.min(array) >= 0) and bool(jnp.max(array) > 0)


@struct.dataclass
class DenseInfogain(Infogain):
    """H as it is.

    Attributes:
        values: (K, C); square unless labels and classes are of different kinds.

    >>> DenseInfogain.create([[1.0, 0.5], [0.0, 1.0]]).shape
    (2, 2)
    """

    values: jax.Array

    @classmethod
    def create(cls, values: ArrayLike) -> "DenseInfogain":
        """Check that the entries are finite and the array is a matrix; warn of distances.

        Warns:
            UserWarning: the diagonal is zero and the rest is not negative.
        """
        array = _matrix("infogain", values)
        if _like_distances(values):
            warnings.warn(
                "infogain: expected similarities, got a matrix with a zero diagonal, as of "
                "distances: the right class would count for nothing; from_distances(D) turns "
                "distances into similarities",
                stacklevel=2,
            )
        return cls(array)

    @property
    def shape(self):
        return self.values.shape

    def rows(self, labels, part=EVERY):
        return self.values[:, part].at[labels].get(mode="promise_in_bounds")

    def mixed(self, soft):
        return _product(soft, self.values)


class PeakedInfogain(Infogain):
    """H with one entry ``peak`` on the diagonal and the same ``rest`` beside it in each row."""

    def parts(self, labels: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Entry on the diagonal and beside it, (n,) each; None for zero."""
        raise NotImplementedError

    def rows(self, labels, part=EVERY):
        peak, rest = self.parts(labels)
        rest = jnp.zeros_like(peak) if rest is None else rest
        hit = labels[:, None] == jnp.arange(self.shape[1], dtype=labels.dtype)
        return jnp.where(hit, peak[:, None], rest[:, None])[:, part]

    def mixed(self, soft):
        peak, rest = self.parts(jnp.arange(self.shape[0]))
        if rest is None:
            return soft * peak
        return soft * (peak - rest) + _product(soft, rest)[:, None]


@struct.dataclass
class DiagonalInfogain(PeakedInfogain):
    """H = diag(values): weighted cross-entropy; ones give cross-entropy itself.

    Attributes:
        values: (C,).
    """

    values: jax.Array

    @classmethod
    def create(cls, values: ArrayLike) -> "DiagonalInfogain":
        """Check that it is a finite vector."""
        array = in_range("values", values)
        if array.ndim != 1 or not array.size:
            raise ValueError(f"values: expected shape (classes,), got {array.shape}")
        return cls(array)

    @property
    def shape(self):
        return 2 * self.values.shape

    def parts(self, labels):
        return self.values.at[labels].get(mode="promise_in_bounds"), None


@struct.dataclass
class SmoothingInfogain(PeakedInfogain):
    """Label smoothing: H = (1 − α) I + α/C.

    Attributes:
        alpha: (), 0 to 1.
        classes: C.

    >>> SmoothingInfogain.create(0.2, 5).matrix()[:2, :2].round(2)
    Array([[0.84, 0.04],
           [0.04, 0.84]], dtype=...)
    """

    alpha: jax.Array
    classes: int = struct.field(pytree_node=False)

    @classmethod
    def create(cls, alpha: ArrayLike, classes: int) -> "SmoothingInfogain":
        """Check that α is one number from 0 to 1 and that there are classes."""
        if classes < 1:
            raise ValueError(f"classes: expected at least 1, got {classes}")
        return cls(in_range("alpha", floating("alpha", alpha, ()), 0, 1), classes)

    @property
    def shape(self):
        return self.classes, self.classes

    def parts(self, labels):
        rest = jnp.broadcast_to(self.alpha / self.classes, labels.shape)
        return 1 - self.alpha + rest, rest


@struct.dataclass
class SparseInfogain(Infogain):
    """A few entries in each row, zeros elsewhere.

    Attributes:
        values: (K, k).
        indices: (K, k) classes, no class twice in a row.
        classes: C.
    """

    values: jax.Array
    indices: jax.Array
    classes: int = struct.field(pytree_node=False)

    @classmethod
    def create(cls, values: ArrayLike, indices: ArrayLike, classes: int) -> "SparseInfogain":
        """Check shapes, the range of the indices and that none comes twice in a row."""
        array = in_range("values", values)
        if array.ndim != 2:
            raise ValueError(f"values: expected shape (labels, entries), got {array.shape}")
        where = np.asarray(indices)
        if where.shape != array.shape or where.dtype.kind not in "iu":
            raise ValueError(
                f"indices: expected integers {array.shape}, got {where.dtype} {where.shape}"
            )
        if where.size and (where.min() < 0 or where.max() >= classes):
            raise ValueError(
                f"indices: expected in [0, {classes}), got {where.min()} to {where.max()}"
            )
        if (np.diff(np.sort(where, axis=1), axis=1) == 0).any():
            raise ValueError("indices: expected each class once in a row, got one twice")
        return cls(array, jnp.asarray(where, jnp.int32), classes)

    @classmethod
    def largest(cls, values: ArrayLike, count: int) -> "SparseInfogain":
        """The ``count`` largest entries of each row of a matrix.

        >>> SparseInfogain.largest([[1.0, 0.2, 0.5]], 2).matrix().tolist()
        [[1.0, 0.0, 0.5]]
        """
        matrix = _matrix("values", values)
        if not 1 <= count <= matrix.shape[1]:
            raise ValueError(f"count: expected in [1, {matrix.shape[1]}], got {count}")
        found, indices = jax.lax.top_k(matrix, count)
        return cls(found, indices.astype(jnp.int32), matrix.shape[1])

    @property
    def shape(self):
        return self.values.shape[0], self.classes

    def rows(self, labels, part=EVERY):
        found = self.values[labels]
        zeros = jnp.zeros((labels.shape[0], self.classes), found.dtype)
        return jax.vmap(lambda row, i, v: row.at[i].set(v))(zeros, self.indices[labels], found)[
            :, part
        ]

    def mixed(self, soft):
        def add(total, column):
            values, indices = column
            return total.at[:, indices].add(soft * values), None

        start = jnp.zeros((soft.shape[0], self.classes), soft.dtype)
        return jax.lax.scan(add, start, (self.values.T, self.indices.T))[0]


@struct.dataclass
class LowRankInfogain(Infogain):
    """H = diag(diagonal) + left rightᵀ.

    Attributes:
        diagonal: (C,).
        left: (C, r).
        right: (C, r).
    """

    diagonal: jax.Array
    left: jax.Array
    right: jax.Array

    @classmethod
    def create(cls, diagonal: ArrayLike, left: ArrayLike, right: ArrayLike) -> "LowRankInfogain":
        """Check that the shapes agree."""
        diagonal = DiagonalInfogain.create(diagonal).values
        left = in_range("left", left)
        if left.ndim != 2 or left.shape[0] != diagonal.size:
            raise ValueError(f"left: expected shape ({diagonal.size}, rank), got {left.shape}")
        return cls(diagonal, left, in_range("right", floating("right", right, left.shape)))

    @property
    def shape(self):
        return 2 * self.diagonal.shape

    def rows(self, labels, part=EVERY):
        own = DiagonalInfogain(self.diagonal).rows(labels)
        return (own + _product(self.left[labels], self.right.T))[:, part]

    def mixed(self, soft):
        return soft * self.diagonal + _product(_product(soft, self.left), self.right.T)


@struct.dataclass
class TreeInfogain(Infogain):
    """Similarity from a class hierarchy: H[k, j] = Σ of the weights of the levels k and j share.

    Attributes:
        weights: (levels,), what it counts to be in the same group of a level.
        groups: (levels, C), the group of each class, from coarse to fine.

    Cat and dog are animals, a car is not, and each class is itself:

    >>> TreeInfogain.create([0.25, 0.75], [[0, 0, 1], [0, 1, 2]]).matrix().tolist()
    [[1.0, 0.25, 0.0], [0.25, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    weights: jax.Array
    groups: jax.Array

    @classmethod
    def create(cls, weights: ArrayLike, groups: ArrayLike) -> "TreeInfogain":
        """Check that a group is never split over two groups of the level above."""
        levels = np.asarray(groups)
        if levels.ndim != 2 or levels.dtype.kind not in "iu":
            raise ValueError(
                f"groups: expected integers (levels, classes), got {levels.dtype} {levels.shape}"
            )
        for level, (coarse, fine) in enumerate(itertools.pairwise(levels), start=1):
            if len(set(zip(coarse, fine))) > len(set(fine)):
                raise ValueError(
                    f"groups: expected level {level} to divide level {level - 1}, got a group "
                    "that lies in two"
                )
        return cls(
            in_range("weights", floating("weights", weights, levels.shape[:1])),
            jnp.asarray(levels, jnp.int32),
        )

    @property
    def shape(self):
        return 2 * self.groups.shape[1:]

    def rows(self, labels, part=EVERY):
        same = self.groups[:, labels][:, :, None] == self.groups[:, None, :]
        return jnp.sum(jnp.where(same, self.weights[:, None, None], 0), axis=0)[:, part]

    def mixed(self, soft):
        def add(total, level):
            weight, groups = level
            member = jnp.unique(groups, return_inverse=True, size=groups.size)[1]
            mass = jnp.zeros_like(soft).at[:, member].add(soft)
            return total + weight * mass[:, member], None

        return jax.lax.scan(add, jnp.zeros_like(soft), (self.weights, self.groups))[0]


def from_distances(
    distances: ArrayLike, beta: ArrayLike = 1.0, *, normalise: bool = False
) -> DenseInfogain:
    """Similarities from distances between classes.

    H = exp(−β D), each row divided by its sum if ``normalise``.

    Never feed distances themselves: the loss rewards what H marks, so an H of distances pays
    for the most distant class, and its zero diagonal pays nothing for the right one.

    Args:
        distances: D, (K, C), zero or more; a large distance is a bad mistake.
        beta: one over the distance at which similarity has fallen to 1/e, > 0.
        normalise: make every row sum to 1, so that no label weighs more than another.

    Raises:
        ValueError: a negative or non-finite distance, or β that is not positive.

    >>> from_distances([[0.0, 1.0], [1.0, 0.0]], beta=0.7).values.round(3).tolist()
    [[1.0, 0.497...], [0.497..., 1.0]]
    """
    array = _matrix("distances", distances, 0)
    beta = in_range("beta", floating("beta", beta, ()), 0, open_low=True).astype(array.dtype)
    values = jnp.exp(-beta * array)
    if normalise:
        values = values / jnp.sum(values, axis=1, keepdims=True)
    return DenseInfogain(values)
