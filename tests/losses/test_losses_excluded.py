"""Logits of −inf where H is 0: all derivatives are those of the classes that are left.

Judged by float64 and H written out, with the excluded columns cut away.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import fast_jit

from diffsim.losses import (
    DenseInfogain,
    DiagonalInfogain,
    LowRankInfogain,
    SmoothingInfogain,
    SparseInfogain,
    TreeInfogain,
    softmax_infogain,
)

OUT, KEEP = np.array([3, 5]), np.array([0, 1, 2, 4])
RNG = np.random.default_rng(3)
X, LABELS = RNG.standard_normal((4, 6)), jnp.array([0, 2, 1, 2])
MATRIX = RNG.uniform(0.1, 2, (6, 6)) * np.isin(np.arange(6), KEEP)
KINDS = {
    "dense": DenseInfogain.create(MATRIX),
    "rectangular": DenseInfogain.create(MATRIX[:3]),
    "diagonal": DiagonalInfogain.create(RNG.uniform(0.5, 2, 6)),
    "smoothing": SmoothingInfogain.create(0.0, 6),
    "sparse": SparseInfogain.create(RNG.uniform(0.5, 2, (6, 3)), 6 * [[0, 2, 4]], 6),
    "low rank": LowRankInfogain.create(RNG.uniform(0.5, 2, 6), MATRIX[:, :2], MATRIX.T[:, :2]),
    "tree": TreeInfogain.create([0.4, 0.6], [[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]),
}


def cut(x):
    return x.at[:, OUT].set(-jnp.inf)


def reference(x, h):
    logs = jax.nn.log_softmax(x[:, KEEP])
    return -jnp.mean(jnp.sum(h.matrix()[LABELS][:, KEEP] * logs, axis=1))


def ours(x, h):
    return softmax_infogain(cut(x), LABELS, h)


def first_and_second(f, x, h):
    """Value, slopes, the Hessian times a vector, and forward mode with all of H moving."""
    direction = jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)

    def moved(leaf):
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.ones_like(leaf) if floating else np.zeros(leaf.shape, jax.dtypes.float0)

    ahead = (jnp.zeros_like(x), jax.tree.map(moved, h))
    slopes = jax.grad(f, (0, 1), allow_int=True)(x, h)
    return (
        f(x, h),
        [leaf for leaf in jax.tree.leaves(slopes) if leaf.dtype == x.dtype],
        jax.grad(lambda x: jnp.vdot(jax.grad(f)(x, h), direction))(x),
        jax.jvp(jax.value_and_grad(f), (x, h), ahead)[1],
    )


@pytest.mark.parametrize(
    ("kind", "dtype"), [*((kind, jnp.float64) for kind in KINDS), ("dense", jnp.float32)]
)
def test_derivatives(kind, dtype):
    record = KINDS[kind]
    assert not np.array(record.matrix())[:3, OUT].any()
    single = jax.tree.map(lambda a: a.astype(dtype) if a.dtype == jnp.float64 else a, record)
    all_of = jax.jit(first_and_second, static_argnums=0)
    found, wanted = (
        all_of(ours, jnp.asarray(X, dtype), single),
        all_of(reference, jnp.asarray(X), record),
    )
    digits = 1e-12 if dtype == jnp.float64 else 3e-6
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=digits, atol=digits)


def test_soft_labels(dtype):
    """dL/dt_k = Σ_j H[k, j] (lse − x_j) over the classes that are left; in H likewise."""
    soft = RNG.dirichlet(np.ones(6), 4)
    lags = np.array(jax.nn.logsumexp(X[:, KEEP], axis=1)[:, None] - X)
    lags[:, OUT] = 0
    found = fast_jit(jax.grad(lambda t, h, x: softmax_infogain(x, t, h), (0, 1)))(
        *(jnp.asarray(a, dtype) for a in (soft, MATRIX)), cut(jnp.asarray(X, dtype))
    )
    digits = 1e-12 if dtype == jnp.float64 else 3e-6
    np.testing.assert_allclose(found[0], lags @ MATRIX.T / 4, rtol=digits, atol=digits)
    np.testing.assert_allclose(found[1], soft.T @ lags / 4, rtol=digits, atol=digits)


def test_where_it_counts_the_loss_is_infinite():
    """H is not 0 there: so is the loss, and its derivative in that entry."""
    h = DenseInfogain.create(np.eye(6))
    loss, slope = jax.value_and_grad(
        lambda h: softmax_infogain(cut(jnp.asarray(X)), jnp.full(4, 3), h)
    )(h)
    assert loss == jnp.inf
    assert slope.values[3, 3] == jnp.inf
    assert np.isfinite(slope.values[:, KEEP]).all()
