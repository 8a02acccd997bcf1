"""The forms of the loss are one loss, and what is written out is small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxprs import primitives
from lowering import lower

from diffsim.losses import (
    DiagonalInfogain,
    Infogain,
    LowRankInfogain,
    SmoothingInfogain,
    SparseInfogain,
    TreeInfogain,
    kernels,
    softmax_infogain,
)


def kinds(classes, rows=5):
    """One of every kind, and one that knows its rows only."""
    h = np.random.default_rng(0).uniform(0, 2, (classes, classes))
    h[:, 9] = 0
    level = np.arange(classes) // 4

    @jax.tree_util.register_static
    class Own(Infogain):
        shape = h.shape

        def rows(self, labels, part=slice(None)):
            return jnp.asarray(h)[labels][:, part]

    return {
        "dense": h[:rows],
        "diagonal": DiagonalInfogain.create(h[0]),
        "smoothing": SmoothingInfogain.create(0.1, classes),
        "sparse": SparseInfogain.largest(h, 4),
        "low rank": LowRankInfogain.create(h[0], h[:, :2], h[:, 10:12]),
        "tree": TreeInfogain.create([0.3, 0.7], [7 - level, np.arange(classes)]),
        "own": Own(),
    }


@pytest.mark.parametrize("kind", ["dense", "diagonal", "smoothing", "sparse"])
def test_plain_form_is_the_tuned_one(kind, dtype):
    """Where the network is sure, where logits tie, and where one is −∞."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 37))
    x[0, 3] = 25
    x[1, [4, 5]] = 7
    infogain = kinds(37)[kind]
    if kind in ("dense", "sparse"):
        x[2, 9] = -np.inf  # H is 0 there
    x, labels = jnp.asarray(x, dtype), jnp.arange(6) % 5

    def both(kernel):
        def loss(x):
            return softmax_infogain(x, labels, infogain, reduction="sum", kernel=kernel)

        return jax.jit(jax.value_and_grad(loss))(x)

    tolerance = 1e-12 if dtype == jnp.float64 else 3e-6
    for a, b in zip(both(kernels.PLAIN), both(None)):
        assert np.all(np.isfinite(a))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", kinds(37))
def test_soft_labels_never_write_the_matrix_out(kind):
    """Value and gradient in logits and labels are those of the matrix; no array has its size."""
    rng = np.random.default_rng(1)

    def look(infogain):
        return jax.value_and_grad(lambda x, s: softmax_infogain(x, s, infogain), (0, 1))

    def example(classes):
        soft = rng.dirichlet(np.ones(classes), 3)
        return kinds(classes, classes)[kind], jnp.asarray(rng.normal(size=soft.shape)), soft

    infogain, x, soft = example(37)
    matrix = jnp.asarray(infogain if kind == "dense" else infogain.matrix())
    found, wanted = (jax.jit(look(h))(x, soft) for h in (infogain, matrix))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    if kind not in ("dense", "own"):
        infogain, x, soft = example(300)
        equations = primitives(look(infogain), x, soft)
        assert max(v.aval.size for eqn in equations for v in eqn.outvars) < 300**2 / 2


def test_the_form_is_chosen_where_the_program_is_lowered():
    """A CPU takes rows of a tree in blocks, an accelerator whole; neither sees the other's form."""
    tree = TreeInfogain.create([0.5, 0.5], [np.zeros(1000, int), np.arange(1000)])
    x, labels = jnp.zeros((4096, 1000)), jnp.zeros(4096, int)

    def loss(x):
        return softmax_infogain(x, labels, tree)

    cpu = jax.jit(loss).trace(x).lower(lowering_platforms=("cpu",)).as_text()
    assert "2x64x1000xi1" in cpu
    assert "2x4096x1000xi1" not in cpu
    for platform in ("cuda", "tpu"):
        text = lower(jax.value_and_grad(loss), x, platform=platform)
        assert "2x4096x1000xi1" in text
        assert "2x64x1000xi1" not in text
    np.testing.assert_allclose(loss(x), 500.5 * np.log(1000), rtol=1e-10)
