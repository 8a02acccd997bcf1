# %% [markdown]
# # Your C simulator, and MuJoCo
#
# Any Python callable on NumPy arrays can be the loss; here it is a C function, called through
# `ctypes`. The derivative is estimated at its input; what comes before it is differentiated
# exactly.

# %%
import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffsim.gradients import SPSA, BlackBox

SOURCE = """
double range_error(const double *launch, double target) {
    double x = 0, z = 1, vx = launch[0], vz = launch[1], h = 1e-4;
    while (z > 0) { x += h * vx; z += h * vz; vx -= h * 0.1 * vx; vz -= h * 9.81; }
    return (x - target) * (x - target);
}
"""
folder = Path(tempfile.mkdtemp())
(folder / "range.c").write_text(SOURCE)
compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
library = folder / "range.so"
subprocess.run([compiler, "-O2", "-shared", "-fPIC", folder / "range.c", "-o", library], check=True)
range_error = ctypes.CDLL(str(library)).range_error
range_error.restype = ctypes.c_double


def simulator(launch, target):
    launch = np.ascontiguousarray(launch, np.float64)
    pointer = launch.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
    return range_error(pointer, ctypes.c_double(float(target)))


# %% [markdown]
# `value_and_grad` makes a host step: compiled forward pass, simulator, compiled pullback. What it
# returns is what any optimiser wants.


# %%
def network(params, target):
    """Rows of launches (8, 2) for rows of targets (8,)."""
    return params["offset"] + params["slope"] * target[:, None]


params = {"offset": jnp.array([2.0, 2.0]), "slope": jnp.array([0.0, 0.0])}
targets = jnp.linspace(1.0, 3.0, 8)
box = BlackBox(simulator, method=SPSA(samples=4))
step = box.value_and_grad(network)
losses = []
for number in range(300):
    keys = jax.random.split(jax.random.key(number), len(targets))
    value, slope = step(params, targets, args=(targets,), key=keys)
    params = jax.tree.map(lambda p, g: p - 0.02 * g, params, slope)
    losses.append(float(value))
print(f"mean squared miss: {losses[0]:.3f} m² before, {np.mean(losses[-10:]):.4f} m² after")
assert np.mean(losses[-10:]) < 0.2 * losses[0]

# %% [markdown]
# Worker processes (`workers=2`), a time limit per call (`timeout=5.0`) and what to do about a
# failed call (`on_error="mask"`) are options of `BlackBox`. Inside `jit` and `vmap`, call the box
# itself.
#
# ## MuJoCo
# `MujocoHits` is a task whose simulator is MuJoCo's C engine, and a trainer runs it in such a box:
# servo-driven joints, torque limits, MuJoCo's own contact. `python scripts/train.py --simulator
# mujoco --gradient spsa` trains through it. `python scripts/benchmark.py mujoco-contact` shows
# what its contact does to restitution.

# %%
from diffsim.tasks import ArmHitsTarget  # noqa: E402
from diffsim.tasks.mujoco_rally import MuJoCoRally  # noqa: E402

print(ArmHitsTarget.create().weight_count, "weights;", (MuJoCoRally.__doc__ or "").splitlines()[0])
