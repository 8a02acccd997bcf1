"""Tennis: a linear feedback policy moves a paddle under a falling ball, and may miss it."""

from typing import Any

import jax
import jax.numpy as jnp

from diffsim._intervals import Interval
from diffsim.gradients.alpha_order import weight
from diffsim.gradients.concentration import Bernstein
from studies.cases.base import Case, Measured, Published

STEP, LENGTH, DAMPING, RESTITUTION = 0.05, 200, 0.999, 1.0
REACH, THICKNESS = 0.8 + 0.15, 0.05 + 0.15  # half the paddle and the ball's radius
GOAL, WEIGHT = (0.0, 2.5, 0.0, 0.0), (100.0, 100.0, 10.0, 10.0)  # of x, y, vx, vy at the end
EFFORT, SIGMA, BATCH, RATE, GAMMA, LARGEST = 0.001, 0.01, 1000, 1e-6, 1000.0, 1000.0


def turn(angle: jax.Array, vector: jax.Array) -> jax.Array:
    """A vector (2,) turned by an angle."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def move(state: jax.Array, action: jax.Array) -> jax.Array:
    """One step of (x, y, vx, vy of the ball; x, y, θ of the paddle) under a paddle velocity (3,).

    An impact is seen at the end of the step and set back in it, as in the source: the ball
    rebounds from the paddle as if it stood still, and the paddle waits for that step.
    """
    ball, velocity, paddle = state[:2], state[2:4], state[4:]
    moved = paddle + STEP * action
    place = turn(-moved[2], ball + STEP * velocity - paddle[:2])
    v = turn(-moved[2], velocity)
    hit = (jnp.abs(place[0]) <= REACH) & (jnp.abs(place[1]) <= THICKNESS)
    # The source's time of impact; 1e-5 keeps it from dividing by nothing.
    late = 1 - (THICKNESS - place[1]) / (-STEP * v[1] + 1e-5)
    time = jnp.where(hit, STEP * late, 0.0)
    v = jnp.stack([DAMPING * v[0], v[1] * jnp.where(hit, -RESTITUTION, DAMPING)])
    after = turn(moved[2], v)
    ball = ball + time * velocity + (STEP - time) * after
    return jnp.concatenate([ball, after, jnp.where(hit, paddle, moved)])


def play(gain: jax.Array, start: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The cost of one rally under u_t = K s_t + w_t, and the states it was decided in (T, 7).

    Args:
        gain: K, (3, 7).
        start: (7,).
        noise: w, (T, 3).
    """

    def step(state, drawn):
        action = gain @ state + drawn
        return move(state, action), (state, jnp.sum(action**2))

    end, (states, efforts) = jax.lax.scan(step, start, noise)
    goal, heavy = (jnp.asarray(numbers, end.dtype) for numbers in (GOAL, WEIGHT))
    cost = jnp.sum(heavy * (end[:4] - goal) ** 2) + EFFORT * jnp.sum(efforts)
    return cost, states


def starts(key: jax.Array, count: int) -> jax.Array:
    """Balls on their way down towards a paddle near the origin, (count, 7).

    Two earlier versions of the source's code draw x from N(1, 1) and U(0, 3), with which the
    pathwise policy ends at 77 and 75.
    """
    side, normal = jax.random.split(key)
    z = jax.random.normal(normal, (count, 6))
    x = jax.random.uniform(side, (count,), minval=-2.0, maxval=2.0)
    y = 2 + 0.2 * z[:, 0]
    ball = [x, y, -0.2 * x + 0.03 * z[:, 1], -0.2 * y + 0.03 * z[:, 2]]
    paddle = [0.5 * z[:, 3], 0.05 * z[:, 4], 0.05 * z[:, 5]]
    return jnp.stack(ball + paddle, axis=1)


def batch_means(gains: jax.Array, key: jax.Array, batches: int = 100) -> jax.Array:
    """Mean cost of rallies without noise, of each gain and batch of 1,000, (gains · batches,)."""
    still = jnp.zeros((LENGTH, 3))

    def one(gain, key):
        return jnp.mean(jax.vmap(lambda s: play(gain, s, still)[0])(starts(key, BATCH)))

    keys = jax.random.split(key, batches)
    return jax.lax.map(lambda key: jax.vmap(lambda gain: one(gain, key))(gains), keys).ravel()


def smooth_terms(gain, balls, noise):
    """∂cost/∂K of every rally, (n, 21)."""
    slope = jax.vmap(jax.grad(lambda k, s, w: play(k, s, w)[0]), (None, 0, 0))
    return slope(gain, balls, noise).reshape(len(balls), -1)


def rough_terms(gain, balls, noise):
    """(cost − cost without noise) Σ_t w_t s_tᵀ/σ² of every rally, (n, 21)."""
    cost, states = jax.vmap(play, (None, 0, 0))(gain, balls, noise)
    level = jax.vmap(lambda start: play(gain, start, jnp.zeros((LENGTH, 3)))[0])(balls)
    scores = jnp.einsum("nti,ntj->nij", noise, states) / SIGMA**2
    return ((cost - level)[:, None, None] * scores).reshape(len(balls), -1)


def alpha_terms(gain, balls, noise):
    """The two mixed by the alpha order of the batch."""
    smooth, rough = smooth_terms(gain, balls, noise), rough_terms(gain, balls, noise)
    alpha = weight(smooth, rough, GAMMA, bound=Bernstein(LARGEST))["alpha"]
    return alpha * smooth + (1 - alpha) * rough


def train(terms: Any, key: jax.Array, iterations: int, batch: int = BATCH) -> jax.Array:
    """K after descent from 0 by steps of 1e-6/i^0.1."""

    def step(gain, row):
        number, key = row
        ball_key, noise_key = jax.random.split(key)
        noise = SIGMA * jax.random.normal(noise_key, (batch, LENGTH, 3))
        slope = jnp.mean(terms(gain, starts(ball_key, batch), noise), axis=0)
        return gain - RATE / number**0.1 * slope.reshape(gain.shape), None

    zero = jnp.zeros((3, 7))
    numbers = jnp.arange(1, iterations + 1).astype(zero.dtype)
    return jax.lax.scan(step, zero, (numbers, jax.random.split(key, iterations)))[0]


FIVE = "pathwise, mean of five batches"
METHODS = {"pathwise": smooth_terms, "score function": rough_terms, "alpha-order": alpha_terms}


def run(key: jax.Array, samples: int, seeds: int = 2) -> dict[str, Measured | float]:
    """``samples`` iterations of descent for each of two seeds; judged on 100,000 rallies."""
    judge, *own = jax.random.split(key, seeds + 1)
    cost = jax.jit(batch_means)
    zero = jnp.zeros((1, 3, 7))
    found: dict[str, Measured | float] = {"cost at the start": Measured.of(cost(zero, judge))}
    for name, terms in METHODS.items():
        learn = jax.jit(lambda key, terms=terms: train(terms, key, samples))
        gains = jnp.stack([learn(k) for k in own])
        means = cost(gains, judge)
        found[f"{name}, cost at the end"] = Measured.of(means)
        if name == "pathwise":
            interval = Interval.normal(float(means.mean()), float(means.std(ddof=1)) / 5**0.5)
            found[FIVE] = Measured(*interval)
    return found


TENNIS = Case(
    name="tennis",
    about="Where the ball may miss the paddle it is bias, not variance, that stops the pathwise "
    "gradient.",
    source="Suh et al. 2022, arXiv 2202.00817: h .05 s, T 200, K 3 × 7 from 0, σ .01, N 1000, 201 "
    "steps of 1e-6/i^0.1 (its loop takes one more than it is told), γ 1000, L 1000; starts and "
    "restitution as the authors' code last has them.",
    note="In brackets the mean of one batch of 1000 rallies, which is how the source's code "
    "measures a cost. For the pathwise policy it has a deviation of 12. Its 97.7–98.0 is no "
    "published figure: it is the mean of five batches (keys 1000 to 1004) of one policy, trained "
    "with that code again, and lies where such means of ours lie. The figure beside our mean, "
    "104.4 ± 1.2, is that of an independent simulation.",
    run=run,
    samples=201,
    published={
        "cost at the start": Published(230.0, 230.0, one_draw=True),
        "pathwise, cost at the end": Published(103.2, 105.6, 3.0),
        FIVE: Published(97.7, 98.0, one_draw=True),
        "score function, cost at the end": Published(38.6, 40.3, 3.0),
        "alpha-order, cost at the end": Published(38.3, 41.3, 3.0),
    },
)
