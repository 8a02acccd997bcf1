# %% [markdown]
# # Infogain in a training loop
#
# To cross-entropy, every mistake is equally bad. Softmax-infogain takes a matrix H of similarities:
# row k says how much each class is worth where the label is k.
# L = −Σⱼ H[k, j] log softmax(x)ⱼ.

# %%
import jax
import jax.numpy as jnp
import optax

from diffsim.losses import from_distances, softmax_infogain

classes = 8
levels = jnp.arange(classes)
H = from_distances(jnp.abs(levels[:, None] - levels) * 1.0, beta=0.4, normalise=True)

# %% [markdown]
# The data are ordered classes seen through one-sided noise: the class is most likely the highest
# that fits, and often much lower. The network is linear in a few features of what is seen. If you
# come from optax, only the loss changes: `optax.softmax_cross_entropy_with_integer_labels(logits,
# labels)` becomes `softmax_infogain(logits, labels, H, reduction=None)`, one loss per example.

# %%
key, noise = jax.random.split(jax.random.key(0))
labels = jax.random.randint(key, (4096,), 0, classes)
seen = (labels + 3 * jax.random.exponential(noise, labels.shape)) / (2 * classes)
features = jnp.stack([jnp.cos(k * jnp.pi * seen) for k in range(12)], axis=1)


def train(loss):
    optimiser = optax.adam(5e-2)
    weights = jnp.zeros((features.shape[1], classes))
    state = optimiser.init(weights)

    @jax.jit
    def update(weights, state):
        value, slope = jax.value_and_grad(lambda w: loss(features @ w))(weights)
        change, state = optimiser.update(slope, state)
        return weights + change, state, value

    for _ in range(600):
        weights, state, _ = update(weights, state)
    guess = jnp.argmax(features @ weights, axis=1)
    return float(jnp.mean(guess == labels)), float(jnp.mean(jnp.abs(guess - labels)))


plain = optax.softmax_cross_entropy_with_integer_labels
right, off = train(lambda logits: jnp.mean(plain(logits, labels)))
print(f"cross-entropy: {right:.1%} right, {off:.2f} classes off on average")
right_too, less_off = train(lambda logits: softmax_infogain(logits, labels, H))
print(f"infogain: {right_too:.1%} right, {less_off:.2f} classes off on average")
assert less_off < off

# %% [markdown]
# H may be `Dense`, `Diagonal`, `Smoothing`, `Sparse`, `LowRank` or a `Tree`; for many classes
# `softmax_infogain_head` never holds all logits. Never feed distances: the loss rewards what H
# marks. A measured comparison is `python scripts/digits.py` (extra `demo`).
