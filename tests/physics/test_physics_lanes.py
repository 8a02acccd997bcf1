"""Functions of lanes under every composition of transformations, against plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxprs import distinct

from diffsim.physics import lanes as module
from diffsim.physics.lanes import lanes
from diffsim.tasks import HitToTarget


def plain(x, y):
    return jnp.sin(x) * y[0] + y[1]


def with_lanes(x, y):
    found, sign = lanes(lambda x, y: (plain(x, y["a"]), (x[0] > 0).astype(int)))(x, {"a": y})
    assert sign.shape == ()
    return found


TRANSFORMS = {
    "value": lambda f: f,
    "forward": jax.jacfwd,
    "reverse": jax.jacrev,
    "reverse in a shared argument": lambda f: jax.jacrev(f, 1),
    "hessian": lambda f: jax.hessian(f, (0, 1)),
    "reverse over reverse": lambda f: jax.jacrev(jax.jacrev(f, 1), 0),
    "forward over forward over reverse": lambda f: jax.jacfwd(jax.jacfwd(jax.jacrev(f)), 1),
    "checkpoint": lambda f: jax.jacrev(jax.checkpoint(f)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_transformations_compose(name, rows, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)  # 2 · 5 lanes are three blocks
    turn = TRANSFORMS[name]
    x = jax.random.normal(jax.random.key(0), (rows, 5, 3))
    y = jax.random.normal(jax.random.key(1), (5, 2))

    def nested(f):
        return lambda x, y: jax.vmap(lambda row: jax.vmap(f)(row, y))(x)

    for run in (
        lambda f: jax.jit(turn(f))(x[0, 0], y[0]),
        lambda f: jax.vmap(turn(f), (0, None))(x[:, 0], y[0]),
        lambda f: jax.jit(turn(nested(f)))(x, y),
        lambda f: jax.lax.scan(lambda c, row: (c, turn(f)(row, y[0])), 0, x[:, 0])[1],
    ):
        for ours, true in zip(
            jax.tree.leaves(run(with_lanes)), jax.tree.leaves(run(plain)), strict=True
        ):
            assert ours.shape == true.shape
            np.testing.assert_allclose(ours, true, atol=1e-12)


def test_the_program_stays_small():
    """Compile time is the first thing a user meets; what is counted is what XLA is given."""
    task = HitToTarget.create()
    start = task.sample(jax.random.key(0))
    weights = jnp.zeros(task.weight_count, start.position.dtype)
    assert 1000 < distinct(task.loss, weights, start) <= 3000
    assert 1000 < distinct(jax.grad(task.loss), weights, start) <= 7000


def test_what_a_batch_divided_over_devices_shares_has_one_slope():
    """Σ a sin x over the devices has slope Σ sin x in a, which all of them share."""
    mesh, spec = jax.sharding.Mesh(np.array(jax.devices()[:1]), "i"), jax.sharding.PartitionSpec
    product = jax.vmap(lanes(scaled), in_axes=(None, 0))

    def total(a, x):
        return jax.lax.psum(jnp.sum(product(a, x)), "i")

    divided = jax.shard_map(total, mesh=mesh, in_specs=(spec(), spec("i")), out_specs=spec())
    a, x = jnp.asarray(2.0), jnp.linspace(0.0, 1.0, 4)
    for slope in (jax.grad(divided), jax.jacfwd(divided)):
        assert float(slope(a, x)) == pytest.approx(float(jnp.sum(jnp.sin(x))), rel=1e-12)


def scaled(a, x):
    return a * jnp.sin(x)
