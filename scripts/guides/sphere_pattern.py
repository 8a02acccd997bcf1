# %% [markdown]
# # Integrals from a measured pattern
#
# A field pattern sampled on a grid of angles is integrated over the sphere, with the rule that fits
# the grid and an error estimate.

# %%
import jax
import jax.numpy as jnp

from diffsim.quadrature import explain, integrate, sphere_grid

jax.config.update("jax_enable_x64", True)
grid = sphere_grid(19, 36)  # θ from 0° to 180° and φ from 0° in steps of 10°
theta, phi = grid.points

# %% [markdown]
# The power of a short dipole, sin²θ, integrates to 8π/3; its directivity is 4π over that: 1.5.

# %%
power = jnp.sin(theta) ** 2 * jnp.ones_like(phi)
found = integrate(power, grid)
print(found)
directivity = 4 * jnp.pi * jnp.max(power) / found.value
print(f"directivity {float(directivity):.6f}")
assert abs(float(found.value) - 8 * jnp.pi / 3) < 1e-9
assert abs(float(found.value) - 8 * jnp.pi / 3) <= float(found.error) + 1e-12

# %% [markdown]
# A pattern with more detail than the grid can hold is flagged, and its error estimate grows.

# %%
sharp = jnp.exp(200 * (jnp.cos(theta) - 1)) * (1 + 0 * phi)
found = integrate(sharp, grid)
exact = 2 * jnp.pi * (1 - jnp.exp(-400.0)) / 200
print(found, "exact", exact, explain(int(found.warning)))
assert abs(float(found.value) - exact) <= float(found.error)

# %% [markdown]
# Samples that already hold the factor sin θ, half spheres, symmetries, missing samples and bands of
# θ are options of `sphere_grid` and `integrate`; `python scripts/integrate.py SAMPLES.npy` does the
# same from a file.
