"""The loss against closed forms, optax and plain automatic derivatives, in every mode."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffsim.losses import (
    REDUCTIONS,
    DenseInfogain,
    DiagonalInfogain,
    LowRankInfogain,
    SmoothingInfogain,
    SparseInfogain,
    TreeInfogain,
    from_distances,
    softmax_cross_entropy_with_infogain,
    softmax_infogain,
    softmax_infogain_head,
)
from diffsim.losses.kernels import by_chunks

CLASSES, ROWS = 37, 11  # 37 leaves a rest beside whole blocks
RNG = np.random.default_rng(0)
MATRIX = RNG.uniform(0.1, 2, (CLASSES, CLASSES))
KINDS = {
    "dense": DenseInfogain.create(MATRIX),
    "rectangular": DenseInfogain.create(MATRIX[:5]),
    "diagonal": DiagonalInfogain.create(np.diagonal(MATRIX)),
    "smoothing": SmoothingInfogain.create(0.2, CLASSES),
    "sparse": SparseInfogain.largest(MATRIX, 4),
    "low rank": LowRankInfogain.create(MATRIX[0], MATRIX[:, :2], MATRIX[:, 2:4]),
    "tree": TreeInfogain.create(
        [0.1, 0.3, 0.6], [[0] * CLASSES, [*range(6)] * 6 + [5], [*range(CLASSES)]]
    ),
}


def example(dtype, rows=ROWS, classes=CLASSES, labels=5, scale=2.0):
    rng = np.random.default_rng(1)
    x = scale * rng.standard_normal((rows, classes))
    return jnp.asarray(x, dtype), jnp.asarray(rng.integers(0, labels, rows))


def plain(x, labels, matrix):
    return -jnp.mean(jnp.sum(matrix[labels] * jax.nn.log_softmax(x), axis=1))


def close(found, wanted, digits):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=10.0**-digits, atol=10.0**-digits),
        found,
        wanted,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_its_matrix(kind, dtype):
    infogain = jax.tree.map(lambda a: a.astype(dtype) if a.dtype == jnp.float64 else a, KINDS[kind])
    x, labels = example(dtype)
    matrix = infogain.matrix()
    assert matrix.shape == infogain.shape
    digits = 12 if dtype == jnp.float64 else 5

    def ours(x, h):
        return softmax_infogain(x, labels, h)

    def reference(x, h):
        return plain(x, labels, h.matrix())

    found = jax.jit(jax.value_and_grad(ours, allow_int=True))(x, infogain)
    close(found, jax.jit(jax.value_and_grad(reference))(x, infogain), digits)
    assert abs(np.sum(found[1], axis=1)).max() < 10.0**-digits
    close(ours(x + 7, infogain), found[0], digits - 1)
    if kind in ("sparse", "tree"):  # integers among the leaves
        weights = "values" if kind == "sparse" else "weights"
        change = jax.jit(jax.grad(lambda v: ours(x, infogain.replace(**{weights: v}))))
        wanted = jax.jit(jax.grad(lambda v: reference(x, infogain.replace(**{weights: v}))))
        close(change(getattr(infogain, weights)), wanted(getattr(infogain, weights)), digits)
    else:
        slope = jax.jit(jax.grad(ours, 1))(x, infogain)
        close(slope, jax.jit(jax.grad(reference, 1))(x, infogain), digits)


@pytest.mark.parametrize("kind", ["dense", "smoothing"])
def test_forward_mode_and_second_derivatives(kind):
    x, labels = example(jnp.float64, rows=3)
    infogain = KINDS[kind]
    direction = jnp.asarray(RNG.standard_normal(x.shape))

    def ours(x):
        return softmax_infogain(x, labels, infogain)

    def reference(x):
        return plain(x, labels, infogain.matrix())

    def products(f):
        slope = jax.grad(f)
        return (
            jax.jvp(f, (x,), (direction,)),
            jax.jvp(slope, (x,), (direction,))[1],
            jax.grad(lambda y: jnp.vdot(slope(y), direction))(x),
            jax.jvp(lambda y: jax.jvp(f, (y,), (direction,))[1], (x,), (direction,))[1],
        )

    close(
        jax.jit(products, static_argnums=0)(ours),
        jax.jit(products, static_argnums=0)(reference),
        11,
    )


def test_mixed_derivatives_in_logits_and_matrix():
    x, labels = example(jnp.float64, rows=3)
    h = jnp.asarray(MATRIX)

    def both(f):
        def products(x, h):
            slopes = jax.grad(f, (0, 1))
            return jax.jvp(slopes, (x, h), (x, 0 * h)), jax.jvp(slopes, (x, h), (0 * x, h))

        return jax.jit(products)(x, h)

    ours = both(lambda x, h: softmax_infogain(x, labels, h))
    close(ours, both(lambda x, h: plain(x, labels, h)), 11)


def test_identity_diagonal_and_smoothing_are_optax(dtype):
    x, labels = example(dtype)
    digits = 12 if dtype == jnp.float64 else 6
    integer = optax.softmax_cross_entropy_with_integer_labels(x, labels.astype(jnp.int32))
    factor = jnp.linspace(0.5, 2, CLASSES, dtype=dtype)
    smooth = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES, dtype=dtype), 0.1)
    pairs = [
        (jnp.eye(CLASSES, dtype=dtype), integer),
        (DiagonalInfogain.create(factor), integer * factor[labels]),
        (
            SmoothingInfogain.create(jnp.asarray(0.1, dtype), CLASSES),
            optax.softmax_cross_entropy(x, smooth),
        ),
    ]
    for infogain, wanted in pairs:
        close(softmax_infogain(x, labels, infogain, reduction=None), wanted, digits)


def test_caffe_case():
    """Caffe's own test: data (4, 2, 5, 2), axis 2, H ~ U(0.1, 2)."""
    rng = np.random.default_rng(1701)
    data, h = rng.uniform(-0.5, 2, (4, 2, 5, 2)), rng.uniform(0.1, 2, (5, 5))
    labels = rng.integers(0, 5, (4, 2, 2))
    expected = 0.0
    for i in np.ndindex(labels.shape):
        p = np.exp(data[i[0], i[1], :, i[2]])
        expected -= h[labels[i]] @ np.log(p / p.sum())
    for axis in (2, -2):
        found = {
            name: float(softmax_infogain(data, labels, h, axis=axis, reduction=name))
            for name in REDUCTIONS
        }
        divisors = {"valid": 16, "full": 16, "batch": 4, "sum": 1}
        close(found, {name: expected / divisors[name] for name in REDUCTIONS}, 12)
    losses = softmax_infogain(data, labels, h, axis=2, reduction=None)
    assert losses.shape == labels.shape
    transposed = softmax_infogain(data, labels, h.T, axis=2, reduction="sum")
    assert abs(float(transposed) - expected) > 0.1


def test_rows_without_weight_and_the_minimum():
    x, h = jnp.array([[0.3, -1.0, 2.0]]), jnp.array([1.0, -0.4, -0.6])
    loss, slope = jax.value_and_grad(lambda x: softmax_infogain(x, jnp.array([0]), h[None]))(x)
    close((loss, slope), (-jnp.vdot(h, x[0]), -h[None]), 12)
    h = jnp.array([0.2, 0.5, 1.3])
    loss, slope = jax.value_and_grad(lambda x: softmax_infogain(x, jnp.array([0]), h[None]))(
        jnp.log(h)[None] + 3
    )
    close((loss, slope), (-jnp.vdot(h, jnp.log(h / h.sum())), jnp.zeros((1, 3))), 12)


SURE = jax.jit(jax.value_and_grad(lambda x, h: softmax_infogain(x, jnp.array([2]), h)))


@pytest.mark.parametrize("gap", [0.0, 5.0, 15.0, 20.0, 40.0, 80.0])
@pytest.mark.parametrize("infogain", [jnp.eye(8), DiagonalInfogain.create(jnp.ones(8))], ids=type)
def test_sure_networks_keep_their_digits(gap, infogain):
    """x = (a, 0, …): L = log1p(7 exp(−a)), which float32 cross-entropies round to zero."""
    x = jnp.zeros((1, 8), jnp.float32).at[0, 2].set(gap)
    loss, slope = SURE(x, infogain)
    exact = np.log1p(7 * np.exp(-gap))
    rest = np.exp(-gap) / (1 + 7 * np.exp(-gap))
    wanted = np.full((1, 8), rest)
    wanted[0, 2] = -7 * rest
    np.testing.assert_allclose(loss, exact, rtol=1e-6)
    np.testing.assert_allclose(slope, wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_logits(kind):
    """At ±1e4 the float32 loss and gradient agree with float64; nothing overflows."""
    infogain = KINDS[kind]
    signs = jnp.asarray(RNG.choice([-1e4, 0.0, 1e4], (ROWS, CLASSES)))
    _, labels = example(jnp.float64)

    def both(dtype):
        h = jax.tree.map(lambda a: a.astype(dtype) if a.dtype == jnp.float64 else a, infogain)
        return jax.jit(jax.value_and_grad(softmax_infogain))(signs.astype(dtype), labels, h)

    (loss, slope), (exact, steep) = both(jnp.float32), both(jnp.float64)
    np.testing.assert_allclose(loss, exact, rtol=3e-6)
    np.testing.assert_allclose(slope, steep, rtol=3e-6, atol=1e-6)


def test_excluded_classes_and_infinite_losses():
    x = jnp.array([[1.0, -jnp.inf, 0.5]])
    for h in (jnp.eye(3), DiagonalInfogain.create(jnp.ones(3)), SmoothingInfogain.create(0.0, 3)):
        loss, slope = jax.value_and_grad(softmax_infogain)(x, jnp.array([0]), h)
        close(loss, jnp.log1p(jnp.exp(-0.5)), 12)
        assert slope[0, 1] == 0
        assert np.isfinite(slope).all()
        assert softmax_infogain(x, jnp.array([1]), h) == jnp.inf
    assert softmax_infogain(x, jnp.array([0]), SmoothingInfogain.create(0.1, 3)) == jnp.inf
    assert softmax_infogain(x, jnp.array([1]), SmoothingInfogain.create(0.1, 3)) == jnp.inf
    for bad in (jnp.inf, jnp.nan):
        assert jnp.isnan(softmax_infogain(x.at[0, 2].set(bad), jnp.array([0]), jnp.eye(3)))
    assert jnp.isnan(softmax_infogain(jnp.full((1, 3), -jnp.inf), jnp.array([0]), jnp.eye(3)))


def test_distances_given_as_similarities_warn():
    """Seen wherever H is known, under a trace too."""
    distances = np.array([[0.0, 1, 4], [1, 0, 4], [4, 4, 0]])
    x, labels = jnp.zeros((2, 3)), jnp.array([0, 2])
    for call in (
        lambda: softmax_infogain(x, labels, distances),
        lambda: softmax_infogain_head(x, jnp.eye(3), labels, distances),
        lambda: DenseInfogain.create(distances).values,
    ):
        with pytest.warns(UserWarning, match=r"zero diagonal.*from_distances"):
            jax.eval_shape(call)
    for fine in (np.eye(3), -distances, distances[:2], np.zeros((3, 3))):
        DenseInfogain.create(fine)  # warnings are errors here
    from_distances(distances)


def test_matrices_written_out():
    """Each kind beside its formula in NumPy."""
    d, left, right = MATRIX[0], MATRIX[:, :2], MATRIX[:, 2:4]
    close(KINDS["low rank"].matrix(), np.diag(d) + np.array(left) @ np.array(right).T, 12)
    close(KINDS["smoothing"].matrix(), 0.8 * np.eye(CLASSES) + 0.2 / CLASSES, 12)
    close(KINDS["diagonal"].matrix(), np.diag(np.diagonal(MATRIX)), 12)
    fourth = np.sort(MATRIX, axis=1)[:, -4:-3]
    close(KINDS["sparse"].matrix(), np.where(fourth <= MATRIX, MATRIX, 0), 12)
    for record in KINDS.values():
        labels = jnp.array([4, 0, 3])
        close(record.rows(labels), np.asarray(record.matrix())[np.array(labels)], 12)
        close(record.rows(labels, slice(2, 9)), record.rows(labels)[:, 2:9], 12)


def test_blocks_keep_their_order():
    """What is left over after whole blocks included, forwards and in the slopes."""
    x = jnp.arange(22.0).reshape(11, 2)
    for size in (1, 3, 4, 10, 11, 50):
        both = by_chunks(lambda a, b: (a[:, 0] - b, 2 * a), size, x, jnp.arange(11.0))
        close(both, (jnp.arange(11.0), 2 * x), 15)
    x, labels = example(jnp.float64, rows=11, classes=3, labels=3)
    h = jnp.asarray(MATRIX[:3, :3])
    each = -np.sum(np.array(h)[labels] * jax.nn.log_softmax(x), axis=1)
    head = jax.jit(softmax_infogain_head, static_argnames=("chunk", "reduction"))
    close(head(x, jnp.eye(3), labels, h, chunk=4, reduction=None), each, 12)
    per_example = jax.jit(softmax_cross_entropy_with_infogain, static_argnames="axis")
    close(per_example(x.T, labels, h, axis=0), each, 12)


@pytest.mark.parametrize("place", [-1e4, 1e4])
@pytest.mark.parametrize("label", [2, 3])
def test_smoothing_keeps_its_digits_beside_an_outlier(label, place):
    x = (RNG.normal(size=(1, 1000)) * 2.0).astype(np.float32)
    x[0, 2] = place
    smoothing = SmoothingInfogain.create(jnp.float32(0.1), 1000)
    wide = softmax_infogain(
        x.astype(float), jnp.array([label]), SmoothingInfogain.create(0.1, 1000)
    )
    found = softmax_infogain(x, jnp.array([label]), smoothing)
    assert float(found) == pytest.approx(float(wide), rel=2e-6)


@pytest.mark.parametrize("half", [jnp.bfloat16, jnp.float16])
def test_half_precision_sums_in_float32(half):
    x, labels = example(half, rows=16, classes=300)
    h = jnp.asarray(RNG.uniform(0.1, 2, (5, 300)))
    both = jax.jit(jax.value_and_grad(softmax_infogain))
    (loss, slope), (exact, steep) = both(x, labels, h), both(x.astype(jnp.float64), labels, h)
    assert (loss.dtype, slope.dtype) == (jnp.float32, half)
    np.testing.assert_allclose(loss, exact, rtol=1e-6)
    error = jnp.abs(slope.astype(jnp.float64) - steep)
    floor = 2.0**-24 if half == jnp.float16 else 0  # subnormal
    assert (error <= jnp.finfo(half).eps.astype(float) * jnp.abs(steep) + floor + 1e-8).all()


def test_masks_weights_and_soft_labels():
    x, labels = example(jnp.float64)
    mask = jnp.arange(ROWS) % 3 > 0
    factor = jnp.linspace(1, 2, CLASSES)
    spoiled = jnp.where(mask[:, None], x, jnp.nan)
    ignored = jnp.where(mask, labels, 255)

    def ours(x):
        return softmax_infogain(x, ignored, MATRIX, where=mask, weights=factor)

    each = softmax_infogain(x, labels, MATRIX, reduction=None) * factor[labels]
    close(ours(spoiled), jnp.mean(each[mask]), 12)
    slope = jax.grad(ours)(spoiled)
    assert (slope[~mask] == 0).all()
    assert np.isfinite(slope).all()
    assert softmax_infogain(x, labels, MATRIX, where=jnp.zeros(ROWS, bool)) == 0
    soft = jax.nn.one_hot(labels, CLASSES, dtype=x.dtype)
    close(softmax_infogain(x, soft, MATRIX, weights=factor, where=mask), ours(spoiled), 12)
    mixed = jnp.asarray(RNG.dirichlet(np.ones(CLASSES), ROWS))

    def reference(x, t):
        return -jnp.mean(jnp.sum((t @ MATRIX) * jax.nn.log_softmax(x), axis=1))

    found = jax.grad(lambda x, t: softmax_infogain(x, t, MATRIX), (0, 1))(x, mixed)
    close(found, jax.grad(reference, (0, 1))(x, mixed), 12)
    along = softmax_infogain(x.T, mixed.T, MATRIX, axis=0)
    close(along, reference(x, mixed), 12)


def test_shapes_and_vmap():
    x, labels = example(jnp.float64, rows=12)
    each = softmax_infogain(x, labels, MATRIX, reduction=None)
    whole = x.reshape(2, 3, 2, CLASSES)
    found = softmax_infogain(whole, labels.reshape(2, 3, 2), MATRIX, reduction=None)
    close(found, each.reshape(2, 3, 2), 12)
    close(softmax_infogain(x[0], labels[0], MATRIX), each[0], 12)
    for h in (DenseInfogain.create(MATRIX), SmoothingInfogain.create(0.1, CLASSES)):
        slope = jax.jit(jax.grad(lambda x, y, h=h: softmax_infogain(x, y, h, reduction="sum")))
        close(jax.jit(jax.vmap(slope))(x, labels), slope(x, labels), 12)
    assert softmax_infogain(x[:0], labels[:0], MATRIX) == 0


@pytest.mark.parametrize("classes", [1, 3, 10, 100])
def test_few_and_many_classes(classes):
    x, labels = example(jnp.float64, classes=classes, labels=classes)
    h = jnp.asarray(RNG.uniform(size=(classes, classes)))
    found = jax.jit(jax.value_and_grad(softmax_infogain))(x, labels, h)
    close(found, jax.jit(jax.value_and_grad(plain))(x, labels, h), 12)


@pytest.mark.parametrize("chunk", [5, 1000])
def test_head_never_holds_all_logits(chunk):
    rng = np.random.default_rng(2)
    features, classifier = (
        jnp.asarray(rng.standard_normal((3, 4, 6))),
        jnp.asarray(rng.standard_normal((6, CLASSES))),
    )
    labels = jnp.asarray(rng.integers(0, CLASSES, (3, 4)))

    def head(f, c, h):
        return softmax_infogain_head(f, c, labels, h, chunk=chunk)

    def whole(f, c, h):
        return softmax_infogain(f @ c, labels, h)

    arguments = (features, classifier, jnp.asarray(MATRIX))

    def product(f):
        return jax.jit(lambda *a: jax.jvp(jax.grad(f, (0, 1, 2)), a, a))(*arguments)

    close(head(*arguments), whole(*arguments), 12)
    close(product(head), product(whole), 11)
    text = str(jax.make_jaxpr(jax.grad(head))(*arguments))
    if chunk < 12:
        assert f"f64[12,{CLASSES}]" not in text
    assert f"f64[{min(chunk, 12)},{CLASSES}]" in text


@pytest.mark.parametrize(
    "infogain", [jnp.eye(3), SmoothingInfogain.create(0.1, 3)], ids=["dense", "peaked"]
)
def test_bad_labels_are_never_a_class(infogain):
    x = jnp.zeros((2, 3))
    for bad in (-1, 3, 255):
        with pytest.raises(ValueError, match=rf"labels: expected in \[0, 3\), got \[{bad}\]"):
            softmax_infogain(x, jnp.array([0, bad]), infogain)
        loss, slope = jax.jit(
            jax.value_and_grad(lambda x, y: softmax_infogain(x, y, infogain, reduction="sum"))
        )(x, jnp.array([0, bad]))
        assert jnp.isnan(loss)
        assert np.isfinite(slope[0]).all()
        assert np.isnan(slope[1]).all()
    small = jnp.zeros((1, 1000))
    assert softmax_infogain(small, jnp.array([200], jnp.uint8), jnp.eye(1000)) > 0


def test_bad_input_is_named():
    x, labels = example(jnp.float32)
    cases = {
        "labels: expected integers": lambda: softmax_infogain(x, labels[:3], MATRIX),
        "infogain: expected 37 columns": lambda: softmax_infogain(x, labels, MATRIX[:, :3]),
        "infogain: expected a matrix": lambda: softmax_infogain(x, labels, MATRIX[0]),
        "infogain: expected finite": lambda: softmax_infogain(x, labels, MATRIX * np.nan),
        "axis: expected in": lambda: softmax_infogain(x, labels, MATRIX, axis=2),
        "where: expected booleans": lambda: softmax_infogain(x, labels, MATRIX, where=labels),
        "weights: expected shape": lambda: softmax_infogain(x, labels, MATRIX, weights=[1.0]),
        "reduction: expected None or": lambda: softmax_infogain(x, labels, MATRIX, reduction="m"),
        "distances: expected in": lambda: from_distances([[0.0, -1.0]]),
        "beta: expected in": lambda: from_distances([[0.0]], beta=0.0),
        "alpha: expected in": lambda: SmoothingInfogain.create(1.5, 3),
        "indices: expected each class once": lambda: SparseInfogain.create([[1.0, 1]], [[0, 0]], 3),
        r"indices: expected in \[0, 3\)": lambda: SparseInfogain.create([[1.0]], [[3]], 3),
        "count: expected in": lambda: SparseInfogain.largest(MATRIX, 38),
        "groups: expected level 1 to divide": lambda: TreeInfogain.create(
            [1.0, 1], [[0, 1], [0, 0]]
        ),
        "left: expected shape": lambda: LowRankInfogain.create([1.0], [[1.0], [1.0]], [[1.0]]),
        "chunk: expected at least 1": lambda: softmax_infogain_head(
            x, x.T, labels, jnp.eye(ROWS), chunk=0
        ),
        "features, classifier: expected": lambda: softmax_infogain_head(x, x, labels, MATRIX),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="logits: expected a floating dtype"):
        softmax_infogain(x.astype(complex), labels, MATRIX)


ONE = [1.0]


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: DiagonalInfogain.create([ONE]), "values: expected shape"),
        (lambda: DiagonalInfogain.create([]), "values: expected shape"),
        (lambda: SmoothingInfogain.create(0.1, 0), "classes: expected at least 1, got 0"),
        (lambda: SmoothingInfogain.create([0.1, 0.2], 2), "alpha: expected shape"),
        (lambda: SmoothingInfogain.create(-0.01, 2), "alpha: expected in"),
        (lambda: SparseInfogain.create(ONE, [0], 1), "values: expected shape"),
        (lambda: SparseInfogain.create([ONE], [[-1]], 1), "indices: expected in"),
        (lambda: SparseInfogain.create([ONE], [[0.0]], 1), "indices: expected integers"),
        (lambda: SparseInfogain.largest([ONE], 0), "count: expected in"),
        (lambda: LowRankInfogain.create(ONE, ONE, ONE), "left: expected shape"),
        (lambda: LowRankInfogain.create(ONE, [[ONE]], [[ONE]]), "left: expected shape"),
        (lambda: LowRankInfogain.create(ONE, [ONE], [[1.0, 1.0]]), "right: expected shape"),
        (lambda: TreeInfogain.create(ONE, [0]), "groups: expected integers"),
        (lambda: TreeInfogain.create([1.0, 1.0], [[0]]), "weights: expected shape"),
        (lambda: DenseInfogain.create(np.ones((0, 2))), "infogain: expected a matrix"),
    ],
)
def test_kinds_of_other_shapes_are_refused(create, message):
    with pytest.raises(ValueError, match=message):
        create()


def test_kinds_of_one_class():
    """The least of each kind: H = [[1]], and the loss is that of cross-entropy with one class."""
    for kind in (
        DenseInfogain.create([ONE]),
        DiagonalInfogain.create(ONE),
        SmoothingInfogain.create(1.0, 1),
        SmoothingInfogain.create(0.0, 1),
        SparseInfogain.create([ONE], [[0]], 1),
        SparseInfogain.largest([ONE], 1),
        LowRankInfogain.create([0.0], [ONE], [ONE]),
        TreeInfogain.create(ONE, [[0]]),
    ):
        assert kind.matrix().tolist() == [ONE]


def test_distances():
    distances = np.array([[0.0, 1, 4], [1, 0, 4], [4, 4, 0]])
    h = from_distances(distances, 0.5).values
    close(h, np.exp(-0.5 * distances), 12)
    rows = from_distances(distances, 0.5, normalise=True).values
    close(rows, h / h.sum(1, keepdims=True), 12)
