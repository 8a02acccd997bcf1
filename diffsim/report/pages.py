"""The pages that runs leave: a training, a scene, a closed loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffsim.physics.scene import Scene
from diffsim.physics.simulate import Rollout
from diffsim.physics.world import World
from diffsim.report import html, plots
from diffsim.report.film import Motion, film
from diffsim.report.stage import Paths, paths_of
from diffsim.report.track import Track, tracks


def rallies(
    world: World, rollouts: Rollout | list[Rollout], paths: Paths = None, **settings: Any
) -> str:
    """The replay of rollouts: arguments as of :func:`diffsim.report.rallies`, and of ``film``."""
    played = tracks(rollouts)
    own = paths_of(world, paths, len(played))
    motions = [Motion.of(track, path) for track, path in zip(played, own)]
    return html.replay(film(world, played, motions, **settings))


def scene(
    path: Path, name: str, played: Scene, rollout: Rollout, result: Mapping[str, Any]
) -> Path:
    """A scene: where the ball ends, the replay, and its impacts.

    Args:
        result: of :func:`diffsim.physics.scene.describe`.
    """
    ends = {"status": result["status"]} | {
        _named(key): ", ".join("–" if x is None else f"{x:.4g}" for x in values)
        for key, values in result["final"].items()
    }
    columns = ["time", "surface", "position", "velocity_before", "velocity_after", "spin_after"]
    impacts = [[_told(impact[column]) for column in columns] for impact in result["impacts"]]
    return html.write(
        path,
        name,
        {
            "The ball at the end": html.facts(ends),
            "Replay": rallies(played.world, [rollout], [played.paths], names=["flight"]),
            "Impacts": html.sortable_table([_named(column) for column in columns], impacts),
        },
    )


def _named(key: str) -> str:
    """A name with its unit.

    >>> _named("velocity_after")
    'velocity after, m/s'
    """
    units = {"time": "s", "position": "m", "velocity": "m/s", "spin": "rad/s"}
    unit = units.get(key.split("_")[0])
    return key.replace("_", " ") + (f", {unit}" if unit else "")


def _told(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join("–" if x is None else f"{x:.3f}" for x in value)
    return value


def training(
    path: Path,
    settings: Any,
    history: Sequence[Mapping[str, float]],
    measures: Sequence[tuple[str, str, str]],
    replay: str | None,
) -> Path:
    """A training run: measures before and after, the replay, learning curves, settings.

    Args:
        settings: a dataclass.
        history: rows of metrics.
        measures: name, before and after.
        replay: of :func:`rallies`, None where the simulator's rallies cannot be drawn.
    """
    curves = {name: [row[name] for row in history] for name in history[0]} if history else {}
    parts = {
        "1,000 fresh serves, 95 % intervals": html.sortable_table(["", "before", "after"], measures)
    }
    if replay is not None:
        parts["Replay"] = replay
    if curves:
        label = getattr(settings, "gradient", "run")
        parts["Learning"] = html.figure(
            lambda file: plots.learning_curves({label: curves}, path=file), "learning curves"
        )
    parts["Settings"] = html.facts(dataclasses.asdict(settings))
    return html.write(path, f"Training: {settings.out.name}", parts)


def closed_loop(
    path: Path,
    world: World,
    episodes: Sequence[tuple[Track, Motion]],
    history: Sequence[Mapping[str, float]],
    measures: Sequence[Sequence[str]],
    settings: Any,
) -> Path:
    """A closed loop: its measures, episodes to replay, learning curves, settings."""
    played, motions = zip(*episodes)
    names = [f"episode {number + 1}, {track.end:.1f} s" for number, track in enumerate(played)]
    curves = {name: [row[name] for row in history] for name in history[0]}
    return html.write(
        path,
        f"Closed loop: {settings.env}",
        {
            "1,000 fresh starts, 95 % intervals": html.sortable_table(["", "mean"], measures),
            "Replay": html.replay(film(world, played, motions, names=names)),
            "Learning": html.figure(
                lambda file: plots.learning_curves({settings.gradient: curves}, path=file),
                "learning curves",
            ),
            "Settings": html.facts(dataclasses.asdict(settings)),
        },
    )
