"""Every public kernel, and every step of training, by name: a function and its arguments."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from drift import Drift
from flax import nnx
from point import Point

from diffsim import (
    BallState,
    World,
    _linalg,
    delay,
    envs,
    losses,
    motion,
    net,
    quadrature,
    simulate,
    table,
    tasks,
)  # fmt: skip
from diffsim import invertible as inv
from diffsim.gradients import METHODS, Relax, UnrolledLoss, estimate, steps
from diffsim.gradients.mixtures import disagreement
from diffsim.physics.contact.table import CONTACTS
from diffsim.physics.interpolate import states_at
from diffsim.tasks.radar import Ranges
from diffsim.training import ClosedLoop, LoopSettings, Settings, Traced
from diffsim.training.loop_gradients import GRADIENTS

F32, C64 = jnp.float32, jnp.complex64


def with_slope(f):
    """f, and its derivative in all its arguments, compiled first: rules are met late, as in use."""

    def total(*args):
        leaves = jax.tree.leaves(jax.jit(f)(*args))
        numbers = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        return sum(jnp.sum(jnp.abs(leaf)) for leaf in numbers)

    return lambda *args: jax.value_and_grad(total, tuple(range(len(args))), allow_int=True)(*args)


def vector(n, kind=F32):
    return jax.random.normal(jax.random.key(n), (n,), kind)


def matrix(n, kind=F32):
    return jax.random.normal(jax.random.key(0), (n, n), kind) + 4 * jnp.eye(n, dtype=kind)


def layer(name):
    made = inv.LAYERS[name](8, rngs=nnx.Rngs(0), dtype=F32)
    graph, state = nnx.split(made)

    def every(state, x):
        layer = nnx.merge(graph, state)
        factor = layer.factor()
        return layer(x), layer.inverse(0.1 * x, factor), layer.log_det(x)

    return with_slope(every), (state, vector(8))


def network(weights, x):
    return jnp.tanh(weights @ jnp.tanh(weights @ x))


def inverted(method, size=4):
    def solve(weights, y):
        found = inv.invert(lambda x: network(weights, x), y, size=size, method=method)
        return found.x, found.error, found.residual

    return with_slope(solve), (matrix(size), 0.1 * vector(size))


def condition(*names):
    layers = [inv.LAYERS[name](8, rngs=nnx.Rngs(0), dtype=F32) for name in names]
    return lambda x: [layer.condition(x) for layer in layers], (vector(8),)


def reversible():
    layers = [
        inv.LAYERS[name](8, rngs=nnx.Rngs(0), dtype=F32) for name in ("dense", "coupling-affine")
    ]
    chain = inv.Chain(layers)
    return with_slope(inv.reversible(chain)), (nnx.state(chain, nnx.Param), vector(8))


def linear_algebra(kind):
    def every(a, b):
        return _linalg.inv(a), _linalg.solve(a, b), _linalg.log_abs_det(a)

    batch = jnp.stack([matrix(4, kind)] * 2), jnp.stack([vector(4, kind)] * 2)
    return with_slope(jax.vmap(every)), batch


def eigenvectors():
    return jax.vmap(_linalg.eigh), (jnp.stack([matrix(4, C64)] * 2),)


def integral(rule):
    grid = quadrature.sphere_grid(9, None if rule == "lebedev" else 16, rule)
    samples = jnp.ones(grid.points[0].shape, F32)
    return with_slope(lambda f: quadrature.integrate(f, grid).value), (samples,)


def integral_error():
    grid = quadrature.sphere_grid(9, 16)
    return lambda f: quadrature.integrate(f, grid), (jnp.ones(grid.points[0].shape, F32),)


def echoes():
    samples = np.exp(-2j * np.pi * np.arange(24)[:, None] * np.array([0.2, 0.31])) @ [1.0, 0.7]
    return jnp.asarray(samples, C64)


def subspace(values):
    return delay.signal_subspace(delay.smoothed_covariance(values, 12), 2, centro_hermitian=True)


def delays():
    def every(values):
        found = subspace(values)
        return delay.root_music(found), delay.esprit(found), delay.matrix_pencil(values, 2)

    return with_slope(every), (echoes(),)


def whole_delay():
    def whole(values):
        return delay.estimate_delays(delay.FrequencySamples.create(values), 2, window=12)

    return with_slope(whole), (echoes(),)


def bounds():
    power = jnp.eye(2, dtype=C64)

    def every(d, f):
        return [bound(d, power, 0.1, f) for bound in (delay.cramer_rao_bound, delay.music_variance)]

    return with_slope(every), (jnp.asarray([0.2, 0.31], F32), jnp.arange(24, dtype=F32))


def radar():
    tracking = tasks.RadarTracking.create(pulses=2)
    heard = tracking.distances(tracking.guess)
    measured = Ranges(heard, jnp.full_like(heard, 1e-3))

    def every(tracking, measured):
        ball = tracking.locate(measured)
        return ball, tracking.landing(ball)

    return with_slope(every), (tracking, measured)


def estimators():
    chain = UnrolledLoss(jnp.zeros((), F32), lambda s, x: s + jnp.sum(x**2), lambda s: s, 4)

    def every(x):
        key, square = jax.random.key(0), jnp.ones((3, 3), x.dtype)
        methods = [*METHODS.values(), Relax(parameters=(x[0], x, square))]
        return [estimate(loss, m)(x, key=key) for m in methods for loss in (chain, jnp.prod)]

    return every, (vector(3),)


def measured_step():
    return lambda x: steps.measured_step(jnp.prod, x, jax.random.key(0)), (vector(3),)


def infogain(classes=37):
    """All kinds of H, with labels and soft labels; and the second derivative."""
    h = matrix(classes) ** 2
    records = [
        losses.DenseInfogain(h),
        losses.DiagonalInfogain(h[0]),
        losses.SmoothingInfogain(jnp.asarray(0.1, F32), classes),
        losses.SparseInfogain.largest(h, 4),
        losses.LowRankInfogain(h[0], h[:, :2], h[:, 2:4]),
        losses.TreeInfogain(
            jnp.ones(2, F32), jnp.stack([jnp.arange(classes) // k for k in (4, 1)])
        ),
    ]

    def every(x, records):
        labels = jnp.arange(6), jax.nn.softmax(x)
        return [losses.softmax_infogain(x, k, h) for h in records for k in labels]

    def curved(x, records):
        return every(x, records), jax.grad(lambda x: sum(every(x, records)))(x)

    return with_slope(curved), (matrix(classes)[:6], records)


def head():
    """The logits of a network's own layer."""
    x, labels = matrix(8), jnp.arange(8)

    def loss(x, classifier):
        return losses.softmax_infogain_head(x, classifier, labels, jnp.eye(8, dtype=F32))

    return with_slope(loss), (x, x)


def flight(contact):
    settings = {"compliant": {"stiffness": 1e5}, "smoothed": {"sharpness": 1e5, "stiffness": 1e5}}
    model = CONTACTS[contact].create(**settings.get(contact, {}))
    world = World.create([table(), net()])
    ball = BallState.create([1.3, 0.1, 1.1], [-5.0, 0.0, 0.8], [0.0, 30.0, 0.0])

    def fly(ball):
        flown = simulate(world, ball, duration=0.5, contact=model)
        return states_at(flown, jnp.array([0.1, 0.4])), flown.impacts

    return with_slope(fly), (ball,)


def poses(generator):
    made = motion.GENERATORS[generator].create(duration=0.8, normal=(0.6, 0, -0.8))
    times = jnp.linspace(0, 0.8, 3)
    return with_slope(lambda w: jax.vmap(made(w).rates)(times)), (jnp.ones(made.weight_count),)


def task(name):
    made = tasks.make(name)
    starts = jax.vmap(made.sample)(jax.random.split(jax.random.key(0), 3))

    def every(weights, start):
        return made.loss(weights, start), made.measures(weights, start)

    return with_slope(jax.vmap(every)), (jnp.zeros((3, made.weight_count)), starts)


def control_step(env):
    made = envs.make(env)
    state = jax.eval_shape(made.reset, jax.random.key(0))
    return with_slope(made.step), (
        jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state),
        jnp.zeros(len(made.actions)),
    )


def training(settings, player, estimators):
    """The slope of an update by every estimator."""
    keys = list(jax.random.split(jax.random.key(0), 4))
    chosen = [settings(gradient=n, batch=4, hidden=(8,)) for n in estimators]
    players = [player.bound(one.filled()) for one in chosen]

    def every(keys):
        return [p.gradient(*p.begin(keys), keys) for p in players]

    return every, (keys,)


KERNELS = {
    **{f"invertible {name}": partial(layer, name) for name in inv.LAYERS},
    "condition": partial(
        condition, "dense", "butterfly", "block-diagonal", "kronecker", "coupling-affine"
    ),
    "invert exact": partial(inverted, "exact"),
    "invert newton": partial(inverted, "newton"),
    "invert descent": partial(inverted, "descent"),
    "invert matrix-free": partial(inverted, "newton", 300),
    "reversible": reversible,
    "linear algebra": partial(linear_algebra, F32),
    "linear algebra complex": partial(linear_algebra, C64),
    "eigenvectors": eigenvectors,
    "integral": partial(integral, "clenshaw-curtis"),
    "integral gauss-legendre": partial(integral, "gauss-legendre"),
    "integral lebedev": partial(integral, "lebedev"),
    "integral error": integral_error,
    "delays": delays,
    "whole delay": whole_delay,
    "bounds": bounds,
    "radar": radar,
    "estimators": estimators,
    "measured step": measured_step,
    "disagreement": lambda: (disagreement, (matrix(4), 2 * matrix(4))),
    "infogain": infogain,
    **{f"flight {name}": partial(flight, name) for name in CONTACTS},
    **{f"poses {name}": partial(poses, name) for name in motion.GENERATORS},
    **{f"task {name}": partial(task, name) for name in tasks.TASKS},
    **{f"control step {name}": partial(control_step, name) for name in envs.ENVS},
}
# With networks, whose products are at JAX's default, as their user wants them.
NETWORKS = {
    "infogain head": head,
    "training": lambda: training(Settings, Traced(Point()), METHODS.keys() - {"complex-step"}),
    "training loops": lambda: training(LoopSettings, ClosedLoop(Drift()), GRADIENTS),
}
