"""Names that say of an argument what a type checker can know of it."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy.typing

ArrayLike: TypeAlias = jax.typing.ArrayLike | numpy.typing.ArrayLike  # nested lists as well
Tree: TypeAlias = Any  # arrays in any nest of containers, which JAX calls a pytree
Network: TypeAlias = Callable[[jax.Array], jax.Array]  # of one vector
