"""The tools of other tests: lowering without the card, and the walk through a jaxpr."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxprs import primitives
from lowering import lower


def by_platform(x):
    return jax.lax.platform_dependent(x, cpu=jnp.sin, cuda=jnp.cos, tpu=jnp.tanh)


@pytest.mark.parametrize(("platform", "name"), [("cuda", "cosine"), ("tpu", "tanh")])
def test_the_branch_of_the_platform_is_lowered(platform, name):
    text = lower(by_platform, jnp.ones(3), platform=platform)
    assert f"stablehlo.{name}" in text
    assert "stablehlo.sine" not in text
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    assert "3xf32" in lower(jax.jit(by_platform), shape, platform=platform)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend:DeprecationWarning")
def test_a_kernel_is_lowered_or_refused():
    """Triton has no slice: a kernel that takes one runs in interpret mode and nowhere else."""

    def call(kernel):
        out = jax.ShapeDtypeStruct((16,), jnp.float32)
        return lambda x: pl.pallas_call(
            kernel, out_shape=out, compiler_params=triton.CompilerParams(num_warps=4)
        )(x)

    def double(x_ref, out_ref):
        out_ref[...] = 2 * x_ref[...]

    def sliced(x_ref, out_ref):
        out_ref[...] = x_ref[...][:16]

    x = jax.ShapeDtypeStruct((16,), jnp.float32)
    assert "triton" in lower(call(double), x, platform="cuda")
    with pytest.raises(Exception, match="slice"):
        lower(call(sliced), jax.ShapeDtypeStruct((32,), jnp.float32), platform="cuda")


def test_every_equation_is_found():
    def f(x):
        @jax.custom_vjp
        def own(x):
            return jnp.sin(x)

        own.defvjp(lambda x: (own(x), x), lambda x, g: (g * jnp.cos(x),))
        x = jax.lax.cond(x > 0, jnp.exp, jnp.log, x)
        x = jax.lax.while_loop(lambda x: x < 9, lambda x: own(x) + 10, x)
        x = jax.lax.platform_dependent(x, cpu=jnp.tanh, default=jnp.arctan)
        return jax.lax.scan(lambda c, _: (jax.jit(jnp.cosh)(c), None), x, length=3)[0]

    found = {eqn.primitive.name for eqn in primitives(f, 1.0)}
    assert {"exp", "log", "lt", "sin", "add", "tanh", "atan", "cosh"} <= found
