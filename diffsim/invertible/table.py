"""The constructor table: every layer by name, made as ``LAYERS[name](size, rngs=, dtype=)``."""

import functools
from collections.abc import Callable

from diffsim.invertible import activations as act
from diffsim.invertible.banded import Banded
from diffsim.invertible.base import Layer
from diffsim.invertible.blocks import BlockDiagonal, Kronecker, Monarch
from diffsim.invertible.butterfly import Butterfly
from diffsim.invertible.circulant import Circulant
from diffsim.invertible.coupling import Autoregressive, Coupling
from diffsim.invertible.dense import Dense
from diffsim.invertible.diagonal import ActNorm, Bias, Diagonal, Permutation
from diffsim.invertible.low_rank import LowRank
from diffsim.invertible.orthogonal import Cayley, Householder
from diffsim.invertible.residual import Residual
from diffsim.invertible.transformers import Additive, Affine, Spline
from diffsim.invertible.triangular import LU, Triangular

LAYERS: dict[str, Callable[..., Layer]] = {
    "dense": Dense.random,
    "lu": LU.random,
    "triangular": Triangular.random,
    "householder": Householder.random,
    "cayley": Cayley.random,
    "low-rank": LowRank.random,
    "tridiagonal": Banded.random,
    "banded": functools.partial(Banded.random, half=2),
    "circulant": Circulant.random,
    "kronecker": Kronecker.random,
    "block-diagonal": BlockDiagonal.random,
    "butterfly": Butterfly.random,
    "monarch": Monarch.random,
    "diagonal": Diagonal.random,
    "bias": Bias.random,
    "actnorm": ActNorm.random,
    "permutation": Permutation.random,
    "coupling-additive": functools.partial(Coupling.random, transformer=Additive()),
    "coupling-affine": functools.partial(Coupling.random, transformer=Affine()),
    "coupling-spline": functools.partial(Coupling.random, transformer=Spline(), flip=True),
    "autoregressive": Autoregressive.random,
    "residual": Residual.random,
    "leaky-relu": act.LeakyRelu.random,
    "tanh": act.Tanh.random,
    "sigmoid": act.Sigmoid.random,
    "softplus": act.Softplus.random,
    "elu": act.Elu.random,
    "asinh": act.Asinh.random,
    "cubic": act.Cubic.random,
    "sinh-arcsinh": act.SinhArcsinh.random,
}
