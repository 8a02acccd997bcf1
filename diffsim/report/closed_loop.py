"""A run in a step-wise task as a person sees it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from diffsim._intervals import Interval
from diffsim.envs import EnvState
from diffsim.envs.paddle import PaddleEnv
from diffsim.report import pages, progress
from diffsim.report.film import Motion, placed
from diffsim.report.stage import QUICK
from diffsim.report.track import Track
from diffsim.training.closed_loop import LoopSettings
from diffsim.training.evaluate import rows
from diffsim.training.folder import ready
from diffsim.training.loop import Trainer, train
from diffsim.training.metrics import read
from diffsim.training.processes import first

FRESH = 2_000_003  # seed of the starts used to evaluate, never those of training


def run(settings: LoopSettings, console: Console | None = None) -> dict[str, Interval] | None:
    """Train, telling how it goes, and measure the policy on 1,000 fresh starts.

    Of several processes the first one prints and measures.
    """
    with ready(settings):
        pass  # what cannot be is told before it costs anything
    console = console or Console()
    trainer = Trainer(settings.player(), settings)
    trained(trainer, console)
    if not first():
        return None
    measures = fresh(trainer)
    console.print(measures_table(settings.env, {settings.gradient: measures}))
    console.print(f"wrote {_page(trainer, measures)}")
    return measures


def _page(trainer: Trainer, measures: dict[str, Interval], count: int = 3) -> Path:
    settings, env = trainer.settings, cast(PaddleEnv, trainer.player.env)
    keys = jax.random.split(jax.random.key(FRESH + 1), count)
    played = episodes(env, trainer.policy(), keys)
    history = read(settings.out / "metrics.csv")
    page = settings.out / "report.html"
    return pages.closed_loop(page, env.world, played, history, rows(measures), settings)


def episodes(
    env: PaddleEnv, act: Callable[[jax.Array], jax.Array], keys: jax.Array
) -> list[tuple[Track, Motion]]:
    """The ball and the paddles of an episode a key, to its end by the rules or by its limit."""

    def step(state: EnvState, _):
        action = act(state.obs)
        rollout, servos = env.flight(state, action)
        poses = [servo(jnp.zeros((), state.place.dtype)) for servo in servos]
        return env.step(state, action), (rollout, poses, state.done)

    @partial(jax.jit, compiler_options=QUICK)
    def play(keys):
        return jax.vmap(lambda key: jax.lax.scan(step, env.reset(key), length=env.limit)[1])(keys)

    def drawn(rollouts, poses, done):
        steps = int((~done).sum())
        pieces = [Track.of(jax.tree.map(lambda leaf, i=i: leaf[i], rollouts)) for i in range(steps)]
        paddles = [placed(pose.position, pose.rotation)[:steps] for pose in poses]
        return Track.joined(pieces, env.period), Motion(env.period * np.arange(steps), paddles)

    found = jax.device_get(play(keys))
    return [drawn(*jax.tree.map(lambda leaf, i=i: leaf[i], found)) for i in range(len(keys))]


def trained(trainer: Trainer, console: Console, *, ahead: bool = True) -> None:
    """Train, telling how it goes.

    Args:
        ahead: compile what trains and what measures side by side before; else within the first
            update, whose seconds it then is.
    """
    counting = progress.counting("training", trainer.settings.steps, console)
    with counting as tell, progress.beside() as submit:
        if ahead:
            compiled = submit(trainer.compile)
            if first():
                trainer.measure()
            compiled.result()

        def told(row):
            if "return" in row:
                console.print(
                    f"update {row['step']:5.0f}  {row['seconds']:6.1f} s  "
                    f"return {row['return']:7.2f}  up {row['seconds_up']:5.2f} s  "
                    f"to the end {100 * row['survival_rate']:5.1f} %"
                )
            else:
                tell(row["step"])

        train(trainer, progress=told)


def fresh(trainer: Trainer) -> dict[str, Interval]:
    """Measures of the policy on 1,000 fresh starts."""
    return trainer.evaluate(jax.random.key(FRESH))


def measures_table(name: str, measures: dict[str, dict[str, Interval]]) -> Table:
    """Measures of several runs, one a row."""
    made = Table(
        "", "to the end", "time up, s", "return", title=f"{name}: 1,000 fresh starts, 95 %"
    )
    for label, row in measures.items():
        numbers = [
            f"{row[key].value:.2f} [{row[key].low:.2f}, {row[key].high:.2f}]"
            for key in ("seconds", "return")
        ]
        made.add_row(label, dict(rows(row))["lasted to the end"], *numbers)
    return made
