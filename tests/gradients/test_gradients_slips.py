"""Planted mistakes: each is named right, or not at all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import ACTS, PLANTED, gradient, problem
from problems import fast_jit

from diffsim.gradients import backprop, check_gradient, slips

NET, *DATA = problem(ACTS)
SLIPS = fast_jit(lambda net: slips.backprop_slips(net, *DATA))(NET)
CASES = [
    (dtype, size, unit)
    for dtype in (jnp.float32, jnp.float64)
    for size in (1e-3, 1.0, 1e5)
    for unit in (1e-20, 1.0, 1e20)
]


@pytest.mark.parametrize(("slip", "place", "name"), PLANTED)
def test_each_slip_in_each_place_is_named(slip, place, name):
    assert slips.matching(gradient(NET, *DATA, slip, place), SLIPS, 1e-10) == [name]


def test_no_slip_is_offered_that_is_not_planted():
    assert set(SLIPS) == {name for _, _, name in PLANTED}


def test_other_activations_too():
    net, *data = problem(["softplus", "tanh", "sigmoid"], features=False)
    known = fast_jit(lambda net: slips.backprop_slips(net, *data))(net)
    for slip, place, name in PLANTED:
        if slip in ("no L2", "L2 sign", "L2 twice", "diagonal", "no norm", "constant norm"):
            continue
        if "mask" not in slip:
            assert slips.matching(gradient(net, *data, slip, place), known, 1e-10) == [name]


@pytest.mark.parametrize("widths", [[3, 4, 2], [4, 2, 3], [2, 3, 4]])
def test_slips_that_shapes_forbid_are_not_offered(widths):
    net = backprop.init(jax.random.key(0), widths, ["tanh", "softmax"])
    data = jnp.zeros((5, widths[0])), jnp.zeros((5, widths[-1]))
    known = jax.eval_shape(lambda net: slips.backprop_slips(net, *data), net)
    assert not [name for name in known if "δ of the" in name or "transposed" in name]
    for wrong in known.values():
        assert jax.tree.map(jnp.shape, wrong) == jax.tree.map(jnp.shape, net)


@functools.cache
def scaled_to(case):
    return Scaled(*case)


class Scaled:
    """loss(net/size) · unit in one precision, and gradients of it."""

    def __init__(self, dtype, size, unit):
        self.dtype, self.factor = dtype, unit / size
        self.net = self.cast(NET, size)
        data = self.cast(DATA[:3], 1.0)
        shrink, unit = jnp.asarray(1 / size, dtype), jnp.asarray(unit, dtype)
        self.loss = fast_jit(
            lambda net: unit * backprop.loss(jax.tree.map(lambda a: a * shrink, net), *data, 0.05)
        )
        self.slips = {name: self.cast(wrong, self.factor) for name, wrong in SLIPS.items()}

    def cast(self, tree, factor):
        return jax.tree.map(lambda a: (a * factor).astype(self.dtype), tree)

    def check(self, given, **options):
        given = self.cast(given, self.factor)
        return check_gradient(self.loss, self.net, lambda _: given, **options)


# What a leaf alone may be called: it knows nothing of the net.
LEAF_NAMES = {
    "sign": {"wrong sign"},
    "delta sign": {"wrong sign"},
    "1/n": {"scaled by 5"},
    "1/n twice": {"scaled by 0.2"},
    "twice": {"scaled by 2"},
    "half": {"scaled by 0.5"},
    "no L2": {"missing a term 0.05 x (L2 penalty)"},
    "L2 sign": {"missing a term 0.1 x (L2 penalty)"},
    "L2 twice": {"missing a term -0.05 x (L2 penalty)"},
    "bias grad": {"missing: it is zero"},
    "mask 0/1": {"scaled by 0.7"},
    "grad T": {"transposed"},
}


def rounded(name, scale):
    """A name with its number to two digits and in units of the unscaled net."""
    words = name.split(": ", 1)[1].split()
    for i, word in enumerate(words):
        try:
            number = float(word)
        except ValueError:
            continue
        number = number / scale if words[0] == "missing" else number
        words[i] = f"{float(f'{number:.2g}'):g}"
    return " ".join(words)


def confirm(case, slip, place, name):
    scaled = scaled_to(case)
    wrong = gradient(NET, *DATA, slip, place)
    report = scaled.check(wrong, hypotheses=scaled.slips)
    assert report.diagnosis == "wrong gradient", report
    assert report.slips in ((name,), ()), report
    bare = scaled.check(wrong)
    size = case[1]
    named = {rounded(found, scaled.factor / size) for found in bare.slips}
    assert named <= LEAF_NAMES.get(slip, set()), bare
    return report.slips


# What differs from another by its factor alone is in the full run.
ALIKE = {"1/n twice", "twice", "half", "z for a"}


@pytest.mark.parametrize("index", [i for i, one in enumerate(PLANTED) if one[0] not in ALIKE])
def test_planted_slips_in_the_checker(index):
    """Each in one precision and unit of every second case, all of which come round."""
    assert confirm(CASES[2 * index % len(CASES)], *PLANTED[index]) == (PLANTED[index][2],)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_planted_slips_everywhere(case):
    for planted in PLANTED:
        confirm(case, *planted)


@pytest.mark.parametrize("case", CASES[::2])
def test_right_gradients_pass(case):
    scaled = scaled_to(case)
    report = scaled.check(gradient(NET, *DATA), hypotheses=scaled.slips)
    assert (report.diagnosis, report.slips) == ("correct", ())


WEIGHTS = np.array([[1.3, -0.4, 0.7], [0.9, 2.1, -1.1], [-0.3, 0.8, 1.6]])
KEPT = np.array([[1.0, 0, 1], [1, 1, 0], [0, 1, 1]])


LEAF_SLIPS = [
    (lambda g, w: -g, "wrong sign"),
    (lambda g, w: 0 * g, "missing: it is zero"),
    (lambda g, w: g.T, "transposed"),
    (lambda g, w: g / 7, "scaled by 0.14"),
    (lambda g, w: g * (1 + (np.arange(9).reshape(3, 3) == 5)), "one wrong entry: [1, 2]"),
    (lambda g, w: g * KEPT, "masked: 3 of 9 entries are zero and should not be"),
    (lambda g, w: g - 0.3 * w, "missing a term 0.3 x (L2 penalty)"),
    (lambda g, w: g - 0.3 * np.sign(w), "missing a term 0.3 sign x (L1 penalty)"),
    (lambda g, w: g + 0.1 * g**2, None),
    (lambda g, w: g[::-1], None),
    (lambda g, w: g * np.array([1, 1, 1.2]), None),
]


@pytest.mark.parametrize(
    ("index", "case"),
    [(i, case) for i in range(len(LEAF_SLIPS)) for case in CASES[i % 5 :: 5]],
)
def test_leaf_slips(index, case):
    """A quadratic of another slope in each entry."""
    (wrong, name), (dtype, size, unit) = LEAF_SLIPS[index], case
    slopes = WEIGHTS + np.arange(9).reshape(3, 3) / 5
    k, shrink = jnp.asarray(slopes * unit, dtype), jnp.asarray(1 / size, dtype)
    x = jnp.asarray(WEIGHTS * size, dtype)
    given = jnp.asarray(wrong(slopes * WEIGHTS, WEIGHTS) * unit / size, dtype)
    report = check_gradient(
        fast_jit(lambda x: 0.5 * jnp.sum(k * (x * shrink) ** 2)), x, lambda _: given
    )
    assert report.diagnosis == "wrong gradient"
    scale = unit / size / (1 if "L1" in str(name) else size)
    assert [rounded(found, scale) for found in report.slips] == ([name] if name else [])


def test_masks_of_a_leaf():
    """The gradient forgot the mask of the loss, or has another one."""
    x, mask = jnp.asarray(WEIGHTS), jnp.asarray(KEPT)
    f = fast_jit(lambda x: jnp.sum(mask * x**2))
    forgot = check_gradient(f, x, lambda x: 2 * x)
    assert forgot.slips == ("x: mask left out: 3 of 9 entries should be zero",)
    other = check_gradient(f, x, lambda x: 2 * x * mask.T)
    assert other.slips == ("x: another mask than the loss's: zeros in other places",)
    full = check_gradient(lambda x: jnp.sum(x**2), jnp.zeros(3), lambda x: 0 * x + 0.2)
    assert full.slips == ()


def test_two_explanations_are_none():
    """Where the gradient is in proportion to x, too short and without its penalty are one."""
    report = check_gradient(lambda x: jnp.sum(x**2), jnp.arange(1.0, 5.0), lambda x: 1.5 * x)
    assert (report.diagnosis, report.slips) == ("wrong gradient", ())


def test_no_false_names():
    """Small or unlisted errors match nothing."""
    exact = gradient(NET, *DATA)
    for seed in range(20):
        generator = np.random.default_rng(seed)
        off = jax.tree.map(lambda g, r=generator: g + 0.01 * r.standard_normal(g.shape), exact)
        assert slips.matching(off, SLIPS, 1e-6) == []
    assert slips.matching(exact, SLIPS, 1e-6) == []
    assert slips.matching(jax.tree.map(lambda g: 0.37 * g, exact), SLIPS, 1e-6) == []


OFF = np.random.default_rng(1).normal(size=(3, 3))
EXACT = WEIGHTS + np.arange(9).reshape(3, 3) / 5
ALONE = np.arange(9).reshape(3, 3) == 5
KINDS = {
    "wrong sign": -EXACT,
    "transposed": EXACT.T,
    "[1, 2]": EXACT + 2.0 * ALONE,
    "scaled": EXACT / 7,
    "L2": EXACT - 0.3 * OFF,
    "L1": EXACT + 0.2 * np.sign(OFF),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_name_explains_a_mismatch_to_a_hundredth(kind, unit):
    """What is left over is spread over all entries, none of them along what is fitted."""
    wrong = KINDS[kind]
    fitted = np.stack([EXACT[~ALONE], OFF[~ALONE], np.sign(OFF[~ALONE])], axis=1)
    rest = np.zeros((3, 3))
    rest[~ALONE] = np.linalg.qr(fitted, mode="complete")[0][:, 3:] @ [1, -2, 1, 3, -1]
    rest *= np.linalg.norm(EXACT - wrong) / np.linalg.norm(rest)
    for share, named in ((0.0, True), (0.009, True), (0.0115, False)):
        given = wrong + share * rest
        found = slips.leaf_slip(unit * given, unit * EXACT, unit * OFF)
        assert (kind in (found or "")) == named, (share, found)
        assert named or found is None
    size = np.linalg.norm(EXACT - wrong)
    assert slips.leaf_slip(wrong, EXACT, OFF, 0.0099 * size) is not None
    assert slips.leaf_slip(wrong, EXACT, OFF, 0.0101 * size) is None


def test_what_few_entries_may_be_called():
    measured, x = np.array([2.0, -1.0]), np.array([0.3, 0.4])
    assert slips.leaf_slip(-measured, measured, x) == "wrong sign"
    assert slips.leaf_slip(0 * measured, measured, x) == "missing: it is zero"
    assert slips.leaf_slip(2 * measured, measured, x) is None  # of two, anything fits
    three = np.array([2.0, -1.0, 0.5])
    assert slips.leaf_slip(2 * three, three, np.ones(3)) == "scaled by 2"
    broken = np.array([1.0, np.nan, np.inf])
    assert slips.leaf_slip(broken, three, three) == "not finite: 2 of 3 entries"
    assert slips.leaf_slip(three, np.array([1.0, np.nan, 2.0]), three) is None
    wide = np.arange(6.0).reshape(2, 3) + 1
    assert slips.leaf_slip(wide[::-1], wide, 0 * wide) is None


def test_hypotheses_match_leaf_by_leaf():
    """Each to the tolerance of its own largest entry."""
    right = {"a": np.array([100.0, 1.0]), "b": np.array([1e-3, 0.0]), "c": np.zeros(0)}
    for leaf, off, same in (
        ("a", 0.9, True),
        ("a", 1.1, False),
        ("b", 0.9e-5, True),
        ("b", 1.1e-5, False),
    ):
        for sign in (1, -1):
            given = right | {leaf: right[leaf] + sign * off * np.array([0, 1])}
            assert slips.matching(
                given, {"it": right, "other": right | {"b": np.ones(2)}}, 0.01
            ) == (["it"] if same else [])
