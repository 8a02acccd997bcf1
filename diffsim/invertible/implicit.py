"""Derivatives of a solution by the implicit function theorem, forward and reverse."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from diffsim import _linalg
from diffsim._types import Tree

DENSE = 256  # up to this many unknowns a Jacobian is written out


def jacobian(push: Callable, x: jax.Array) -> jax.Array:
    """The matrix of a linear function of vectors like x."""
    return jax.vmap(push, out_axes=1)(jnp.eye(x.shape[0], dtype=x.dtype))


def krylov(push: Callable, right: jax.Array) -> jax.Array:
    """J⁻¹ right for a square linear function too large to write out: GMRES, and on its own J."""

    def solve(matvec, b):
        unit = jnp.finfo(b.dtype).eps
        return jax.scipy.sparse.linalg.gmres(matvec, b, tol=10 * unit, restart=30, maxiter=30)[0]

    return jax.lax.custom_linear_solve(push, right, solve, transpose_solve=solve)


def linear_solve(push: Callable, right: jax.Array, inputs: int) -> jax.Array:
    """J⁻¹ right, or for a wide J its solution of least norm; J given as a linear function.

    Differentiable in both modes. Written out up to ``DENSE`` unknowns, else by Krylov methods.
    """
    x = jnp.zeros(inputs, right.dtype)
    outputs = right.shape[0]
    if max(inputs, outputs) <= DENSE:
        matrix = jacobian(push, x)
        if inputs == outputs:
            return _linalg.solve(matrix, right)
        return matrix.T @ _linalg.solve(matrix @ matrix.T, right)
    if inputs == outputs:
        return krylov(push, right)
    pull = jax.linear_transpose(push, x)

    def solve(matvec, b):
        unit = jnp.finfo(b.dtype).eps
        return jax.scipy.sparse.linalg.cg(matvec, b, tol=10 * unit, maxiter=500)[0]

    middle = jax.lax.custom_linear_solve(lambda v: push(pull(v)[0]), right, solve, symmetric=True)
    return pull(middle)[0]


def root(equation: Callable, solve: Callable, arguments: Tree) -> Tree:
    """x with equation(x, arguments) = 0, as ``solve(arguments)`` finds it, with its derivative.

    dx = −(∂F/∂x)⁻¹ ∂F/∂a da: nothing is stored of how the solver got there, and derivatives of
    any order and mode follow. With more unknowns than equations, dx is the one of least norm.

    Args:
        equation: F(x, a) → (m,) of x (n,), m ≤ n.
        solve: a → (x, anything else, which has no derivative).
        arguments: a, a tree of arrays; neither function may close over traced ones.

    Returns:
        What ``solve`` returns.

    >>> square_root = lambda a: root(lambda x, a: x**2 - a, lambda a: (jnp.sqrt(a), None), a)[0]
    >>> jax.jacfwd(square_root)(jnp.array([4.0])).tolist()
    [[0.25]]
    """

    @jax.custom_jvp
    def solved(arguments):
        x, rest = solve(jax.lax.stop_gradient(arguments))
        return x, jax.lax.stop_gradient(rest)

    @solved.defjvp
    @jax.default_matmul_precision("highest")
    def _(primals, tangents):
        (a,), (da,) = primals, tangents
        x, rest = solved(a)
        rhs = jax.jvp(lambda a: equation(x, a), (a,), (da,))[1]
        push = jax.linearize(lambda x: equation(x, a), x)[1]
        dx = -linear_solve(push, rhs, x.shape[0])
        return (x, rest), (dx, jax.tree.map(_no_tangent, rest))

    return solved(arguments)


def _no_tangent(leaf: jax.Array) -> Tree:
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.zeros_like(leaf)
    return jnp.zeros(leaf.shape, jax.dtypes.float0)
