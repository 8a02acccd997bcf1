"""Every product runs at full precision where the hardware would round its factors by default."""

import jax
import numpy as np
import pytest

from diffsim import delay, quadrature

X = np.exp(-2j * np.pi * np.arange(16)[:, None] * [0.25, 0.4]) @ [1.0, 0.5]
GRID = quadrature.sphere_grid(9, 16)


def chain(real):
    return delay.estimate_delays(
        delay.FrequencySamples.create(jax.lax.complex(real, X.imag)), 2, 2
    ).delays


def subspace(method):
    def found(real):
        covariance = delay.smoothed_covariance(jax.lax.complex(real, X.imag), 8)
        return method(delay.signal_subspace(covariance, 2))

    return found


KERNELS = {
    "chain": (chain, X.real),
    "esprit": (subspace(delay.esprit), X.real),
    "root-music": (subspace(delay.root_music), X.real),
    "integrate": (lambda f: quadrature.integrate(f, GRID).value, np.ones((9, 16))),
    "error": (lambda f: quadrature.integrate(f, GRID).error, np.ones((9, 16))),
}


def precisions(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for part in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "jaxpr")):
            inner = getattr(part, "jaxpr", part)
            if hasattr(inner, "eqns"):
                yield from precisions(inner)


@pytest.mark.parametrize("name", KERNELS)
def test_no_product_at_default_precision(name):
    kernel, data = KERNELS[name]
    highest = jax.lax.Precision.HIGHEST
    for function in (kernel, jax.jacfwd(kernel), jax.jacrev(kernel)):
        found = list(precisions(jax.make_jaxpr(function)(data).jaxpr))
        assert found
        assert set(found) <= {highest, (highest, highest)}
