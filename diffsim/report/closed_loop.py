"""Runs in a step-wise task as a person sees them: one, or several gradients side by side."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from diffsim import envs
from diffsim._files import read_json, replacing
from diffsim.envs import EnvState
from diffsim.envs.paddle import PaddleEnv
from diffsim.report import pages
from diffsim.report.film import Motion, placed
from diffsim.report.plots import learning_curves
from diffsim.report.track import Track
from diffsim.training import sensitivity
from diffsim.training.checkpoint import Checkpoints
from diffsim.training.closed_loop import LoopSettings
from diffsim.training.episodes import Episodes
from diffsim.training.evaluate import Measure, as_measures
from diffsim.training.folder import ready
from diffsim.training.loop import Trainer, train
from diffsim.training.metrics import MetricsWriter, read
from diffsim.training.processes import first

FRESH = 2_000_003  # seed of the starts used to evaluate, never those of training


def run(settings: LoopSettings, console: Console | None = None) -> None:
    """Train, telling how it goes, and measure the policy on 1,000 fresh starts.

    Of several processes the first one prints and measures.
    """
    with ready(settings):
        pass  # what cannot be is told before it costs anything
    console = console or Console()
    trainer = Trainer(settings.player(), settings)
    _train(trainer, console)
    if first():
        measures = _fresh(trainer)
        console.print(_table(settings.env, {settings.gradient: measures}))
        console.print(f"wrote {_page(trainer, measures)}")


def _page(trainer: Trainer, measures: dict[str, Measure], count: int = 3) -> Path:
    settings, env = trainer.settings, cast(PaddleEnv, trainer.player.env)
    keys = jax.random.split(jax.random.key(FRESH + 1), count)
    played = [episode(env, trainer.policy(), key) for key in keys]
    told = [
        (name.replace("_", " "), f"{m.value:.3g} [{m.low:.3g}, {m.high:.3g}]")
        for name, m in measures.items()
    ]
    history = read(settings.out / "metrics.csv")
    page = settings.out / "report.html"
    return pages.closed_loop(page, env.world, played, history, told, settings)


def episode(
    env: PaddleEnv, act: Callable[[jax.Array], jax.Array], key: jax.Array
) -> tuple[Track, Motion]:
    """The ball and the paddles of one episode, to its end by the rules or by its limit."""

    def step(state: EnvState, _):
        action = act(state.obs)
        rollout, servos = env.flight(state, action)
        poses = [servo(jnp.zeros((), state.place.dtype)) for servo in servos]
        return env.step(state, action), (rollout, poses, state.done)

    def play(start: EnvState):
        return jax.lax.scan(step, start, length=env.limit)[1]

    rollouts, poses, done = jax.device_get(jax.jit(play)(env.reset(key)))
    steps = int((~done).sum())
    pieces = [Track.of(jax.tree.map(lambda leaf, i=i: leaf[i], rollouts)) for i in range(steps)]
    paddles = [placed(pose.position, pose.rotation)[:steps] for pose in poses]
    return Track.joined(pieces, env.period), Motion(env.period * np.arange(steps), paddles)


def compare(
    env: str = "paddle-juggle",
    gradients: tuple[str, ...] = ("pathwise", "shac", "score-function", "ppo"),
    seeds: int = 3,
    steps: int = 300,
    ppo_steps: int = 1_000_000,
    out: Path = Path("runs/compare-loop"),
) -> None:
    """Return against control steps and seconds, each gradient with several seeds.

    Runs already finished in the folder are not repeated.

    Args:
        env: the task.
        gradients: of our trainer, and "ppo" for brax's.
        seeds: runs of each; the curves are their median and range.
        steps: updates of our trainer.
        ppo_steps: control steps of PPO.
        out: folder for the runs, steps.png and seconds.png.
    """
    console = Console()
    curves: dict[str, list] = {}
    last: dict[str, dict[str, Measure]] = {}
    for name in gradients:
        for seed in range(seeds):
            folder = out / f"{name}-{seed}"
            file = folder / "measures.json"
            if not file.exists():
                console.print(f"{name}, seed {seed}")
                if name == "ppo":
                    measures = _ppo(env, ppo_steps, seed, folder)
                else:
                    settings = LoopSettings(
                        env=env, gradient=name, steps=steps, seed=seed, out=folder,
                        checkpoint_every=steps,
                        resume=bool(Checkpoints(folder / "checkpoints").steps()),
                    )  # fmt: skip
                    # Anew for each seed, so that every run's seconds count its compilation.
                    trainer = Trainer(settings.player(), settings)
                    _train(trainer, console)
                    measures = _fresh(trainer)
                with replacing(file) as temporary:
                    temporary.write_text(json.dumps(measures))
            last[f"{name}, seed {seed}"] = as_measures(read_json(file), file)
            rows = read(folder / "metrics.csv")
            curves.setdefault(name, []).append({key: [r[key] for r in rows] for key in rows[0]})
    console.print(_table(env, last))
    for x, picture in (("control_steps", "steps.png"), ("seconds", "seconds.png")):
        console.print(f"wrote {learning_curves(curves, path=out / picture, x=x)}")


def growth(folder: Path, steps: int = 200, starts: int = 32, seed: int = 0) -> float:
    """How fast d(ball at t)/d(ball at 0) grows along the episodes of a trained policy.

    Args:
        folder: of a run of train_closed_loop.py.
        steps: control steps to follow.
        starts: episodes.
        seed: of the starts.

    Returns:
        The rate, 1/s; see :func:`diffsim.training.sensitivity.growth`.
    """
    trainer = Trainer.restored(folder, LoopSettings)
    env: Any = trainer.player.env
    begin = jax.vmap(env.reset)(jax.random.split(jax.random.key(seed), starts))
    norms, rate = sensitivity.growth(
        env, trainer.player.act, trainer.state.params["network"], begin, steps
    )
    for step in range(steps // 8, steps + 1, steps // 8):
        middle = np.nanmedian(norms[:, step - 1])
        print(f"{step * env.period:5.2f} s  median size of the Jacobian {middle:10.3g}")
    print(f"growth rate {rate:.2f} per second")
    return rate


def _train(trainer: Trainer, console: Console) -> None:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as bar:
        job = bar.add_task("compiling …", total=trainer.settings.steps)

        def progress(row):
            bar.update(job, completed=row["step"])
            if "return" in row:
                bar.update(job, description="training")
                bar.console.print(
                    f"update {row['step']:5.0f}  {row['seconds']:6.1f} s  "
                    f"return {row['return']:7.2f}  up {row['seconds_up']:5.2f} s  "
                    f"to the end {100 * row['survival_rate']:5.1f} %"
                )

        train(trainer, progress=progress)


def _fresh(trainer: Trainer) -> dict[str, Measure]:
    return trainer.evaluate(jax.random.key(FRESH))


def _ppo(name: str, budget: int, seed: int, folder: Path) -> dict[str, Measure]:
    """brax's PPO; its seconds are those of training, without evaluation, as are ours."""
    from diffsim.envs import brax_adapter

    env = envs.make(name)
    with MetricsWriter(folder) as metrics:

        def progress(step: int, row: dict) -> None:
            metrics.write({
                "step": step, "control_steps": step,
                "seconds": float(row.get("training/walltime", 0.0)),
                "return": float(row["eval/episode_reward"]),
                "seconds_up": env.period * float(row["eval/avg_episode_length"]),
            })  # fmt: skip

        policy = brax_adapter.train(
            env, "ppo", budget, seed=seed, evaluations=11, progress=progress
        )
    return Episodes(env, lambda _, obs: policy(obs)).evaluate(None, jax.random.key(FRESH))


def _table(name: str, measures: dict[str, dict[str, Measure]]) -> Table:
    table = Table("", "to the end", "seconds", "return", title=f"{name}: 1,000 fresh starts, 95 %")
    for label, row in measures.items():
        rate = [f"{100 * x:.1f}" for x in row["survival_rate"]]
        numbers = [
            f"{row[key].value:.2f} [{row[key].low:.2f}, {row[key].high:.2f}]"
            for key in ("seconds", "return")
        ]
        table.add_row(label, f"{rate[0]} % [{rate[1]}, {rate[2]}]", *numbers)
    return table
