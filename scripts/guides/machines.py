# %% [markdown]
# # Several machines, and a GPU
#
# The scripts divide serves or episodes over all devices of all processes; the result is that of one
# device, to rounding. Here one CPU is made to look like two devices, as in the tests.

# %%
import dataclasses
import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=2"
)

import jax
import jax.numpy as jnp

from diffsim import BallState, World, simulate
from diffsim.training.sharding import averaged, divided

print(jax.devices())

# %% [markdown]
# `divided(f)` gives every device its own share of the rows; only results travel.

# %%
world = World.create()


def heights(world, drops):
    """Mean height after 0.5 s of balls that are dropped, and each of them."""
    final = jax.vmap(
        lambda z: simulate(
            world, BallState.create(jnp.zeros(3).at[2].set(z)), duration=0.5
        ).final.position[2]
    )(drops)
    return jnp.mean(final), final


drops = jnp.linspace(0.9, 1.5, 8)
mean, each = jax.jit(divided(heights))(world, drops)
alone, _ = jax.jit(heights)(world, drops)
print(float(mean), each)
assert jnp.allclose(mean, alone, rtol=1e-5)
mean_height = averaged(
    lambda gravity, drops: heights(dataclasses.replace(world, gravity=gravity), drops)[0]
)
print("d(mean height)/d(gravity):", jax.jit(jax.grad(mean_height))(world.gravity, drops))

# %% [markdown]
# ## Several machines
# Give the same command on each, with its own number; all need one shared folder:
#
# ```sh
# python scripts/train.py --coordinator HOST:1234 --processes 2 --process 0   # on the first
# python scripts/train.py --coordinator HOST:1234 --processes 2 --process 1   # on the second
# ```
#
# The first process writes, and listens at that address without asking who calls: use a network
# that you trust. If one is lost, the others end with an error; start them again with `--resume`, in
# any number. The batch must be a multiple of the number of devices.
#
# ## A GPU
# `pip install 'diffsim-jax[gpu]'`; nothing else changes. `python scripts/benchmark.py accelerator`
# measures every kernel on it: error against float64, time over the memory floor, compile time.
# `JAX_PLATFORMS=cuda python -m pytest` in a checkout runs the tests on it.
#
# With `DIFFSIM_KERNELS=1` in the environment, batches of 128 balls and more fly in one kernel of an
# NVIDIA GPU from start to end (Pallas, Triton), and their gradients come back in another: as XLA
# compiles a flight, each arc is dozens of launches. These kernels give what XLA gives to rounding
# where they are interpreted, and Triton compiles them for an H100; no card has timed them yet, so
# that they are off unless asked for. `python scripts/benchmark.py physics` measures both.
#
# ## Compiling
# The first call of a program compiles it: some 20 s on one core for the gradient of a hitting task.
# The scripts keep what was compiled in the user's cache folder; elsewhere
# `JAX_COMPILATION_CACHE_DIR=FOLDER` does. On jaxlib 0.10 alone (Python 3.11) a CPU compiles in half
# the time with `XLA_FLAGS=--xla_cpu_use_fusion_emitters=false`, set before JAX starts, as the
# scripts do (long batches then run up to a third longer); later versions end with an error when
# they are given it.
#
# ## Where numbers go
# A run writes `metrics.csv` and TensorBoard events (extra `tensorboard`: `tensorboard --logdir
# runs`). To send them elsewhere, pass a callback; it gets each row as a dict and, between rows,
# `{"step": n}` after each update:
#
# ```python
# from diffsim.training import Settings, Trainer, train
#
# settings = Settings(steps=200)
# train(Trainer(settings.player(), settings), progress=wandb.log)             # Weights & Biases
# train(Trainer(settings.player(), settings), progress=mlflow.log_metrics)    # MLflow
# ```
