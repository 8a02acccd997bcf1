"""Track a ball by radar: echoes → delays → ranges → state of the ball → where it lands."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import struct

from diffsim import _check, _linalg
from diffsim._least_squares import gauss_newton, levenberg_marquardt
from diffsim.delay import FrequencySamples, estimate_delays
from diffsim.delay.radar import Radar, delay_to_range, echo
from diffsim.physics import BallState, World, simulate

CORNERS = ((-1.6, -1.2, 0.3), (-1.6, 1.2, 0.3), (-1.6, 0.0, 2.2), (1.6, 1.2, 2.2))


@struct.dataclass
class Ranges:
    """Measured distances of the ball.

    Attributes:
        value: at each pulse from each antenna, (P, A), m.
        deviation: their standard deviation, (P, A), m.
    """

    value: jax.Array
    deviation: jax.Array


@struct.dataclass
class Located:
    """A ball found from ranges.

    Attributes:
        state: at the first pulse; the spin is the guess's.
        covariance: of position and velocity, (6, 6), m and m/s.
        misfit: Σ ((measured − fitted)/deviation)², about P A − 6 where the model is right.
    """

    state: BallState
    covariance: jax.Array
    misfit: jax.Array


@struct.dataclass
class Landing:
    """Where a ball first touches something.

    Attributes:
        point: (x, y) of its centre, (2,), m; at the end of the horizon if it touches nothing.
        covariance: of the point, (2, 2), m².
        landed: whether it touches something, () bool.
    """

    point: jax.Array
    covariance: jax.Array
    landed: jax.Array


@struct.dataclass
class RadarTracking:
    """Antennas that each send pulses to a ball in flight and hear its echo.

    The ball is a point that stands still for the length of a pulse; its echo has amplitude 1/r²
    of the one from a metre's distance, to which ``radar.noise`` is relative. What does not move
    is taken to have been subtracted. Every step is differentiable, forward and reverse, in the
    antennas' positions, the received samples, the world and the start.

    Attributes:
        world: where the ball flies; without driven surfaces.
        radar: what each antenna sends.
        antennas: (A, 3), m.
        guess: of the first state, where the search starts; its spin is taken as known.
        pulses: P.
        interval: between pulses, s.
        horizon: from the first pulse, how long to wait for a landing, s.
    """

    world: World
    radar: Radar
    antennas: jax.Array
    guess: BallState
    pulses: int = struct.field(pytree_node=False, default=12)
    interval: float = struct.field(pytree_node=False, default=0.02)
    horizon: float = struct.field(pytree_node=False, default=1.2)

    @classmethod
    def create(
        cls,
        world: World | None = None,
        radar: Radar | None = None,
        antennas=CORNERS,
        guess: BallState | None = None,
        *,
        pulses: int = 12,
        interval: float = 0.02,
        horizon: float = 1.2,
    ) -> "RadarTracking":
        """Checked settings; by default four antennas around a table, and a serve's usual start.

        Raises:
            ValueError: the world has driven surfaces, antennas are not (A, 3), fewer than six
                ranges, or a time is not positive.

        >>> RadarTracking.create(pulses=1)
        Traceback (most recent call last):
        ...
        ValueError: pulses: expected at least 2 and 6 ranges in all, got 1 pulses of 4 antennas
        """
        world = World.create() if world is None else world
        if world.driven_count:
            raise ValueError(f"world: expected no driven surface, got {world.driven_count}")
        antennas = _check.in_range("antennas", antennas)
        if antennas.ndim != 2 or antennas.shape[1] != 3:
            raise ValueError(f"antennas: expected shape (A, 3), got {antennas.shape}")
        if pulses < 2 or pulses * len(antennas) < 6:
            raise ValueError(
                "pulses: expected at least 2 and 6 ranges in all, "
                f"got {pulses} pulses of {len(antennas)} antennas"
            )
        for name, value in (("interval", interval), ("horizon", horizon)):
            if not float(value) > 0:
                raise ValueError(f"{name}: expected a positive number of s, got {value}")
        if guess is None:
            guess = BallState.create([1.3, 0.0, 1.15], [-5.5, 0.0, 1.0])
        radar = Radar.create(noise=0.01) if radar is None else radar
        return cls(world, radar, antennas, guess, int(pulses), float(interval), float(horizon))

    def distances(self, start: BallState) -> jax.Array:
        """r_pa = |x(t_p) − antenna_a|, (P, A), m, of a ball that starts so at the first pulse."""
        flight = replace(self, guess=start)._path(jnp.concatenate([start.position, start.velocity]))
        return self._distances(flight)

    def listen(self, start: BallState, key: jax.Array | None = None) -> jax.Array:
        """What the antennas receive, (P, A, N) complex.

        Args:
            start: the true state at the first pulse.
            key: of the noise; None for none.

        >>> tracking = RadarTracking.create(pulses=2)
        >>> tracking.listen(tracking.guess).shape
        (2, 4, 64)
        """
        distances = self.distances(start)
        flat = distances.ravel()[:, None]

        def receive(distance, key):
            return echo(self.radar, distance, 1 / distance**2, key).values

        keys = None if key is None else jax.random.split(key, flat.shape[0])
        received = jax.vmap(receive, (0, None if key is None else 0))(flat, keys)
        return received.reshape(*distances.shape, -1)

    def ranges(self, received: jax.Array) -> Ranges:
        """Maximum-likelihood ranges and their deviations by the Cramér–Rao bound.

        Args:
            received: (P, A, N) complex.

        Raises:
            ValueError: another shape.
        """
        shape = (self.pulses, len(self.antennas), self.radar.pulse.size)
        if received.shape != shape:
            raise ValueError(f"received: expected shape {shape}, got {received.shape}")
        radar = self.radar

        def one(values):
            samples = FrequencySamples.create(
                values, radar.step, offset=radar.offset, pulse=radar.pulse
            )
            found = estimate_delays(samples, 1, 1)
            return delay_to_range(radar, jnp.stack([found.delays[0], found.standard_error[0]]))

        value, deviation = jnp.moveaxis(jax.vmap(jax.vmap(one))(received), -1, 0)
        # Without noise, rounding is what is left.
        return Ranges(value, jnp.maximum(deviation, 100 * jnp.finfo(value.dtype).eps * value))

    @jax.default_matmul_precision("highest")
    def locate(self, measured: Ranges) -> Located:
        """The state at the first pulse, by weighted least squares through the physics.

        min Σ ((r_pa − |x(t_p; state) − antenna_a|)/σ_pa)² over position and velocity, from
        ``guess`` on; derivatives by the implicit function theorem at the minimum. Antennas in a
        plane leave a mirror image of the ball: the guess decides.
        """
        dtype = measured.value.dtype
        fixed, fixed_ranges = jax.lax.stop_gradient((self, measured))
        guess = jnp.concatenate([self.guess.position, self.guess.velocity]).astype(dtype)
        fit = gauss_newton(lambda s: fixed._residual(fixed._path(s), fixed_ranges))
        found, _ = levenberg_marquardt(fit, guess, iterations=25, damping=1e-3)
        found = jax.lax.stop_gradient(found)
        # About the minimum the path is its Taylor polynomial: no derivative of third order is
        # taken through the physics, and those of first order come out exact.
        bend, (slope, path) = jax.jacfwd(_with_slope(self._path), has_aux=True)(found)
        bend = jax.lax.stop_gradient(bend)

        def residual(state):
            move = state - found
            return self._residual(path + slope @ move + 0.5 * (bend @ move) @ move, measured)

        state = _linalg.implicit(lambda s: jax.vjp(residual, s)[1](residual(s))[0], found)
        rise, (_, left) = _with_slope(residual)(state)
        return Located(self._state(state), _linalg.inv(rise.T @ rise), jnp.sum(left**2))

    @jax.default_matmul_precision("highest")
    def landing(self, ball: Located) -> Landing:
        """Where the ball first touches something, and how well that is known."""
        state = jnp.concatenate([ball.state.position, ball.state.velocity])
        slope, (point, landed) = jax.jacfwd(self._touch, has_aux=True)(state)
        return Landing(point, slope @ ball.covariance @ slope.T, landed)

    def track(self, received: jax.Array) -> tuple[Located, Landing]:
        """The whole chain, from what the antennas received to the landing."""
        ball = self.locate(self.ranges(received))
        return ball, self.landing(ball)

    def _path(self, state: jax.Array) -> jax.Array:
        """Positions at the pulses, (P, 3), in free flight."""
        return simulate(
            replace(self.world, surfaces=()),
            self._state(state),
            duration=(self.pulses - 1) * self.interval,
            step=self.interval,
        ).states.position

    def _residual(self, path: jax.Array, measured: Ranges) -> jax.Array:
        return ((self._distances(path) - measured.value) / measured.deviation).ravel()

    def _distances(self, path: jax.Array) -> jax.Array:
        return jnp.linalg.norm(path[:, None] - self.antennas.astype(path.dtype), axis=-1)

    def _touch(self, state: jax.Array):
        rollout = simulate(
            self.world, self._state(state), duration=self.horizon, step=0.1, max_impacts=1
        )
        landed = rollout.impacts.valid[0]
        place = jnp.where(landed, rollout.impacts.before.position[0], rollout.final.position)
        return place[:2], (place[:2], landed)

    def _state(self, state: jax.Array) -> BallState:
        return BallState(state[:3], state[3:], self.guess.spin.astype(state.dtype))


def _with_slope(f):
    """f as s -> (Jacobian, (Jacobian, value)), at the price of one pass."""

    def both(s):
        slope, value = jax.jacfwd(lambda s: (f(s),) * 2, has_aux=True)(s)
        return slope, (slope, value)

    return both
