"""What holds for every logit and every H: shifts, order of classes, sums, linearity."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from diffsim.losses import DenseInfogain, softmax_infogain

ROWS, CLASSES = 3, 5
LOGITS = arrays(float, (ROWS, CLASSES), elements=st.floats(-60, 60))
H = arrays(float, (CLASSES, CLASSES), elements=st.floats(0, 3))
LABELS = arrays(np.int64, ROWS, elements=st.integers(0, CLASSES - 1))


@jax.jit
def losses(x, labels, h):
    def each(x):
        return softmax_infogain(x, labels, DenseInfogain(h), reduction=None)

    loss, pull = jax.vjp(each, x)
    return loss, pull(jax.numpy.ones_like(loss))[0]


@settings(max_examples=100)
@given(LOGITS, LABELS, H, arrays(float, (ROWS, 1), elements=st.floats(-1e4, 1e4)))
def test_a_shift_of_a_row_changes_nothing(x, labels, h, shift):
    loss, slope = losses(x, labels, h)
    moved, steep = losses(x + shift, labels, h)
    rounding = 1e-11 * (1 + np.abs(shift).max())  # of x + shift
    np.testing.assert_allclose(moved, loss, rtol=1e-12, atol=rounding)
    np.testing.assert_allclose(steep, slope, rtol=1e-9, atol=rounding)
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-12)


@settings(max_examples=100)
@given(LOGITS, LABELS, H, st.permutations(range(CLASSES)))
def test_the_order_of_the_classes_does_not_matter(x, labels, h, order):
    loss, slope = losses(x, labels, h)
    moved, steep = losses(x[:, order], labels, h[:, order])
    np.testing.assert_allclose(moved, loss, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(steep, slope[:, np.array(order)], rtol=1e-9, atol=1e-12)


@settings(max_examples=100)
@given(LOGITS, LABELS, H, H, st.floats(-2, 2))
def test_the_loss_is_linear_in_h(x, labels, one, other, factor):
    parts = [losses(x, labels, h) for h in (one, other)]
    for whole, a, b in zip(losses(x, labels, one + factor * other), *parts):
        np.testing.assert_allclose(whole, a + factor * b, rtol=1e-10, atol=1e-9)
