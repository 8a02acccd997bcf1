"""The exponential map and its left Jacobian against closed forms, at and around every switch."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffsim.motion.rotation import facing, stumpff, turning

AXIS = np.array([2.0, -3.0, 6.0]) / 7
ANGLES = [0.0, 1e-9, 1e-3, 0.5, 1 - 1e-9, 1.0, 2.0, math.pi, 5.0]


def rotation_matrix(vector):
    return turning(vector, jnp.zeros_like(vector), jnp.eye(3, dtype=vector.dtype))[0]


def left_jacobian(vector):
    """Its columns are the angular velocities of unit rates."""
    unit = jnp.eye(3, dtype=vector.dtype)
    return jax.vmap(lambda rate: turning(vector, rate, unit)[1], out_axes=1)(unit)


matrices = jax.jit(jax.vmap(lambda v: (rotation_matrix(v), left_jacobian(v))))


def test_rotation_matrix_against_scipy():
    vectors = np.outer(ANGLES, AXIS)
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(matrices(vectors)[0], expected, atol=2e-15)


def test_left_jacobian_is_the_mean_of_the_rotations_on_the_way():
    # J_l(ρ) = ∫ exp(s [ρ]×) ds over s in [0, 1]; Gauss–Legendre of 20 points is exact to rounding.
    nodes, weights = np.polynomial.legendre.leggauss(20)
    for angle in ANGLES:
        on_the_way = Rotation.from_rotvec(np.outer((nodes + 1) / 2, angle * AXIS)).as_matrix()
        expected = np.einsum("s,sij->ij", weights / 2, on_the_way)
        result = matrices((angle * AXIS)[None])[1][0]
        np.testing.assert_allclose(result, expected, atol=2e-15)


def series(order, square, derivative):
    """The defining series of the Stumpff function in exact arithmetic."""
    total = Fraction(0)
    for j in range(derivative, 60):
        power = Fraction(square) ** (j - derivative) * math.perm(j, derivative)
        total += (-1) ** j * power / math.factorial(2 * j + order)
    return float(total)


@pytest.mark.parametrize("derivative", range(3))
def test_stumpff_and_its_derivatives(derivative):
    function = lambda k: lambda x: stumpff(4, x)[k]  # noqa: E731
    squares = np.array([0.0, 1e-12, 0.3, 1 - 1e-12, 1.0, 4.0, 20.0])
    for order in range(4):
        slope = function(order)
        for _ in range(derivative):
            slope = jax.grad(slope)
        result = jax.jit(jax.vmap(slope))(squares)
        expected = [series(order, x, derivative) for x in squares]
        # Just above 1 the recursion divides differences of rounded numbers: some ulps a level.
        np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-14)


def test_second_derivatives_at_zero():
    # exp([ρ]×) = I + [ρ]× + ½ [ρ]×² to second order, J_l = I + ½ [ρ]× + ⅙ [ρ]×².
    def square(v):
        return jnp.outer(v, v) - jnp.dot(v, v) * jnp.eye(3)

    second = jax.jit(jax.hessian(lambda v: jnp.stack([rotation_matrix(v), left_jacobian(v)])))
    exact = jax.hessian(square)(jnp.zeros(3))
    result = second(jnp.zeros(3))
    np.testing.assert_allclose(result, jnp.stack([exact / 2, exact / 6]), atol=1e-15)


def test_single_precision():
    vectors = np.outer(ANGLES, AXIS)
    for low, high in zip(matrices(vectors.astype(np.float32)), matrices(vectors)):
        assert low.dtype == jnp.float32
        np.testing.assert_allclose(low, high, atol=1e-6)


@pytest.mark.parametrize(
    "normal", [[0, 0, 1], [0, 0, -1], [0.6, 0, 0.8], [3.0, -4.0, 0.0], [1e-9, 0, -1], [0, 2, -1]]
)
def test_facing(normal):
    normal = jnp.asarray(normal, float)
    rotation = facing(normal)
    np.testing.assert_allclose(rotation[:, 2], normal / np.linalg.norm(normal), atol=1e-15)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-15)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-15)


def test_facing_upwards_turns_least():
    normal = np.array([0.6, 0.0, 0.8])
    expected = Rotation.from_rotvec([0.0, math.asin(0.6), 0.0]).as_matrix()
    np.testing.assert_allclose(facing(jnp.asarray(normal)), expected, atol=1e-15)
