"""A function lowered for a card that is not there: compiled as far as that goes without one."""

import jax
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

# What a lowering may ask of its device: Triton, for one, wants to know the kind of card.
DEVICES = {
    "cuda": AbstractDevice("NVIDIA H100 80GB HBM3", num_cores=None, platform="gpu"),
    "tpu": AbstractDevice("TPU v5 lite", num_cores=1, platform="tpu"),
}


def lower(f, *args, platform, **kwargs):
    """The StableHLO of f for "cuda" or "tpu", as text; raises where JAX cannot lower it.

    f may be jitted already. Nothing runs: arguments may be ``jax.ShapeDtypeStruct``.
    """
    mesh = AbstractMesh((1,), ("device",), abstract_device=DEVICES[platform])
    with use_abstract_mesh(mesh):
        traced = (f if hasattr(f, "trace") else jax.jit(f)).trace(*args, **kwargs)
        return traced.lower(lowering_platforms=(platform,)).as_text()
