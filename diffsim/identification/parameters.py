"""What of a world can be fitted: the constants of its ball and of its surfaces, by name."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from diffsim.physics.world import World

_BALL = {"drag": "drag_coefficient", "magnus": "magnus_coefficient"}
BOUNDS = {
    "drag": (0, np.inf),
    "magnus": (-np.inf, np.inf),
    "restitution": (0, 1.5),
    "friction": (0, np.inf),
}


def parameter_names(world: World) -> tuple[str, ...]:
    """What of a world can be fitted: ``drag``, ``magnus``, ``<surface>.restitution``, ….

    >>> parameter_names(World.create())[:4]
    ('drag', 'magnus', 'table.restitution', 'table.friction')
    """
    surfaces = [
        f"{surface.name}.{key}" for surface in world.surfaces for key in ("restitution", "friction")
    ]
    return (*_BALL, *surfaces)


def get(world: World, name: str) -> jax.Array:
    """The value of one parameter."""
    if name in _BALL:
        return getattr(world.ball, _BALL[name])
    surface, key = name.rsplit(".", 1)
    return next(getattr(s, key) for s in world.surfaces if s.name == surface)


def put(world: World, names: Sequence[str], values) -> World:
    """The world with other values of some parameters."""
    changes = dict(zip(names, values, strict=True))
    ball = {_BALL[name]: changes[name] for name in names if name in _BALL}
    surfaces = tuple(
        dataclasses.replace(
            surface,
            **{
                name.rsplit(".", 1)[1]: changes[name]
                for name in names
                if name not in _BALL and name.rsplit(".", 1)[0] == surface.name
            },
        )
        for surface in world.surfaces
    )
    return dataclasses.replace(
        world, ball=dataclasses.replace(world.ball, **ball), surfaces=surfaces
    )
