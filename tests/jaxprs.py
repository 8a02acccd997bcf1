"""What a function is traced to, walked to the bottom."""

import jax

from studies.equations import equations


def primitives(f, *args, **kwargs):
    """All equations of f's jaxpr, those inside loops, branches, calls and custom rules included.

    >>> [eqn.primitive.name for eqn in primitives(jax.jit(lambda x: -x), 1.0)]
    ['jit', 'neg']
    """
    yield from equations_of(jax.make_jaxpr(f)(*args, **kwargs))


def equations_of(inside):
    """Equations of anything that a parameter of an equation may hold."""
    if isinstance(inside, list | tuple):
        for part in inside:
            yield from equations_of(part)
    elif hasattr(inside, "eqns"):
        for eqn in inside.eqns:
            yield eqn
            for parameter in eqn.params.values():
                yield from equations_of(parameter)


def distinct(f, *args) -> int:
    """How many equations f has, those of a function that is called several times counted once."""
    return equations(jax.make_jaxpr(f)(*args))
