"""Every option, in every function that has it, against NumPy."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from diffsim.losses import (
    REDUCTIONS,
    SmoothingInfogain,
    SparseInfogain,
    from_distances,
    kernels,
    softmax_cross_entropy_with_infogain,
    softmax_infogain,
    softmax_infogain_head,
)

RNG = np.random.default_rng(0)
FEATURES, CLASSIFIER = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(4, 5))
X = FEATURES @ CLASSIFIER
LABELS, KEPT = np.array([[0, 2, 1], [1, 0, 2]]), np.array([[1, 0, 1], [1, 1, 0]], bool)
H, WEIGHTS = RNG.uniform(0.1, 2, (3, 5)), np.array([0.5, 2.0, 3.0])
SOFT = RNG.dirichlet(np.ones(3), LABELS.shape)
LOGS = X - np.log(np.exp(X).sum(axis=-1, keepdims=True))
# "valid" counts what is kept of them, "full" all, "batch" the first axis.
DIVISORS = {"valid": 4, "full": 6, "batch": 2, "sum": 1}


def loss(labels, infogain, **options):
    return softmax_infogain(X, labels, infogain, **options)


def head(labels, infogain, **options):
    return softmax_infogain_head(FEATURES, CLASSIFIER, labels, infogain, chunk=4, **options)


@pytest.mark.parametrize("function", [loss, head])
@pytest.mark.parametrize("soft", [False, True])
def test_masks_weights_and_reductions(function, soft):
    """A mean over the labels k of w_k H[k]; what is left out may be anything, NaN too."""
    mean = SOFT if soft else np.eye(3)[LABELS]
    for masked, weighted in itertools.product((False, True), repeat=2):
        labels = np.where(KEPT[..., None], SOFT, np.nan) if masked else SOFT
        if not soft:
            labels = np.where(KEPT, LABELS, 255) if masked else LABELS
        each = -np.sum((mean * (WEIGHTS if weighted else 1)) @ H * LOGS, axis=-1)
        each = np.where(KEPT, each, 0) if masked else each
        options = {"where": KEPT if masked else None, "weights": WEIGHTS if weighted else None}
        found = function(labels, H, reduction=None, **options)
        np.testing.assert_allclose(found, each, rtol=1e-12, atol=1e-12)
    for name, divisor in {"default": DIVISORS["valid"], **DIVISORS}.items():
        reduction = {} if name == "default" else {"reduction": name}
        found = function(labels, H, **options, **reduction)
        assert float(found) == pytest.approx(each.sum() / divisor, rel=1e-12)
    assert float(function(mean if soft else LABELS, H)) == pytest.approx(
        -np.mean(np.sum(mean @ H * LOGS, axis=-1)), rel=1e-12
    )


def test_of_one_example_every_divisor_is_one():
    assert set(DIVISORS) == set(REDUCTIONS)
    for name in REDUCTIONS:
        found = softmax_infogain(X[0, 1], LABELS[0, 1], H, reduction=name)
        assert float(found) == pytest.approx(-H[2] @ LOGS[0, 1], rel=1e-12)


def test_as_optax_would_with_what_is_left_out():
    each = np.where(KEPT, -np.sum(H[LABELS] * LOGS, axis=-1), 0)
    found = softmax_cross_entropy_with_infogain(
        np.moveaxis(X, -1, 1), np.where(KEPT, LABELS, -1), H, 1, KEPT
    )
    np.testing.assert_allclose(found, each, rtol=1e-12)


@pytest.mark.parametrize("half", [jnp.bfloat16, jnp.float16])
def test_logits_of_a_half_precise_head_are_not_rounded(half):
    features, classifier = jnp.asarray(FEATURES, half), jnp.asarray(CLASSIFIER, half)
    found = softmax_infogain_head(features, classifier, LABELS, H, chunk=2)
    exact = softmax_infogain(np.asarray(features, float) @ np.asarray(classifier, float), LABELS, H)
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(float(exact), rel=1e-6)


def test_a_label_is_one_class_of_more_than_floats_can_count():
    classes = (1 << 24) + 2
    found = kernels._same(jnp.zeros((1, classes), jnp.float32), jnp.array([classes - 1]))
    assert np.flatnonzero(found).tolist() == [classes - 1]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"labels: expected shape \(2, 3, 3\), got \(2, 3, 2\)"):
        softmax_infogain(X, SOFT[..., :2], H)
    with pytest.raises(ValueError, match=r"labels: expected shape \(2, 5, 3\), got \(2,\)"):
        softmax_infogain(X, SOFT[0, :2, 0], np.ones((3, 3)), axis=1)
    with pytest.raises(TypeError, match="classifier: expected float32, got float64"):
        softmax_infogain_head(jnp.asarray(FEATURES, jnp.float32), CLASSIFIER, LABELS, H)


@pytest.mark.parametrize(
    ("message", "make", "values"),
    [
        (
            r"indices: expected in \[0, 3\)",
            lambda k: SparseInfogain.create([[1.0]], [[k]], 3),
            (3, 9, -2),
        ),
        (r"count: expected in \[1, 5\]", lambda k: SparseInfogain.largest(H, k), (6, 99, -1)),
        ("classes: expected at least 1", lambda k: SmoothingInfogain.create(0.1, k), (0, -3)),
        (r"alpha: expected in \[0, 1\]", lambda k: SmoothingInfogain.create(k, 3), (1.01, 7, -7)),
        (r"axis: expected in \[-3, 3\)", lambda k: loss(LABELS, H, axis=k), (3, 9, -4, -9)),
        (r"labels: expected in \[0, 3\)", lambda k: loss(np.full((2, 3), k), H), (3, 99, -9)),
        (
            "chunk: expected at least 1",
            lambda k: softmax_infogain_head(FEATURES, CLASSIFIER, LABELS, H, chunk=k),
            (0, -5),
        ),
    ],
)
def test_just_and_far_beyond_is_refused(message, make, values):
    for value in values:
        with pytest.raises(ValueError, match=message):
            make(value)


@pytest.mark.parametrize(
    ("make", "fits", "wrong"),
    [
        (lambda x: SmoothingInfogain.create(x, 3), (0, 1e-6, 1 - 1e-6, 1), (-1e-6, 1 + 1e-6)),
        (lambda x: from_distances([[0.0, 1.0]], beta=x), (1e-6, 1e6), (0, -1e-6, np.inf)),
        (lambda x: from_distances([[x, 1.0]]), (0, 1e-6, 1e6), (-1e-6, np.inf)),
        (lambda x: SmoothingInfogain.create(0.5, x), (1, 2), (0, -1)),
    ],
)
def test_numbers_are_taken_within_their_range_alone(make, fits, wrong):
    for value in fits:
        make(value)
    for value in wrong:
        with pytest.raises(ValueError, match="expected"):
            make(value)
