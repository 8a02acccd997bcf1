"""A training run as a person sees it: a progress bar, a table before and after, and pictures."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from diffsim.training import Settings, Traced, Trainer, floor, train
from diffsim.training.evaluate import FRESH, rows, summary
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
    with closing(trainer.player):
        return _run(settings, trainer, console)


def _run(settings: Settings, trainer: Trainer, console: Console) -> dict[str, Any] | None:
    player, playing = trainer.player, None
    if first() and isinstance(player.task, HitToTarget):
        beside = ThreadPoolExecutor(1)  # compiling takes longer than drawing, training yet longer
        playing = beside.submit(_playing, player.task)
        beside.shutdown(wait=False)
    serves = jax.random.key(settings.seed + FRESH)
    console.print("measuring 1,000 fresh serves before training …")
    before = summary(player.play(trainer.policy(), serves)) if first() else {}
    with progress.counting("training", settings.steps, console) as tell:

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
    table = Table("", "before", "after", title="1,000 fresh serves, 95 % intervals")
    after = summary(played)
    pairs = zip(rows(before), rows(after), strict=True)
    measures = [(name, old, new) for (name, old), (_, new) in pairs]
    measures += [(name, "", text) for name, text in _floor(settings, trainer, serves)]
    for row in measures:
        table.add_row(*row)
    console.print(table)
    play = playing.result() if playing else None
    for file in pictures(settings, trainer, measures, played, play):
        console.print(f"wrote {file}")
    return {"before": before, "after": after}


def _floor(settings: Settings, trainer: Trainer, key: jax.Array) -> list[tuple[str, str]]:
    """The best landing errors there are, as text, where they are asked for and make sense."""
    player = trainer.player
    if not settings.floor or not isinstance(player, Traced) or settings.objective != "target":
        return []
    return floor.rows(floor.spin_floor(player, trainer.policy(), key, serves=settings.floor))


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
    measures: list[tuple[str, str, str]],
    outcome: dict[str, np.ndarray],
    play: Callable | None,
) -> list[Path]:
    """Draw learning curves, some rallies, an animation, and the page, in the run's folder.

    Args:
        measures: name, before and after.
        outcome: of the serves after training, see :meth:`diffsim.training.Traced.play`.
        play: rallies, where they can be drawn: see :func:`_playing`.
    """
    task: Any = trainer.player.task
    policy = trainer.policy()
    history = read(settings.out / "metrics.csv")
    curves = {name: [row[name] for row in history] for name in history[0]}
    out = settings.out
    done = [
        learning_curves({settings.gradient: curves}, path=out / f"learning{suffix}")
        for suffix in SUFFIXES
    ]
    if play is None:  # its rallies are not the event-driven world's to draw
        page = pages.training(out / "report.html", settings, history, measures, None)
        return [*done, page, out / "checkpoints"]

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
    replay = pages.rallies(task.world, played, paths, targets=target, landings=landings)
    return [
        *done,
        pages.training(out / "report.html", settings, history, measures, replay),
        out / "checkpoints",
    ]
