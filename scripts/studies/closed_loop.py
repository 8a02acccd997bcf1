"""Gradients of a closed loop side by side, with several seeds, brax's PPO among them."""

from pathlib import Path

import jax
from rich.console import Console

from diffsim import envs
from diffsim._files import read_json
from diffsim._intervals import Interval
from diffsim.report import closed_loop as report
from diffsim.report.plots import learning_curves
from diffsim.training.checkpoint import Checkpoints
from diffsim.training.closed_loop import LoopSettings
from diffsim.training.episodes import Episodes
from diffsim.training.evaluate import as_measures
from diffsim.training.loop import Trainer
from diffsim.training.metrics import MetricsWriter, read
from studies import harness


def compare(
    env: str = "paddle-juggle",
    gradients: tuple[str, ...] = ("pathwise", "shac", "score-function", "ppo"),
    seeds: int = 3,
    steps: int = 300,
    ppo_steps: int = 1_000_000,
    out: Path = Path("runs/compare-loop"),
) -> harness.Found:
    """Return against control steps and seconds, each gradient with several seeds.

    Runs already finished in the folder are not repeated.

    Args:
        env: the task.
        gradients: gradients of our trainer, and "ppo" for brax's.
        seeds: runs of each; the curves are their median and range.
        steps: updates of our trainer.
        ppo_steps: control steps of PPO.
        out: folder for the runs, steps.png and seconds.png.
    """
    console = Console()
    curves: dict[str, list] = {}
    last: dict[str, dict[str, Interval]] = {}
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
                    report.trained(trainer, console, ahead=False)
                    measures = report.fresh(trainer)
                harness.save(file, measures)
            last[f"{name}, seed {seed}"] = as_measures(read_json(file), file)
            rows = read(folder / "metrics.csv")
            curves.setdefault(name, []).append({key: [r[key] for r in rows] for key in rows[0]})
    console.print(report.measures_table(env, last))
    for x, picture in (("control_steps", "steps.png"), ("seconds", "seconds.png")):
        console.print(f"wrote {learning_curves(curves, path=out / picture, x=x)}")
    return {env: [{"run": name} | measures for name, measures in last.items()]}


def _ppo(name: str, budget: int, seed: int, folder: Path) -> dict[str, Interval]:
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
    return Episodes(env, lambda _, obs: policy(obs)).evaluate(None, jax.random.key(report.FRESH))
