"""Read a network as a sequence of layers: from its parts, or from what it computes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from diffsim._types import Network, Tree
from diffsim.invertible import activations as act
from diffsim.invertible.base import Layer
from diffsim.invertible.chain import Chain
from diffsim.invertible.dense import Dense, Rectangular
from diffsim.invertible.diagonal import Bias, Diagonal


class _Unreadable(Exception):
    """The network is not one layer after another."""


def _weight(matrix: jax.Array) -> Layer:
    return Dense(matrix) if matrix.shape[0] == matrix.shape[1] else Rectangular(matrix)


def _dot(eqn: JaxprEqn, known: list[Tree], shape: tuple[int, ...]) -> list[Layer]:
    (left, right), batch = eqn.params["dimension_numbers"]
    weight = known[0] if known[1] is None else known[1]
    if any(batch) or weight.ndim != 2 or len(shape) != 1:
        raise _Unreadable
    axis = (left if known[1] is None else right)[0]
    return [_weight(weight if axis == 1 else weight.T)]


def _shift(sign: tuple[int, int]) -> Callable:
    """y = sign₀ a + sign₁ b of one known and one running value."""

    def layers(eqn, known, shape):
        index = 0 if known[1] is None else 1  # of the known one
        bias = Bias(sign[index] * jnp.broadcast_to(known[index], shape))
        turned = [] if sign[1 - index] == 1 else [Diagonal(-jnp.ones(shape, bias.bias.dtype))]
        return [*turned, bias]

    return layers


def _scale(eqn: JaxprEqn, known: list[Tree], shape: tuple[int, ...]) -> list[Layer]:
    return [Diagonal(jnp.broadcast_to(known[0] if known[1] is None else known[1], shape))]


def _divide(eqn: JaxprEqn, known: list[Tree], shape: tuple[int, ...]) -> list[Layer]:
    if known[1] is None:
        raise _Unreadable
    return [Diagonal(jnp.broadcast_to(1 / known[1], shape))]


READERS: dict[str, Callable[..., list[Layer]]] = {
    "dot_general": _dot,
    "add": _shift((1, 1)),
    "sub": _shift((1, -1)),
    "mul": _scale,
    "div": _divide,
    "neg": lambda eqn, known, shape: [Diagonal(-jnp.ones(shape, eqn.outvars[0].aval.dtype))],
    "tanh": lambda *_: [act.Tanh()],
    "logistic": lambda *_: [act.Sigmoid()],
    "asinh": lambda *_: [act.Asinh()],
    "convert_element_type": lambda *_: [],
    "copy": lambda *_: [],
}


NAMED: dict[str, Callable[[Callable], Layer]] = {
    "softplus": lambda f: act.Softplus(),
    "elu": lambda f: act.Elu(),
    "leaky_relu": lambda f: act.LeakyRelu(-f(-1.0)),
}


def _named(name: str, f: Callable) -> Layer | None:
    """The activation that jax.nn calls ``name``, if f, of one number, is that."""
    with jax.ensure_compile_time_eval():
        layer = NAMED[name](f)
        here = jnp.linspace(-3.0, 3.0, 7)
        same = np.allclose([f(float(v)) for v in here], layer(here), rtol=1e-5, atol=1e-6)
    return layer if same else None


class _Reader:
    """Follows one running value through a jaxpr; everything else must be known."""

    def __init__(self):
        self.layers: list[Layer] = []

    def follow(self, jaxpr: Jaxpr, consts: Tree, inputs: list[Tree]) -> list[Tree]:
        """Values of the outputs; None stands for the running value."""
        values: dict[Tree, Tree] = dict(zip(jaxpr.constvars, consts)) | dict(
            zip(jaxpr.invars, inputs)
        )
        running = [v for v, value in zip(jaxpr.invars, inputs) if value is None]

        def value(atom):
            return atom.val if isinstance(atom, Literal) else values[atom]

        for eqn in jaxpr.eqns:
            known = [value(atom) for atom in eqn.invars]
            if all(k is not None for k in known):
                single = jaxpr.replace(
                    constvars=[],
                    invars=[a for a in eqn.invars if not isinstance(a, Literal)],
                    outvars=eqn.outvars,
                    eqns=[eqn],
                )
                given = [value(a) for a in single.invars]
                found = jax.core.eval_jaxpr(single, (), *given)
                values.update(zip(eqn.outvars, found))
                continue
            unknown: list[Any] = [atom for atom, k in zip(eqn.invars, known) if k is None]
            if len(eqn.outvars) != 1 or unknown != running[-1:]:
                raise _Unreadable  # the value branches, or an old one comes back
            self._step(eqn, known, unknown[0].aval.shape)
            values[eqn.outvars[0]] = None
            running.append(eqn.outvars[0])
        outputs = [value(atom) for atom in jaxpr.outvars]
        if jaxpr.outvars[:1] != running[-1:]:
            raise _Unreadable
        return outputs

    def _step(self, eqn: JaxprEqn, known: list[Tree], shape: tuple[int, ...]) -> None:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if inner is not None:
            name = str(eqn.params.get("name"))

            def f(v: float) -> float:
                aval: Any = eqn.invars[0].aval
                at = [jnp.full(shape, v, aval.dtype) if k is None else k for k in known]
                return float(jax.core.eval_jaxpr(inner.jaxpr, inner.consts, *at)[0].ravel()[0])

            fixed = not any(isinstance(k, jax.core.Tracer) for k in known)
            layer = _named(name, f) if name in NAMED and fixed else None
            if layer is not None:
                self.layers.append(layer)
            else:
                self.follow(inner.jaxpr, inner.consts, known)
            return
        reader = READERS.get(eqn.primitive.name)
        if reader is None:
            raise _Unreadable
        self.layers += reader(eqn, known, shape)


def read(network: Network, x: jax.ShapeDtypeStruct) -> list[Layer] | None:
    """The network as layers from first to last, or None if it is not one after another.

    Chains and ``nnx.Sequential`` of layers give their parts. Anything else is traced, and its
    operations recognised: products with a matrix, sums and products with a vector, tanh,
    sigmoid, softplus, elu, leaky relu, asinh.

    Args:
        network: a function of one vector.
        x: shape and dtype of that vector.
    """
    if isinstance(network, Chain | nnx.Sequential):
        found: list[Layer] = []
        for part in network.layers:
            layers = read(part, x)
            if layers is None:
                return None
            found += layers
            x = jax.eval_shape(part, x)
        return found
    if isinstance(network, Layer):
        return [network]
    traced = jax.make_jaxpr(network)(x)
    reader = _Reader()
    try:
        reader.follow(traced.jaxpr, traced.consts, [None])
    except _Unreadable:
        return None
    return reader.layers


def input_size(network: Network, outputs: int) -> int | None:
    """The only n for which the network maps (n,) to (outputs,), from its nnx.Linear parts."""
    if isinstance(network, Layer):
        return network.size or outputs
    if not isinstance(network, nnx.Module):
        return None
    parts = [part for _, part in nnx.iter_graph(network)]
    sizes = {part.in_features for part in parts if isinstance(part, nnx.Linear)}
    sizes |= {part.size for part in parts if isinstance(part, Layer) and part.size}
    fitting = []
    for n in sorted(sizes):
        try:
            shape = jax.eval_shape(
                network, jax.ShapeDtypeStruct((n,), jnp.result_type(float))
            ).shape
        except (TypeError, ValueError):
            continue
        if shape == (outputs,):
            fitting.append(n)
    return fitting[0] if len(fitting) == 1 else None
