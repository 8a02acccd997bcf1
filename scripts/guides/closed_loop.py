# %% [markdown]
# # Closed loops with brax and Gymnasium
#
# Step-wise tasks on the same physics: a policy sees the ball and steers the paddle at every step.
# `step` may be differentiated in state and action.

# %%
import jax
import jax.numpy as jnp
import numpy as np

from diffsim.envs import channel_table, make, restart

env = make("paddle-juggle")
print(channel_table(env.observations))
print(channel_table(env.actions))

# %% [markdown]
# ## Functions of one state
# `reset` and `step` are pure; `jax.vmap` them. `restart` puts a fresh start in the place of an
# episode that ended.

# %%
keys = jax.random.split(jax.random.key(0), 16)
state = jax.vmap(env.reset)(keys)


@jax.jit
def step(state, keys):
    action = jnp.zeros((16, len(env.actions)))
    outcome = jax.vmap(env.step)(state, action)
    return jax.vmap(lambda o, f: restart(env, o, f))(outcome, jax.vmap(env.reset)(keys))


for number in range(20):
    state, ended = step(state, jax.random.split(jax.random.key(number), 16))
print("rewards of the last step", np.round(state.reward, 2))

# %% [markdown]
# ## Gymnasium (extra `gym`)
# NumPy in and out, for torch and others; an env that ends is reset in the same step. The import
# also registers them by name: `gymnasium.make_vec("diffsim/paddle-juggle-v0", num_envs=4)`.

# %%
from diffsim.envs import gym_adapter  # noqa: E402

envs = gym_adapter.GymVectorEnv("paddle-juggle", num_envs=4)
seen, _ = envs.reset(seed=0)
seen, reward, terminated, truncated, _ = envs.step(np.zeros((4, 5), np.float32))
print(seen.shape, reward)

# %% [markdown]
# ## brax
# After this import brax also knows the tasks by name, `brax.envs.create("diffsim-paddle-juggle")`,
# and its own trainers run on them: `python scripts/train_brax.py --algorithm ppo`.

# %%
import warnings  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # brax's own, at import
    from diffsim.envs import brax_adapter

    task = brax_adapter.BraxEnv(env)
    begun = jax.jit(task.reset)(jax.random.PRNGKey(0))
    after = jax.jit(task.step)(begun, jnp.zeros(task.action_size))
print("brax:", task.observation_size, "observations, reward", float(after.reward))

# %% [markdown]
# Our own trainer is `python scripts/train_closed_loop.py --gradient shac`; it also writes a page
# with episodes to replay.
