"""Flights in a kernel, interpreted, against XLA's; and that it is lowered for a GPU."""

import contextlib

import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np
import pytest
from lowering import lower

from diffsim.physics import BallState, Pose, World, floor, paddle, search, simulate
from diffsim.physics import lanes as module
from diffsim.physics.contact import impulse
from diffsim.tasks import HitToTarget

LANES = 130  # a block of a kernel, and two balls more


def flights(dtype):
    """Balls over a floor and a disk that moves: what is asked of them, and of what; seeded."""

    def path(weights):
        def pose(t):
            place = jnp.sin(8 * t) / 8 * weights + jnp.asarray([0, 0, 0.1], dtype)
            turned, still = jnp.eye(3, dtype=dtype), jnp.zeros(3, dtype)
            return Pose(place, turned, jnp.cos(8 * t) * weights, still)

        return pose

    def loss(state, restitution, weights):
        world = World.create([paddle(0.3, restitution=restitution), floor(height=-0.1)])
        out = simulate(world, state, path(weights), duration=0.6, step=0.05, max_impacts=7)
        return jnp.sum(out.final.position**2) + jnp.sum(out.states.spin[:, 1]), out

    place, velocity, spin, weights = jax.random.normal(jax.random.key(0), (4, LANES, 3), dtype)
    place = jnp.asarray([0, 0, 0.3], dtype) + 0.1 * jnp.clip(place, -2, 2)
    start = BallState(place, velocity, 30 * spin)
    f = jax.vmap(jax.value_and_grad(loss, (0, 1, 2), has_aux=True), (0, None, 0))
    return f, (start, jnp.asarray(0.8, dtype), weights / 2)


@contextlib.contextmanager
def not_kept():
    """jaxlib 0.10 aborts when it writes such a large program to the cache of compiled ones."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 1e9)
    yield
    jax.config.update(name, before)


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])
def test_a_flight_in_a_kernel_is_the_same(dtype, monkeypatch):
    """As XLA's, with the derivative in all that moves; a few looks at an arc, to compile less."""
    for part in (search, impulse):
        monkeypatch.setattr(part, "NODES", 2)
    f, args = flights(dtype)
    jax.clear_caches()
    plain = jax.jit(f)(*args)
    jax.clear_caches()
    used = []

    def kernels(*args, **params):
        used.append(params["call"])
        return module._in_kernels(*args, **params, interpret=True)

    monkeypatch.setattr(module, "BLOCK", 64)
    monkeypatch.setattr(module, "_in_blocks", kernels)
    # XLA would compute again, in each fusion, what is used in several: a run would take minutes.
    options: dict = {"xla_disable_hlo_passes": "fusion"}
    if jaxlib.version.__version_info__ < (0, 11):  # whose old emitters are wrong without fusion
        options["xla_cpu_use_fusion_emitters"] = True
    with not_kept():
        found = jax.jit(f, compiler_options=options)(*args)
    jax.clear_caches()
    assert used
    hits = plain[0][1].impacts
    assert np.min(np.bincount(hits.surface[hits.valid], minlength=2)) > LANES / 4
    rounding = 1e-4 if dtype == jnp.float32 else 1e-12
    for want, got in zip(jax.tree.leaves(plain), jax.tree.leaves(found), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        size = np.max(np.abs(np.asarray(want, float)), initial=1.0)
        np.testing.assert_allclose(got, want, rtol=0, atol=rounding * size)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")
@pytest.mark.parametrize("lanes", [127, 128, 1000])
def test_it_is_lowered_for_a_gpu(lanes, monkeypatch):
    task = HitToTarget.create()
    starts = jax.eval_shape(jax.vmap(task.sample), jax.random.split(jax.random.key(0), lanes))
    weights = jax.ShapeDtypeStruct((lanes, task.weight_count), starts.position.dtype)

    def lowered():
        f = jax.vmap(jax.value_and_grad(task.loss))
        return lower(lambda *args: f(*args), weights, starts, platform="cuda").count(
            "xla.gpu.triton"
        )

    assert lowered() == 0  # unless asked for
    monkeypatch.setenv(module.KERNELS, "1")
    assert lowered() == (0 if lanes < module.LEAST else 2)


def test_what_a_kernel_cannot_do_is_told(monkeypatch):
    """The flight is then XLA's."""

    def sorts(x):
        step = lambda x, _: (jnp.sort(jnp.stack([x, -x]), axis=0)[0], x)  # noqa: E731
        return jax.lax.scan(step, x, length=20)

    f, x = jax.vmap(module.lanes(sorts)), jax.ShapeDtypeStruct((200,), jnp.float32)
    monkeypatch.setenv(module.KERNELS, "1")
    with pytest.warns(
        UserWarning, match="flies without a kernel: no kernel for a loop with 'sort'"
    ):
        assert "stablehlo.sort" in lower(f, x, platform="cuda")
