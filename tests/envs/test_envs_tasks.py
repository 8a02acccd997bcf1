"""The step-wise tasks: contract, physics, gradients through impacts and resets, rules, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsim import envs
from diffsim.envs.court import edge_cost, events, reach_cost
from diffsim.envs.servo import Servo
from diffsim.physics import BallState, World, paddle, simulate
from diffsim.physics.simulate import Impacts, Rollout

NAMES = list(envs.ENVS)


def cast(env, dtype):
    def leaf(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(leaf, env)


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_types(name, dtype):
    env = cast(envs.make(name), dtype)
    state = env.reset(jax.random.key(0))
    after = jax.eval_shape(env.step, state, jnp.zeros(len(env.actions), dtype))
    assert kinds(state) == kinds(after)
    assert state.obs.shape == (len(env.observations),)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.ball, state.obs, state.reward))} == {
        jnp.dtype(dtype)
    }
    assert set(state.metrics) == set(env.measured)


@pytest.mark.parametrize("name", NAMES)
def test_episodes_are_finite_end_and_stay_ended(name):
    env, traces = envs.make(name), []

    def play(state, actions):
        traces.append(1)

        def step(state, action):
            state = env.step(state, action)
            return state, state

        return jax.lax.scan(step, state, actions)[1]

    play = jax.jit(play)
    keys = jax.random.split(jax.random.key(7), 3)
    for key in keys:
        actions = jax.random.uniform(key, (40, len(env.actions)), minval=-1.5, maxval=1.5)
        states = play(env.reset(key), actions)
        for leaf in jax.tree.leaves(states):
            assert np.isfinite(leaf).all()
        done = np.asarray(states.done)
        assert done[-1], "nobody plays well at random"
        end = int(done.argmax())
        assert done[end:].all()
        assert (np.asarray(states.reward)[end + 1 :] == 0).all()
        for leaf in jax.tree.leaves(states.replace(reward=states.done)):
            np.testing.assert_array_equal(leaf[end:], np.broadcast_to(leaf[end], leaf[end:].shape))
        assert int(states.steps[-1]) == end + 1
    assert len(traces) == 1


@pytest.mark.parametrize("name", NAMES)
def test_starts_are_fresh_and_repeatable(name):
    env = envs.make(name)
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(3), 64))
    again = env.reset(jax.random.split(jax.random.key(3), 64)[5])
    np.testing.assert_allclose(starts.obs[5], again.obs, rtol=1e-12)
    assert len(np.unique(starts.ball.position[:, 0])) == 64
    assert np.abs(starts.obs).max() < 10


@pytest.mark.parametrize("name", NAMES)
def test_observation_table_tells_what_is_seen(name):
    env = envs.make(name)
    state = env.reset(jax.random.key(1))
    scale, offset = (np.array([c[i] for c in env.observations]) for i in (2, 3))
    seen = offset + scale * np.asarray(state.obs)
    np.testing.assert_allclose(seen[:3], state.ball.position, atol=1e-12)
    np.testing.assert_allclose(seen[3:6], state.ball.velocity, atol=1e-12)
    np.testing.assert_allclose(seen[6:9], state.ball.spin, atol=1e-12)
    count = len(env.actions)
    np.testing.assert_allclose(seen[9 : 9 + count], state.place.ravel()[:count], atol=1e-12)
    names = [c.name for c in env.observations]
    assert len(set(names)) == len(names)
    assert envs.channel_table(env.observations).count("m/s") == 3 + count * 3 // 5


def test_servo_solves_its_equation_and_turns_as_it_says():
    keys = jax.random.split(jax.random.key(0), 3)
    place, rate, target = (jax.random.normal(key, (5,)) for key in keys)
    servo = Servo(place, rate, target, jnp.asarray(15.0), jnp.eye(3)[:, jnp.array([1, 2, 0])])
    time = jnp.asarray(0.07)
    (x, v), (dx, a) = jax.jvp(servo.at, (time,), (jnp.ones(()),))
    np.testing.assert_allclose(v, dx, rtol=1e-12)
    np.testing.assert_allclose(a, 15.0**2 * (target - x) - 2 * 15.0 * v, rtol=1e-10)
    np.testing.assert_allclose(servo.at(jnp.zeros(()))[0], place, rtol=1e-12)
    np.testing.assert_allclose(servo.at(jnp.zeros(()))[1], rate, rtol=1e-12)
    pose, moved = jax.jvp(servo, (time,), (jnp.ones(()),))
    np.testing.assert_allclose(pose.rotation.T @ pose.rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(moved.position, pose.velocity, rtol=1e-12)
    spin = np.cross(pose.angular_velocity, np.eye(3)).T  # [Ω]×
    np.testing.assert_allclose(moved.rotation, spin @ pose.rotation, atol=1e-12)


def test_steps_are_pieces_of_one_simulation():
    """Under one target the servo's path and the flight do not know of control steps."""
    env = envs.make("paddle-juggle")
    start = env.reset(jax.random.key(2))
    start = start.replace(ball=start.ball.replace(velocity=jnp.array([0.1, 0.05, 0.0])))
    action = jnp.array([0.1, 0.05, 0.3, 0.02, -0.03])

    def play(state):
        return jax.lax.scan(lambda s, _: (env.step(s, action), s.metrics), state, length=13)

    final, metrics = jax.jit(play)(start)
    target = env.home[0] + env.reach * action
    servo = Servo(start.place[0], start.rate[0], target, env.omega, env.orientation[0])
    whole = simulate(env.world, start.ball, servo, duration=13 * env.period, step=env.period)
    assert whole.impacts.valid.sum() == 1
    assert final.metrics["strokes"] + metrics["strokes"].sum() == 1
    for ours, theirs in zip(jax.tree.leaves(final.ball), jax.tree.leaves(whole.final)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(jnp.float32, 2e-3), pytest.param(jnp.float64, 1e-6, marks=pytest.mark.slow)],
    ids=["f32", "f64"],
)
def test_gradient_through_impacts_and_resets(dtype, tolerance):
    """Reverse = forward = differences; none and no NaN crosses from one episode to the next."""
    env = envs.make("paddle-juggle", limit=3)
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 6))

    def rewards(env, x, starts):
        """Of six steps, in the actions (30 numbers) and the first ball (9)."""

        def step(state, drawn):
            action, fresh = drawn
            state, ended = envs.restart(env, env.step(state, action), fresh)
            return state, (state.reward, ended, state.metrics["strokes"])

        state = jax.tree.map(lambda leaf: leaf[0], starts)
        moved = [part + row for part, row in zip(jax.tree.leaves(state.ball), x[30:].reshape(3, 3))]
        state = state.replace(ball=BallState(*moved))
        rows, *rest = jax.lax.scan(step, state, (x[:30].reshape(6, 5), starts))[1]
        return rows, rest

    # An episode with an impact, cut by the limit; then a ball carried, so lost at once; then one
    # at its apex, from where the search for an impact would look far into the paddle's past.
    balls = {
        0: ([0.02, -0.01, 1.05], [0.2, -0.1, -2.5], [3.0, -4.0, 5.0]),
        2: ([0.0, 0.0, 1.0201], [0.0, 0.0, -0.01]),
        3: ([0.01, 0.02, 1.4], [0.1, 0.1, 0.4]),
    }
    ball = starts.ball
    for row, parts in balls.items():
        ball = jax.tree.map(
            lambda all_, one, r=row: all_.at[r].set(one), ball, BallState.create(*parts)
        )
    starts = starts.replace(ball=ball)
    actions = jnp.tile(jnp.array([0.1, -0.2, 0.3, 0.05, -0.1]), (6, 1)).at[3].set(0.0)
    x = jnp.concatenate([actions.ravel(), jnp.zeros(9)])

    env_, x_, starts_ = (cast(tree, dtype) for tree in (env, x, starts))

    def part(x, weights):
        rows, rest = rewards(env_, x, starts_)
        return rows @ weights, rest

    reverse = jax.jit(jax.grad(part, has_aux=True))
    slopes = np.stack([reverse(x_, way)[0] for way in jnp.eye(6, dtype=dtype)])
    ended, strokes = reverse(x_, jnp.ones(6, dtype))[1]
    assert ended.tolist() == [False, False, True, True, False, False]
    assert strokes[0] == 1
    assert np.isfinite(slopes).all()

    size = np.abs(slopes[:, :30].reshape(6, 6, 5)).max(axis=-1)
    episode = np.concatenate([[0], np.cumsum(ended)[:-1]])
    assert (size[episode[:, None] != episode[None, :]] == 0).all()
    assert (np.diag(size)[np.array([0, 1, 2, 4, 5])] > 0).all()
    assert np.abs(slopes[:3, 30:]).max() > 1e-3
    assert (slopes[3:, 30:] == 0).all()

    run, h = jax.jit(lambda x: rewards(env, x, starts)[0]), 1e-6
    forward = jax.jit(lambda x, way: jax.jvp(run, (x,), (way,))[1])
    for way in jax.random.normal(jax.random.key(3), (3, x.size)):
        difference = (run(x + h * way) - run(x - h * way)) / (2 * h)
        slope = slopes @ np.asarray(way)
        np.testing.assert_allclose(slope, difference, rtol=tolerance, atol=tolerance)
        if dtype == jnp.float64:
            np.testing.assert_allclose(slope, forward(x, way), rtol=1e-9, atol=1e-10)


def rows(env, surfaces, xs):
    """A rollout in which the ball met these surfaces at these x, moving slowly."""
    pad = [-1] * (env.impacts - len(surfaces))
    places = jnp.array([[x, 0.0, 0.8] for x in [*xs, *(0.0 for _ in pad)]])
    ball = BallState(places, jnp.ones_like(places), jnp.zeros_like(places))
    valid = jnp.array([True] * len(surfaces) + [False] * len(pad))
    impacts = Impacts(jnp.zeros(env.impacts), jnp.array(surfaces + pad), ball, ball, valid)
    final = BallState.create([xs[-1] if xs else 0.0, 0.0, 0.8])
    return Rollout(jnp.zeros(2), None, impacts, final, jnp.asarray(0))


# Surfaces met (0 table, 1 net, 2 and 3 the paddles), at which x; whose turn, whether bounced.
RALLY = {
    "bounce": ([0], [-1.0], (False, False), (False, True, False)),
    "bounce and stroke in one step": ([0, 2], [-1.4, -1.5], (False, False), (True, False, False)),
    "stroke": ([2], [-1.5], (False, True), (True, False, False)),
    "stroke of the second": ([3], [1.5], (True, True), (False, False, False)),
    "net": ([1], [0.0], (True, False), (True, False, False)),
    "double bounce": ([0], [-1.2], (False, True), (False, True, True)),
    "the striker's own half": ([0], [-1.0], (True, False), (True, False, True)),
    "volley": ([2], [-1.5], (False, False), (False, False, True)),
    "the wrong paddle": ([3], [1.5], (False, True), (False, True, True)),
}


@pytest.mark.parametrize("case", RALLY)
def test_rules_of_the_rally(case):
    surfaces, xs, (second, bounced), expected = RALLY[case]
    env = envs.make("rally")
    memory = {"second": jnp.asarray(second), "bounced": jnp.asarray(bounced)}
    before = env.reset(jax.random.key(0)).replace(memory=memory)
    rollout = rows(env, surfaces, xs)
    after = before.replace(ball=rollout.final)
    memory, reward, done, metrics = env.judge(before, after, rollout)
    assert (bool(memory["second"]), bool(memory["bounced"]), bool(done)) == expected
    assert int(metrics["strokes"]) == ("stroke" in case)
    assert int(metrics["bounces"]) == case.startswith("bounce")
    assert np.isfinite(reward)
    if case == "bounce":  # on at 1 m/s
        cost = 0.3 * reach_cost(after.ball, after.place[0], env.home[0])
        np.testing.assert_allclose(reward, 1 / 3 - cost)
    assert len(list(events(rollout))) == 2


def test_the_second_paddle_plays_the_game_of_the_first_turned_by_half_a_turn():
    """Seen from the end of the paddle in turn, the same actions lead to the same, and a stroke."""
    env, alone = envs.make("rally"), envs.make("hit-to-target")
    assert (env.observations, env.actions) == (alone.observations, alone.actions)
    half = jnp.array([-1.0, -1.0, 1.0, 1.0, 1.0])
    first = env.reset(jax.random.key(0)).replace(
        ball=BallState.create([-1.45, 0.1, 1.0], [-4.0, 0.3, 0.5], [5.0, 20.0, -9.0]),
        place=env.home.at[0].add(jnp.array([0.1, 0.05, 0.0, 0.1, -0.2])),
        memory={"second": jnp.asarray(False), "bounced": jnp.asarray(True)},
    )
    second = first.replace(
        ball=jax.tree.map(lambda vector: vector * half[:3], first.ball),
        place=first.place[::-1] * half,
        memory=first.memory | {"second": jnp.asarray(True)},
    )
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    action = jnp.tile(jnp.array([0.3, 0.1, 0.05, 0.2, -0.1]), (2, 1))

    def play(state):
        return jax.lax.scan(lambda s, _: (jax.vmap(env.step)(s, action),) * 2, state, length=6)[1]

    seen = jax.jit(play)(both)
    assert seen.metrics["strokes"].sum(axis=0).tolist() == [1, 1]
    for leaf in (seen.obs, seen.reward, seen.done):
        np.testing.assert_allclose(leaf[:, 0], leaf[:, 1], rtol=1e-9, atol=1e-9)
    turned = seen.ball.position[:, 1] * half[:3]
    np.testing.assert_allclose(seen.ball.position[:, 0], turned, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("surfaces", "xs", "struck", "expected"),
    [
        ([0], [-0.8], False, (False, 0, 0)),
        ([0, 2], [-1.4, -1.5], False, (False, 1, 0)),
        ([0], [0.9], True, (True, 0, 1)),
        ([0], [-0.9], True, (True, 0, 0)),
        ([2, 0], [-1.5, 0.9], False, (True, 1, 1)),
    ],
    ids=["bounce", "stroke", "landing", "own half", "both in one step"],
)
def test_rules_of_hitting_to_a_target(surfaces, xs, struck, expected):
    env = envs.make("hit-to-target")
    memory = {"target": jnp.array([0.8, 0.3]), "struck": jnp.asarray(struck)}
    before = env.reset(jax.random.key(0)).replace(memory=memory)
    rollout = rows(env, surfaces, xs)
    _, reward, done, metrics = env.judge(before, before.replace(ball=rollout.final), rollout)
    assert (bool(done), int(metrics["strokes"]), int(metrics["landed"])) == expected
    if metrics["landed"]:
        error = np.hypot(0.1, 0.3)
        np.testing.assert_allclose(metrics["landing_error"], error)
        if not metrics["strokes"]:
            np.testing.assert_allclose(reward, 2 / (1 + (error / 0.3) ** 2))


@pytest.mark.parametrize("off", [0.0, 0.03, 0.05, 0.08])
def test_a_ball_met_outside_half_the_radius_costs(off):
    """A paddle that moves on evenly meets a ball of radius 2 cm off its middle."""
    env, rate = envs.make("hit-to-target"), jnp.array([3.0, -2.0, 1.0])
    begin, time = jnp.array([-1.5, 0.1, 1.0]), 0.7 * env.period
    ends = begin, rate, begin + env.period * rate, rate

    def cost(x):
        return edge_cost(BallState.create(x), time, env.period, ends, env.world)

    radius, disk = float(env.world.ball.radius), float(env.world.surfaces[2].disk_radius)
    at = begin + time * rate + jnp.array([radius, 0.0, off])
    far = np.hypot(radius, off)
    expected = max((far - radius) / disk - 0.5, 0)
    np.testing.assert_allclose(cost(at), expected, atol=1e-12)
    slope = np.array([radius, 0, off]) / far / disk * (expected > 0)
    np.testing.assert_allclose(jax.grad(cost)(at), slope, atol=1e-9)


def test_a_ball_that_is_carried_is_not_juggled():
    env = envs.make("paddle-juggle")
    before = env.reset(jax.random.key(0))
    for rise, lost in ((0.1, True), (3.0, False)):
        rollout = rows(env, [0], [0.0])
        after = rollout.impacts.after.replace(velocity=jnp.array([[0.0, 0.0, rise]]))
        rollout = rollout.replace(impacts=rollout.impacts.replace(after=after))
        ball = BallState.create([0.0, 0.0, 1.1], [0.0, 0.0, rise])
        _, reward, done, _ = env.judge(before, before.replace(ball=ball), rollout)
        assert bool(done) == lost
        assert (reward == 0) == lost


def test_refusals_are_clear():
    with pytest.raises(ValueError, match="name: expected one of paddle-juggle"):
        envs.make("squash")
    with pytest.raises(ValueError, match="expected 1 driven surfaces"):
        envs.make("paddle-juggle", world=World.create())
    with pytest.raises(ValueError, match="expected table, net and 2 driven surfaces"):
        envs.make("rally", world=World.create([paddle()]))
    with pytest.raises(ValueError, match="limit: expected positive numbers"):
        envs.make("paddle-juggle", limit=0)
    env = envs.make("paddle-juggle")
    with pytest.raises(ValueError, match=r"action: expected shape \(5,\), got \(4,\)"):
        env.step(env.reset(jax.random.key(0)), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"action: expected finite numbers, got \[0.0, nan"):
        env.step(env.reset(jax.random.key(0)), jnp.zeros(5).at[1].set(jnp.nan))


def test_an_action_that_is_no_number_ends_the_episode_and_shows():
    env = envs.make("paddle-juggle")
    state = env.reset(jax.random.key(0))
    action = jnp.zeros(len(env.actions)).at[1].set(jnp.nan)
    after = jax.jit(env.step)(state, action)
    assert after.done
    assert np.isnan(after.reward)
    fresh, ended = envs.restart(env, after, state)
    assert ended
    assert np.isfinite(fresh.obs).all()
