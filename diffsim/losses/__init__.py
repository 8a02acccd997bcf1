"""Losses for networks: softmax-infogain, where some mistakes cost more than others."""

from diffsim.losses.base import (
    DenseInfogain,
    DiagonalInfogain,
    Infogain,
    LowRankInfogain,
    PeakedInfogain,
    SmoothingInfogain,
    SparseInfogain,
    TreeInfogain,
    from_distances,
)
from diffsim.losses.infogain import (
    REDUCTIONS,
    softmax_cross_entropy_with_infogain,
    softmax_infogain,
    softmax_infogain_head,
)
from diffsim.losses.kernels import Kernel

__all__ = [
    "REDUCTIONS",
    "DenseInfogain",
    "DiagonalInfogain",
    "Infogain",
    "Kernel",
    "LowRankInfogain",
    "PeakedInfogain",
    "SmoothingInfogain",
    "SparseInfogain",
    "TreeInfogain",
    "from_distances",
    "softmax_cross_entropy_with_infogain",
    "softmax_infogain",
    "softmax_infogain_head",
]
