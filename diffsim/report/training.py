"""A training run as a person sees it: a progress bar, a table before and after, and pictures."""

from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from diffsim.report.plots import learning_curves, rallies
from diffsim.report.replay import animate
from diffsim.training import Settings, Trainer, evaluate, train
from diffsim.training.evaluate import FRESH, rows
from diffsim.training.folder import ready
from diffsim.training.host import is_host
from diffsim.training.metrics import read
from diffsim.training.processes import first


def run(settings: Settings, console: Console | None = None) -> None:
    """Train, print the measures before and after on fresh serves, and draw the pictures.

    Of several processes the first one prints and draws.
    """
    with ready(settings):
        pass  # what cannot be is told before it costs anything
    console = console or Console(quiet=not first())
    task = settings.task()
    trainer = Trainer(task, settings)
    serves = jax.random.key(settings.seed + FRESH)
    console.print("measuring 1,000 fresh serves before training …")
    before = rows(evaluate(task, trainer.policy(), serves)) if first() else []
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        job = bar.add_task("training", total=settings.steps, state="compiling …")

        def progress(row):
            state: dict[str, Any] = {}
            if "loss" in row:
                state["state"] = (
                    f"loss {row['loss']:.3f}  hits {100 * row['hit_rate']:.0f} %  "
                    f"landing error {row['landing_error_cm']:.1f} cm"
                )
            bar.update(job, completed=row["step"], **state)

        train(trainer, progress=progress)
    if not first():
        return
    after = rows(evaluate(task, trainer.policy(), serves))
    table = Table("", "before", "after", title="1,000 fresh serves, 95 % intervals")
    for (name, old), (_, new) in zip(before, after, strict=True):
        table.add_row(name, old, new)
    console.print(table)
    for file in pictures(settings, trainer):
        console.print(f"wrote {file}")


def pictures(settings: Settings, trainer: Trainer, count: int = 4) -> list:
    """Draw the learning curves, some rallies, and an animation of them, in the run's folder."""
    task: Any = trainer.task
    policy = trainer.policy()
    history = read(settings.out / "metrics.csv")
    curves = {name: [row[name] for row in history] for name in history[0]}
    learning = learning_curves({settings.gradient: curves}, path=settings.out / "learning.png")
    if is_host(task):  # its rallies are not the event-driven world's to draw
        return [learning, settings.out / "checkpoints"]
    keys = jax.random.split(jax.random.key(settings.seed + FRESH + 1), count)
    starts = [task.sample(key) for key in keys]
    weights = [policy(task.observe(start)) for start in starts]
    played = [task.play(w, start) for w, start in zip(weights, starts, strict=True)]
    paths = [task.generator(w) for w in weights]
    target = jnp.append(task.target, task.world.surfaces[0].center[2])
    return [
        learning,
        rallies(task.world, played, paths, path=settings.out / "rallies.png", targets=target),
        animate(task.world, played, paths, path=settings.out / "rallies.gif"),
        settings.out / "checkpoints",
    ]
