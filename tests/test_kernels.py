"""Every public kernel is lowered for accelerators, and multiplies at full precision."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.lax import Precision
from jaxprs import primitives
from lowering import lower

import diffsim
from diffsim import _linalg, delay, quadrature
from diffsim import invertible as inv
from diffsim.gradients import METHODS, surrogate

F32, C64 = jnp.float32, jnp.complex64


def with_slope(f):
    """f, and its derivative in all its arguments, compiled first: rules are met late, as in use."""

    def total(*args):
        leaves = jax.tree.leaves(jax.jit(f)(*args))
        return sum(
            jnp.sum(jnp.abs(leaf)) for leaf in leaves if not jnp.isdtype(leaf.dtype, "integral")
        )

    return lambda *args: jax.value_and_grad(total, tuple(range(len(args))), allow_int=True)(*args)


def vector(n, kind=F32):
    return jax.random.normal(jax.random.key(n), (n,), kind)


def matrix(n, kind=F32):
    return jax.random.normal(jax.random.key(0), (n, n), kind) + 4 * jnp.eye(n, dtype=kind)


def layer(name):
    made = inv.LAYERS[name](8, rngs=nnx.Rngs(0), dtype=F32)
    graph, state = nnx.split(made)

    def every(state, x):
        layer = nnx.merge(graph, state)
        factor = layer.factor()
        return layer(x), layer.inverse(0.1 * x, factor), layer.log_det(x)

    return with_slope(every), (state, vector(8))


def network(weights, x):
    return jnp.tanh(weights @ jnp.tanh(weights @ x))


def inverted(method, size=4):
    def solve(weights, y):
        found = inv.invert(lambda x: network(weights, x), y, size=size, method=method)
        return found.x, found.error, found.residual

    return with_slope(solve), (matrix(size), 0.1 * vector(size))


def condition(*names):
    layers = [inv.LAYERS[name](8, rngs=nnx.Rngs(0), dtype=F32) for name in names]
    return lambda x: [layer.condition(x) for layer in layers], (vector(8),)


def reversible():
    layers = [
        inv.LAYERS[name](8, rngs=nnx.Rngs(0), dtype=F32) for name in ("dense", "coupling-affine")
    ]
    chain = inv.Chain(layers)
    return with_slope(inv.reversible(chain)), (nnx.state(chain, nnx.Param), vector(8))


def linear_algebra(kind):
    def every(a, b):
        return _linalg.inv(a), _linalg.solve(a, b), _linalg.log_abs_det(a)

    batch = jnp.stack([matrix(4, kind)] * 2), jnp.stack([vector(4, kind)] * 2)
    return with_slope(jax.vmap(every)), batch


def eigenvectors():
    return jax.vmap(_linalg.eigh), (jnp.stack([matrix(4, C64)] * 2),)


def integral(rule):
    grid = quadrature.sphere_grid(9, None if rule == "lebedev" else 16, rule)
    samples = jnp.ones(grid.points[0].shape, F32)
    return with_slope(lambda f: quadrature.integrate(f, grid).value), (samples,)


def integral_error():
    grid = quadrature.sphere_grid(9, 16)
    return lambda f: quadrature.integrate(f, grid), (jnp.ones(grid.points[0].shape, F32),)


def echoes():
    samples = np.exp(-2j * np.pi * np.arange(24)[:, None] * np.array([0.2, 0.31])) @ [1.0, 0.7]
    return jnp.asarray(samples, C64)


def subspace(values):
    return delay.signal_subspace(delay.smoothed_covariance(values, 12), 2, centro_hermitian=True)


def delays():
    def every(values):
        found = subspace(values)
        return delay.root_music(found), delay.esprit(found), delay.matrix_pencil(values, 2)

    return with_slope(every), (echoes(),)


def whole_delay():
    def whole(values):
        return delay.estimate_delays(delay.FrequencySamples.create(values), 2, window=12)

    return whole, (echoes(),)


def bounds():
    power = jnp.eye(2, dtype=C64)
    return with_slope(lambda d, f: delay.cramer_rao_bound(d, power, 0.1, f)), (
        jnp.asarray([0.2, 0.31], F32),
        jnp.arange(24, dtype=F32),
    )


def estimators():
    def every(x):
        key = jax.random.key(0)
        return [surrogate(lambda x: jnp.sum(x**2), m)(x, key=key) for m in METHODS.values()]

    return jax.jit(jax.grad(lambda x: sum(every(x)))), (vector(3),)


PRECISE = {
    **{f"invertible {name}": (lambda name=name: layer(name)) for name in inv.LAYERS},
    "condition": lambda: condition(
        "dense", "butterfly", "block-diagonal", "kronecker", "coupling-affine"
    ),
    "invert exact": lambda: inverted("exact"),
    "invert newton": lambda: inverted("newton"),
    "invert descent": lambda: inverted("descent"),
    "invert matrix-free": lambda: inverted("newton", 300),
    "reversible": reversible,
    "linear algebra": lambda: linear_algebra(F32),
    "linear algebra complex": lambda: linear_algebra(C64),
    "eigenvectors": eigenvectors,
}
REST = {
    "integral": lambda: integral("clenshaw-curtis"),
    "integral gauss-legendre": lambda: integral("gauss-legendre"),
    "integral lebedev": lambda: integral("lebedev"),
    "integral error": integral_error,
    "delays": delays,
    "whole delay": whole_delay,
    "bounds": bounds,
    "estimators": estimators,
}


@functools.cache
def built(name):
    return (PRECISE | REST)[name]()


# What calls back to the host (BlackBox) is not here: JAX lowers it with the card only.
@pytest.mark.parametrize("name", [*PRECISE, *REST])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_is_lowered(name, platform):
    f, arguments = built(name)
    assert "stablehlo" in lower(f, *arguments, platform=platform)


@pytest.mark.parametrize("name", PRECISE)
def test_multiplies_at_full_precision(name):
    """No product, in value or derivative, is left to JAX's default, which is TF32 on a GPU."""
    f, arguments = built(name)
    products = [eqn for eqn in primitives(f, *arguments) if "precision" in eqn.params]
    short = [eqn for eqn in products if eqn.params["precision"] != (Precision.HIGHEST,) * 2]
    assert not short, short


def test_shorter_products_are_found():
    """What the test above would see, in a derivative too."""
    f = with_slope(lambda a: jnp.tanh(a @ a))
    found = [e.params["precision"] for e in primitives(f, matrix(3)) if "precision" in e.params]
    assert found == 3 * [None]


def test_nothing_asks_for_the_platform_while_tracing():
    """A function traced beside a GPU may run on its CPU: choices are made in the lowering."""
    files = list(Path(diffsim.__file__).parent.glob("**/*.py"))
    assert len(files) > 100
    asking = [f.name for f in files if re.search(r"default_backend\(|\.platform\b", f.read_text())]
    assert asking == []
