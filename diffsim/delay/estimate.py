"""The whole pipeline: from frequency samples to delays, their number and their standard errors."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html import escape

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from diffsim import _linalg, _show
from diffsim.delay.bounds import hankel_variance
from diffsim.delay.covariance import SignalSubspace, signal_subspace, smoothed_covariance
from diffsim.delay.esprit import esprit
from diffsim.delay.maximum_likelihood import (
    Likelihood,
    evaluate,
    maximum_likelihood,
    minimise,
    next_delay,
)
from diffsim.delay.order import bic
from diffsim.delay.samples import FrequencySamples
from diffsim.delay.steering import fft_columns, inner, regular, steering

_MISFIT = 5.0  # times the noise, which eight cells together do by chance once in 10⁴ records


@struct.dataclass
class DelayEstimate:
    """Echoes found; K is the static maximum, entries where ``mask`` is false are zero.

    Attributes:
        delays: (K,) s, ascending.
        amplitudes: (K,) complex, or (T, K) for T snapshots.
        standard_error: (K,) deviation of the delays by the Cramér–Rao bound at the estimate, s;
            times √``misfit``.
        misfit: (K,) 1 where noise explains what is left around the echo. Above 1 the echo has not
            the shape of the pulse: how much larger the delay's variance is if all that is left in
            the eight resolution cells around it has moved it, and, as another shape has another
            phase, its envelope alone tells where it is. A change of shape that is itself a delay,
            such as a filter's, leaves nothing behind and is not seen.
        subspace_error: (K,) deviation that the same windows' ESPRIT has without refinement
            (:func:`hankel_variance`), s; takes no account of missing frequencies.
        mask: (K,) true for echoes found.
        resolved: (K,) true where every other echo is more than two standard errors of their
            difference away, and no smaller number of echoes suits the criterion better.
        count: number of echoes.
        saturated: whether the number was sought and came out as K: there may be more.
        noise_variance: σ² of a complex sample of unit weight.
        residual: share of the weighted power that the echoes leave, in [0, 1].
        criterion: (K + 1,) Bayes' criterion of 0 ... K echoes.
    """

    delays: jax.Array
    amplitudes: jax.Array
    standard_error: jax.Array
    misfit: jax.Array
    subspace_error: jax.Array
    mask: jax.Array
    resolved: jax.Array
    count: jax.Array
    saturated: jax.Array
    noise_variance: jax.Array
    residual: jax.Array
    criterion: jax.Array

    def __repr__(self) -> str:
        names = ("count", "delays", "standard_error", "resolved", "saturated", "noise_variance")
        fields = {name: getattr(self, name) for name in names}
        if _show.concrete(self) and np.ndim(self.mask) == 1:
            for name in ("delays", "standard_error", "resolved"):
                fields[name] = np.asarray(fields[name])[np.asarray(self.mask)]
        return _show.record("DelayEstimate", **fields)

    def _repr_html_(self) -> str:
        if np.ndim(self.amplitudes) != 1 or not _show.concrete(self):
            return f"<code>{escape(repr(self))}</code>"
        rows = zip(self.delays, self.standard_error, self.amplitudes, self.resolved)
        columns = ("delay, s", "standard error, s", "amplitude", "resolved")
        shown = [row for row, found in zip(rows, self.mask) if found]
        return _show.html_table(f"{int(self.count)} echoes", columns, shown)


def estimate_delays(
    samples: FrequencySamples,
    maximum: int,
    echoes=None,
    *,
    window: int | None = None,
    method: Callable[[SignalSubspace], jax.Array] = esprit,
    criterion: Callable = bic,
    refine: bool = True,
) -> DelayEstimate:
    """Delays, amplitudes and standard errors of the echoes in frequency samples.

    Pulse divided out → smoothed forward–backward covariance → signal subspace → ``method`` →
    maximum likelihood with the pulse and weights back in, for 1 ... K echoes; each order also
    starts from the one before, with the best single echo added or its strongest echo parted in
    two, and the best minimum is kept.
    The order is the one with the smallest ``criterion``. Derivatives go through the stationary
    point of the likelihood (``refine``) or through the signal subspace. Write for one record;
    a B-scan is ``jax.vmap`` of this.

    Args:
        samples: of one record, or T snapshots.
        maximum: K, the most echoes looked for (static).
        echoes: how many there are; may be traced, at most K. None to find out.
        window: L of the smoothing, N/2 by default.
        method: what starts the refinement, or estimates if ``refine`` is false.
        criterion: as :func:`bic`.
        refine: maximum-likelihood delays rather than those of ``method``.

    Returns:
        :class:`DelayEstimate`.

    Raises:
        ValueError: more echoes are asked for than the samples or the window can resolve.

    >>> import numpy as np
    >>> x = np.exp(-2j * np.pi * np.arange(32)[:, None] * [0.25, 0.4]) @ [1.0, 0.5]
    >>> found = estimate_delays(FrequencySamples.create(x, step=1e6), maximum=3)
    >>> int(found.count), [round(float(d) * 1e9) for d in found.delays]
    (2, [250, 400, 0])
    """
    size = samples.weight.size
    if not 1 <= maximum <= size // 2:
        raise ValueError(
            f"maximum: expected 1 to {size // 2} echoes (half of {size} frequencies), got {maximum}"
        )
    window = max(size // 2, maximum + 1) if window is None else window
    if not maximum < window <= size:
        raise ValueError(f"window: expected in [{maximum + 1}, {size}], got {window}")
    if isinstance(echoes, int) and not 1 <= echoes <= maximum:
        raise ValueError(f"echoes: expected 1 to {maximum}, got {echoes}")
    return _estimate(samples, maximum, echoes, window, method, criterion, refine)


@jax.default_matmul_precision("highest")
@partial(jax.jit, static_argnums=(1, 3, 4, 5, 6))
def _estimate(samples, maximum, echoes, window, method, criterion, refine) -> DelayEstimate:
    usable = (samples.weight > 0) & (samples.pulse != 0)
    weight = jnp.where(usable, samples.weight, 0)
    pulse = jnp.where(usable, samples.pulse, 1)
    weighted = weight.astype(pulse.dtype) * samples.values
    scale = jnp.sqrt(jnp.mean(weighted.real**2 + weighted.imag**2))
    scale = jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1))
    values = samples.values / scale.astype(pulse.dtype)
    scaled = replace(samples, values=values, pulse=pulse, weight=weight)
    covariance = smoothed_covariance(values / pulse, window, present=usable.astype(weight.dtype))

    snapshots = 1 if values.ndim == 1 else values.shape[0]
    present = jnp.sum(usable).astype(weight.dtype)
    paths, residuals = _search(
        *jax.lax.stop_gradient((scaled, covariance)), maximum, method, refine
    )
    scores = criterion(residuals, residuals[0], present, snapshots, samples.real_amplitudes)
    count = jnp.argmin(scores) if echoes is None else jnp.asarray(echoes)
    mask = jnp.arange(maximum) < count
    if refine:
        fit = maximum_likelihood(scaled, paths[jnp.maximum(count, 1) - 1], mask)
    else:
        fit = evaluate(
            scaled, method(signal_subspace(covariance, count, maximum, centro_hermitian=True)), mask
        )
    order = jnp.argsort(jnp.where(mask, fit.delays, jnp.inf))
    delays, amplitudes = fit.delays[order], fit.amplitudes[order] * scale.astype(pulse.dtype)

    per_echo = 0.5 + (0.5 if samples.real_amplitudes else 1.0) * snapshots
    freedom = present * snapshots - per_echo * count.astype(present.dtype)
    noise = fit.residual / jnp.maximum(freedom, 0.5)
    covered = noise / 2 * _linalg.inv(fit.information[order][:, order])
    misfit = _misfit(scaled, fit, noise)[order]
    variance = misfit * jnp.diagonal(covered)
    apart = jnp.abs((delays[:, None] - delays + 0.5) % 1 - 0.5)
    blur = variance[:, None] + variance - 2 * covered
    supported = count == jnp.argmin(jnp.where(jnp.arange(maximum + 1) <= count, scores, jnp.inf))
    others = mask & ~jnp.eye(maximum, dtype=bool)
    noise = noise * scale**2
    floor = jnp.where(usable, noise / (jnp.where(usable, weight, 1) * jnp.abs(pulse)) ** 2, 0)
    subspace = hankel_variance(delays, amplitudes, floor, 1.0, window, mask=mask)
    return DelayEstimate(
        delays=jnp.where(mask, samples.origin + delays / samples.step, 0),
        amplitudes=amplitudes[:, 0] if values.ndim == 1 else amplitudes.T,
        standard_error=jnp.where(mask, _linalg.safe_sqrt(variance), 0) / samples.step,
        misfit=jnp.where(mask, misfit, 1),
        subspace_error=jnp.where(mask, _linalg.safe_sqrt(subspace), 0) / samples.step,
        mask=mask,
        resolved=mask & supported & jnp.all(~others | (apart**2 > 4 * blur), axis=1),
        count=count,
        saturated=(count == maximum) & (echoes is None),
        noise_variance=noise,
        residual=fit.residual / jnp.where(residuals[0] > 0, residuals[0], 1),
        criterion=scores,
    )


def _search(samples, covariance, maximum, method, refine):
    """Delays (K, K) of the best fits with 1 ... K echoes, and residuals (K + 1,) from none on."""
    # Free phases first, even if amplitudes are real: that likelihood has no carrier ripple.
    problem = Likelihood.of(replace(samples, real_amplitudes=False))
    slots = jnp.arange(maximum)
    masks = slots < slots[:, None] + 1
    widest = signal_subspace(covariance, maximum, centro_hermitian=True)

    def grow(fit, mask):
        count = jnp.sum(mask)
        start = method(replace(widest, basis=jnp.where(mask, widest.basis, 0), count=count))
        if not refine:
            return fit, start
        new = slots == count - 1
        extra = jnp.where(new, next_delay(problem, fit), fit.delays)
        # Two echoes may have passed for one: part the strongest by most of a resolution cell.
        strongest = jnp.argmax(jnp.sum(jnp.abs(fit.amplitudes) ** 2, 1))
        half = 0.4 / samples.weight.size
        parted = jnp.where(new, fit.delays[strongest] + half, fit.delays)
        parted = parted.at[strongest].add(-half)
        starts = jnp.stack([start, extra, parted])
        # Few steps: a wrong number of echoes converges slowly, the right one is finished later.
        fits = jax.vmap(partial(minimise, iterations=6), (None, 0, None))(problem, starts, mask)
        best = jnp.argmin(jnp.nan_to_num(fits.residual, nan=jnp.inf))
        fit = jax.tree.map(lambda leaf: leaf[best], fits)
        return fit, fit.delays

    nothing = jnp.zeros(maximum, samples.weight.dtype), slots < 0
    delays = jax.lax.scan(grow, problem.fit(*nothing), masks)[1]
    problem = Likelihood.of(samples)
    polish = minimise if refine and samples.real_amplitudes else Likelihood.fit
    fits = jax.vmap(polish, (None, 0, 0))(problem, delays, masks)
    return fits.delays, jnp.concatenate([problem.fit(*nothing).residual[None], fits.residual])


def _misfit(samples, fit, noise):
    """(K,) 2 Σ_d |g_dᴴ r|²/(‖g‖² σ²), d at ±1 … ±4 resolution cells from each echo; or 1.

    Noise has the same density at all delays; what a wrong pulse leaves stays near its echo, and is
    told by the density at most delays, their median, as it is a part of σ² itself. If the whole of
    its energy E had the echo's slope, the delay would be off by √E where noise of variance σ² in
    each sample has a deviation of σ/√2, in the same unit.
    """
    problem = Likelihood.of(samples)
    delays = fit.delays
    cells = jnp.concatenate([jnp.arange(-4, 0), jnp.arange(1, 5)]) / samples.weight.size
    probes = (delays[:, None] + cells.astype(delays.dtype)).ravel()
    columns, _ = steering(problem.index, problem.gain, delays, fit.mask)
    amplitudes = _linalg.solve(
        regular(inner(columns, columns, problem.real), fit.mask),
        inner(columns, problem.data, problem.real),
    )
    left = problem.data - columns @ amplitudes.astype(columns.dtype)
    nearby, _ = steering(problem.index, problem.gain, probes, jnp.ones(probes.shape, bool))
    seen = jnp.mean(jnp.abs(nearby.conj().T @ left) ** 2, axis=1).reshape(-1, cells.size)
    whole = jnp.sum(jnp.abs(problem.gain) ** 2)
    energy = jnp.sum(seen, axis=1) / jnp.where(noise > 0, whole * noise, jnp.inf)
    beams = fft_columns(problem.gain.conj()[:, None] * left, samples.weight.size)
    everywhere = jnp.mean(jnp.abs(beams) ** 2, axis=1)
    floor = jnp.median(everywhere) / (math.log(2) * whole)  # that of an exponential law
    rounding = (100 * jnp.finfo(noise.dtype).eps) ** 2 * jnp.mean(jnp.abs(problem.data) ** 2)
    share = jnp.clip(jnp.where(noise > rounding, floor / jnp.where(noise > 0, noise, 1), 1), 0, 1)
    shown = fit.mask & (energy > _MISFIT * cells.size * share.astype(energy.dtype))
    if samples.real_amplitudes:
        free = evaluate(replace(samples, real_amplitudes=False), delays, fit.mask).information
        energy *= jnp.diagonal(_linalg.inv(free)) / jnp.diagonal(_linalg.inv(fit.information))
    return jax.lax.stop_gradient(jnp.where(shown, 2 * energy, 1))
