"""Run in a process of its own: a black box on rows that are spread over forced devices.

python devices.py COUNT
"""

import os
import sys


def main(count: int) -> None:
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    from diffsim.gradients import SPSA, BlackBox

    box = BlackBox(lambda x: np.sum(x**2, axis=-1), batched=True, method=SPSA(samples=2))
    rows = jax.random.normal(jax.random.key(0), (2 * count, 1000))
    keys = jax.random.split(jax.random.key(1), 2 * count)

    def slopes(rows, keys):
        return jax.vmap(lambda x, key: jax.value_and_grad(box)(x, key=key))(rows, keys)

    wanted, spec = jax.jit(slopes)(rows, keys), PartitionSpec("rows")
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((count,), ("rows",), axis_types=(kind,))
        spread = jax.device_put((rows, keys), NamedSharding(mesh, spec))
        own = jax.shard_map(slopes, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        for together in (jax.jit(slopes), jax.jit(own)):
            for _ in range(5):
                found = together(*spread)
                assert len(found[0].sharding.device_set) == count
                for a, b in zip(found, wanted):
                    np.testing.assert_allclose(a, b, rtol=1e-5)
    print(jax.device_count())


if __name__ == "__main__":
    main(int(sys.argv[1]))
