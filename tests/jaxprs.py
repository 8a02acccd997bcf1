"""What a function is traced to, walked to the bottom."""

import jax

from diffsim.physics import lanes


def primitives(f, *args, **kwargs):
    """All equations of f's jaxpr, those inside loops, branches, calls and custom rules included.

    >>> [eqn.primitive.name for eqn in primitives(jax.jit(lambda x: -x), 1.0)]
    ['jit', 'neg']
    """
    yield from _walk(jax.make_jaxpr(f)(*args, **kwargs))


def _walk(inside):
    """Equations of anything that a parameter of an equation may hold."""
    if isinstance(inside, list | tuple):
        for part in inside:
            yield from _walk(part)
    elif hasattr(inside, "eqns"):
        for eqn in inside.eqns:
            yield eqn
            for parameter in eqn.params.values():
                yield from _walk(parameter)


def distinct(f, *args) -> int:
    """How many equations f has, those of a function that is called several times counted once.

    >>> double = jax.jit(lambda x: x + x)
    >>> distinct(lambda x: double(double(x)), 1.0)
    3
    """
    return _distinct(jax.make_jaxpr(f)(*args), set())


def _distinct(inside, seen: set) -> int:
    if isinstance(inside, list | tuple):
        return sum(_distinct(part, seen) for part in inside)
    inside = getattr(inside, "jaxpr", inside)
    if not hasattr(inside, "eqns") or id(inside) in seen:
        return 0
    seen.add(id(inside))
    total = len(inside.eqns)
    for eqn in inside.eqns:
        total += sum(_distinct(parameter, seen) for parameter in eqn.params.values())
        if eqn.primitive.name == "lanes":  # traced again where it is lowered
            shapes = [jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) for x in eqn.invars]
            run = jax.make_jaxpr(lambda *args, eqn=eqn: lanes.run(*args, **eqn.params))
            found = run(*shapes)
            seen.add(found)  # kept, so that ids stay its own
            total += _distinct(found, seen)
    return total
