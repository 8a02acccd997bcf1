"""A training run as a person sees it: a progress bar, a table before and after, and pictures."""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from diffsim.report import pages, progress
from diffsim.report.plots import learning_curves, rallies
from diffsim.report.replay import animate
from diffsim.report.stage import QUICK
from diffsim.tasks import HitToTarget
from diffsim.training import Settings, Traced, Trainer, train
from diffsim.training.evaluate import FRESH, rows, summary
from diffsim.training.floor import rows as told_floor
from diffsim.training.floor import spin_floor
from diffsim.training.folder import ready
from diffsim.training.metrics import read
from diffsim.training.processes import first

SUFFIXES = (".png", ".pdf")  # of every figure: for screens and for papers
FPS, FRAMES = 15, 108  # of the animation of two rallies
RALLIES = 8  # on the page; four of them are in the picture, two in the animation


def run(settings: Settings, console: Console | None = None) -> dict[str, Any] | None:
    """Train, print the measures before and after on fresh serves, and draw the pictures.

    Of several processes the first one prints and draws.

    Returns:
        the measures before and after, each with the ends of its interval; None of the others.
    """
    with ready(settings):
        pass  # what cannot be is told before it costs anything
    console = console or Console(quiet=not first())
    trainer = Trainer(settings.player(), settings)
    with closing(trainer.player), progress.beside() as submit:
        return _run(settings, trainer, console, submit)


def _run(
    settings: Settings, trainer: Trainer, console: Console, beside: Callable[..., Future]
) -> dict[str, Any] | None:
    player, serves = trainer.player, jax.random.key(settings.seed + FRESH)
    task: Any = player.task
    traced, drawn = isinstance(player, Traced), first() and isinstance(task, HitToTarget)
    # Compiling takes one core: what trains is compiled beside what measures, the rest while it
    # trains.
    compiled = beside(trainer.compile) if traced else None
    playing = beside(_playing, task) if drawn else None
    floored = first() and traced and settings.floor and settings.objective == "target"
    floor = beside(spin_floor, player, serves=settings.floor) if floored else None
    with progress.counting("training", settings.steps, console) as tell:
        console.print("measuring 1,000 fresh serves before training …")
        before = summary(player.play(trainer.policy(), serves)) if first() else {}
        if compiled:
            if first():  # alone it measures
                trainer.measure()
            compiled.result()

        def told(row):
            word = None
            if "loss" in row:
                word = f"loss {row['loss']:.3f}  hits {100 * row['hit_rate']:.0f} %"
                if np.isfinite(row["landing_error_cm"]):
                    word += f"  {row['landing_error_cm']:.1f} cm off"
            tell(row["step"], word)

        train(trainer, progress=told)
    if not first():
        return None
    played = player.play(trainer.policy(), serves)
    best = beside(floor.result(), trainer.policy(), serves) if floor else None
    history = read(settings.out / "metrics.csv")
    play = playing.result() if playing else None
    done, replay = pictures(settings, trainer, history, played, play)
    after = summary(played)
    pairs = zip(rows(before), rows(after), strict=True)
    measures = [(name, old, new) for (name, old), (_, new) in pairs]
    measures += [(name, "", text) for name, text in told_floor(best.result())] if best else []
    table = Table("", "before", "after", title="1,000 fresh serves, 95 % intervals")
    for row in measures:
        table.add_row(*row)
    console.print(table)
    page = pages.training(settings.out / "report.html", settings, history, measures, replay)
    for file in (*done, page, settings.out / "checkpoints"):
        console.print(f"wrote {file}")
    return {"before": before, "after": after}


def _playing(task: HitToTarget) -> Callable:
    """Rollouts and paths of answers and starts, ``RALLIES`` of each, compiled."""

    def play(weights, starts):
        return jax.vmap(task.play)(weights, starts), jax.vmap(task.generator)(weights)

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), RALLIES))
    weights = jax.ShapeDtypeStruct((RALLIES, task.weight_count), jnp.result_type(float))
    starts = jax.eval_shape(jax.vmap(task.sample), keys)
    return jax.jit(play).lower(weights, starts).compile(QUICK)


def pictures(
    settings: Settings,
    trainer: Trainer,
    history: list[dict[str, float]],
    outcome: dict[str, np.ndarray],
    play: Callable | None,
) -> tuple[list[Path], Any]:
    """Draw learning curves, some rallies and an animation, in the run's folder.

    Args:
        history: rows of metrics.
        outcome: of the serves after training, see :meth:`diffsim.training.Traced.play`.
        play: rallies, where they can be drawn: see :func:`_playing`.

    Returns:
        the files, and the rallies for :func:`diffsim.report.pages.training`, if there are any.
    """
    task: Any = trainer.player.task
    policy = trainer.policy()
    curves = {name: [row[name] for row in history] for name in history[0]}
    out = settings.out
    done = [
        learning_curves({settings.gradient: curves}, path=out / f"learning{suffix}")
        for suffix in SUFFIXES
    ]
    if play is None:  # its rallies are not the event-driven world's to draw
        return done, None

    @partial(jax.jit, compiler_options=QUICK)
    def serve(keys):
        starts = jax.vmap(task.sample)(keys)
        weights = jax.vmap(lambda start: policy(task.observe(start)))(starts)
        return weights, starts, jax.vmap(lambda start: task.of(start).target)(starts)

    keys = jax.random.split(jax.random.key(settings.seed + FRESH + 1), RALLIES)
    weights, starts, aims = serve(keys)
    found = jax.device_get((aims, *play(weights, starts)))
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in range(RALLIES)]
    aims, played, paths = map(list, zip(*each))
    places = [[*aim, task.world.surfaces[0].center[2]] for aim in aims]
    target = np.unique(np.array(places, float), axis=0)
    for suffix in SUFFIXES:
        picture = out / f"rallies{suffix}"
        done.append(rallies(task.world, played[:4], paths[:4], path=picture, targets=target))
    film = out / "rallies.gif"
    slow = min(2.0, FRAMES / (FPS * 2 * task.duration))
    done.append(
        animate(task.world, played[:2], paths[:2], path=film, targets=target, fps=FPS, slow=slow)
    )
    landings = (outcome["landing"], outcome["legal"])
    return done, pages.rallies(task.world, played, paths, targets=target, landings=landings)
