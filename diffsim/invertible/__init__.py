"""Networks made of invertible layers, and the inversion of networks that are not."""

from diffsim.invertible.activations import (
    Activation,
    Asinh,
    Cubic,
    Elu,
    LeakyRelu,
    Sigmoid,
    SinhArcsinh,
    Softplus,
    Tanh,
)
from diffsim.invertible.banded import Banded
from diffsim.invertible.base import Layer
from diffsim.invertible.blocks import BlockDiagonal, Kronecker, Monarch
from diffsim.invertible.boltzmann import RBM, BeliefNet, train_dbn
from diffsim.invertible.butterfly import Butterfly
from diffsim.invertible.chain import Chain, drift, reversible
from diffsim.invertible.circulant import Circulant
from diffsim.invertible.coupling import Autoregressive, Coupling
from diffsim.invertible.dense import Dense, Rectangular
from diffsim.invertible.diagonal import ActNorm, Bias, Diagonal, Permutation
from diffsim.invertible.invert import invert, preimages
from diffsim.invertible.learned import LearnedInverse, learn_inverse
from diffsim.invertible.low_rank import LowRank
from diffsim.invertible.orthogonal import Cayley, Householder
from diffsim.invertible.residual import Residual
from diffsim.invertible.status import Inversion, InversionStatus, Preimages
from diffsim.invertible.table import LAYERS
from diffsim.invertible.transformers import Additive, Affine, Spline
from diffsim.invertible.triangular import LU, Triangular

__all__ = [
    "LAYERS",
    "LU",
    "RBM",
    "ActNorm",
    "Activation",
    "Additive",
    "Affine",
    "Asinh",
    "Autoregressive",
    "Banded",
    "BeliefNet",
    "Bias",
    "BlockDiagonal",
    "Butterfly",
    "Cayley",
    "Chain",
    "Circulant",
    "Coupling",
    "Cubic",
    "Dense",
    "Diagonal",
    "Elu",
    "Householder",
    "Inversion",
    "InversionStatus",
    "Kronecker",
    "Layer",
    "LeakyRelu",
    "LearnedInverse",
    "LowRank",
    "Monarch",
    "Permutation",
    "Preimages",
    "Rectangular",
    "Residual",
    "Sigmoid",
    "SinhArcsinh",
    "Softplus",
    "Spline",
    "Tanh",
    "Triangular",
    "drift",
    "invert",
    "learn_inverse",
    "preimages",
    "reversible",
    "train_dbn",
]
