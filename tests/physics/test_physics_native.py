"""Native regions: the same values and derivatives as without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.physics import native

ROWS = jnp.array([[0.3, -1.2], [2.0, 0.5], [-0.7, 0.1]])


def value(x, scale):
    return jnp.sum(jnp.sin(scale * x) ** 2)


@pytest.mark.parametrize(
    ("f", "traces"),
    [(lambda x: jnp.cumsum(x) * 2, 1), (lambda x: x.at[(x > 0).astype(int)].add(1.0), 2)],
    ids=["taken", "refused"],
)
def test_jit_gives_plain_values_whether_the_compiler_takes_the_region_or_not(f, traces):
    count = []

    def counted(x):
        count.append(1)
        return f(x)

    compiled = native.jit(native.native(counted))
    for row in ROWS:
        np.testing.assert_allclose(compiled(row), f(row), rtol=1e-12)
    assert len(count) == traces  # once more where it is refused, and then never again


def test_jit_within_another_transformation_is_plain():
    compiled = native.jit(native.native(lambda x: value(x, 2.0)))
    got = jax.jit(jax.vmap(jax.grad(compiled)))(ROWS)
    np.testing.assert_allclose(got, 2 * np.sin(4 * ROWS), rtol=1e-12)


def test_jit_passes_on_other_errors():
    with pytest.raises(ZeroDivisionError):
        native.jit(native.native(lambda x: x / (1 // 0)))(ROWS)


@pytest.mark.parametrize("compile_", [lambda f: f, jax.jit, native.jit])
def test_each_is_vmap(compile_):
    batched = compile_(jax.vmap(native.each(value), (0, None)))
    np.testing.assert_allclose(
        batched(ROWS, 1.5), np.sum(np.sin(1.5 * ROWS) ** 2, axis=1), rtol=1e-12
    )


@pytest.mark.parametrize("compile_", [jax.jit, native.jit])
def test_looped_has_the_derivatives_of_its_loss(compile_):
    loss, slope = native.looped(value), 1.5 * np.sin(3 * ROWS)  # d sin²(sx)/dx = s sin(2sx)
    x, way = ROWS[0], jnp.array([0.4, -2.0])
    exact = {"rtol": 1e-12}
    np.testing.assert_allclose(compile_(loss)(x, 1.5), value(x, 1.5), **exact)
    np.testing.assert_allclose(compile_(jax.grad(loss))(x, 1.5), slope[0], **exact)
    out, push = compile_(lambda x, way: jax.jvp(lambda x: loss(x, 1.5), (x,), (way,)))(x, way)
    np.testing.assert_allclose([out, push], [value(x, 1.5), slope[0] @ way], **exact)
    batched = compile_(jax.vmap(jax.grad(loss), (0, None)))
    np.testing.assert_allclose(batched(ROWS, 1.5), slope, **exact)
    total = compile_(jax.grad(lambda rows: jax.vmap(lambda x: loss(x, 1.5))(rows).sum()))
    np.testing.assert_allclose(total(ROWS), slope, **exact)


def test_looped_differentiates_its_first_argument_only():
    assert jax.grad(native.looped(value), 1)(ROWS[0], 1.5) == 0
