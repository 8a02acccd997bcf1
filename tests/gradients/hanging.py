"""Run by the hang test in a process of its own: callbacks on arrays of many sizes, many times.

python hanging.py ours|pure THREADS REPEATS SIZE...
"""

import os
import sys


def main(kind: str, threads: int, repeats: int, sizes: list[int]) -> None:
    """Ours, or the plain callback that is known to hang."""
    os.environ["NPROC"] = str(threads)  # the size of XLA's thread pool
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:threads])
    import jax
    import jax.numpy as jnp
    import numpy as np

    from diffsim.gradients import SPSA
    from diffsim.gradients.blackbox import BlackBox
    from diffsim.gradients.blackbox.primitive import losses

    def total(x):
        """Touches every element."""
        return np.add.reduce(x, axis=-1)

    def through_pure_callback(x):
        """jax arrays inside the callback."""
        shape = jax.ShapeDtypeStruct(x.shape[:-1], x.dtype)
        return jax.pure_callback(lambda x: total(np.asarray(x)), shape, x)

    box = BlackBox(total, batched=True, method=SPSA(samples=1))

    @jax.jit
    def bare(x, key):
        """Nothing but the callback."""
        return (
            through_pure_callback(x) if kind == "pure" else losses(box._host, (x[None],), x.dtype)
        )

    @jax.jit
    def busy(x, key):
        """With something for the pool to do before, between and after."""
        x = jnp.sin(x) + 1
        if kind == "pure":
            return jnp.cos(through_pure_callback(x + through_pure_callback(x)))
        slope = jax.grad(box)(x, key=key)
        rows = jax.vmap(lambda x: box(x, key=key))(jnp.stack([x, x + slope]))
        return jnp.cos(rows) + jnp.sum(slope)

    for size in sizes:
        x = jnp.zeros(size, jnp.float32)
        for work in (bare, busy) if size <= 10**6 else (bare,):  # drawing the noise takes long
            keys = [jax.random.key(i) for i in range(repeats)]
            found = [np.asarray(work(x + i, keys[i])) for i in range(repeats)]  # one by one
            found += [np.asarray(one) for one in [work(x, key) for key in keys]]  # or dispatched
            assert np.all(np.isfinite(found[-1]))
        print(size, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]), [int(size) for size in sys.argv[4:]])
