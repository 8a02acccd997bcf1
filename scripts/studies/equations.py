"""How large a program is that JAX traces."""

from typing import Any

import jax

from diffsim.physics import lanes


def equations(inside: Any, seen: set | None = None) -> int:
    """How many a jaxpr has to the bottom, those of a function called several times once.

    >>> double = jax.jit(lambda x: x + x)
    >>> equations(jax.make_jaxpr(lambda x: double(double(x)))(1.0))
    3
    """
    seen = set() if seen is None else seen
    if isinstance(inside, list | tuple):
        return sum(equations(part, seen) for part in inside)
    inside = getattr(inside, "jaxpr", inside)
    if not hasattr(inside, "eqns") or id(inside) in seen:
        return 0
    seen.add(id(inside))
    total = len(inside.eqns)
    for eqn in inside.eqns:
        total += sum(equations(parameter, seen) for parameter in eqn.params.values())
        if eqn.primitive.name == "lanes":  # traced again where it is lowered
            shapes = [jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) for x in eqn.invars]
            run = jax.make_jaxpr(lambda *args, eqn=eqn: lanes.run(*args, **eqn.params))
            found = run(*shapes)
            seen.add(found)  # kept, so that ids stay its own
            total += equations(found, seen)
    return total
