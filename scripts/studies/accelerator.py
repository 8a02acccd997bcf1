"""What a machine does with every kernel: error against float64, time over the memory floor."""

import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console

from diffsim import delay, quadrature
from diffsim._files import checked
from diffsim.invertible import LAYERS
from diffsim.losses import DenseInfogain, DiagonalInfogain, SmoothingInfogain, softmax_infogain
from studies import harness
from studies.delay import AMPLITUDES, ECHOES
from studies.invertible import STRUCTURED
from studies.losses import LABELS, naive

Made = tuple[Callable, tuple]  # a function, and its arguments in float32


@dataclass(frozen=True)
class Sizes:
    """How large the cases are; by default those for a CPU."""

    logits: tuple[tuple[int, int], ...] = ((4096, 1000),)
    dense: int = 1024
    structured: int = 102_400
    batch: int = 16
    steps: int = 16
    grid: tuple[int, int] = (400, 200)
    scans: int = 64
    samples: int = 128
    copy: int = 1 << 24

    @classmethod
    def large(cls) -> "Sizes":
        logits = ((4096, 1000), (65_536, 1000), (4096, 32_768))
        return cls(logits, dense=4096, steps=256, scans=10_000, copy=1 << 28)


def cases(sizes: Sizes) -> Iterator[tuple[str, Callable[[], Made]]]:
    """Every kernel by name; what it needs is made when its turn comes. To add one, yield it."""
    for shape in sizes.logits:
        for kind in ("optax integer", "written plainly", "dense", "diagonal", "smoothing"):
            yield f"infogain {shape[0]} x {shape[1]} {kind}", partial(_loss, shape, kind)
    for name in ("dense", *STRUCTURED):
        size = sizes.dense if name == "dense" else sizes.structured
        if name == "butterfly":
            size = 1 << (size - 1).bit_length()
        for way in ("forward", "inverse"):
            label = f"invertible {name} {size} {way}"
            yield label, partial(_layer, name, size, sizes.batch, way)
    for what in ("value", "value and error"):
        yield f"quadrature {sizes.steps} steps {what}", partial(_integral, sizes, what)
    for method in ("root-MUSIC", "ESPRIT", "maximum likelihood"):
        yield f"delay {sizes.scans} scans {method}", partial(_delays, sizes, method)


def _loss(shape: tuple[int, int], kind: str) -> Made:
    (rows, classes), rng = shape, np.random.default_rng(0)
    kinds = min(classes, LABELS)
    x = jnp.asarray(rng.standard_normal(shape, np.float32))
    labels = jnp.asarray(rng.integers(0, kinds, rows), jnp.int32)
    if kind == "optax integer":
        integer = optax.softmax_cross_entropy_with_integer_labels
        return jax.value_and_grad(lambda x, labels: jnp.mean(integer(x, labels))), (x, labels)
    h: Any = jnp.asarray(rng.uniform(0.1, 2, (kinds, classes)), jnp.float32)
    if kind == "written plainly":
        return jax.value_and_grad(naive), (x, labels, h)
    if kind == "diagonal":
        h = DiagonalInfogain(jnp.linspace(0.5, 2, classes, dtype=jnp.float32))
    elif kind == "smoothing":
        h = SmoothingInfogain(jnp.float32(0.1), classes)
    else:
        h = DenseInfogain(h)
    return jax.value_and_grad(softmax_infogain), (x, labels, h)


def _layer(name: str, size: int, batch: int, way: str) -> Made:
    layer = LAYERS[name](size, rngs=nnx.Rngs(0), dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (batch, size), jnp.float32)
    if way == "forward":
        return lambda layer, x: jax.vmap(layer)(x), (layer, x)
    kept = jax.jit(lambda layer: layer.factor())(layer)

    def inverse(layer: Any, kept: Any, y: jax.Array) -> jax.Array:
        return jax.vmap(lambda y: layer.inverse(y, kept))(y)

    return inverse, (layer, kept, x)


def _integral(sizes: Sizes, what: str) -> Made:
    grid = quadrature.sphere_grid(*sizes.grid)
    theta, phi = grid.points
    turn = np.linspace(0, 6, sizes.steps)[:, None, None]
    stack = 1 + 0.5 * np.sin(theta) * np.cos(phi + turn)

    def integrate(stack: jax.Array) -> Any:
        found = jax.vmap(lambda f: quadrature.integrate(f, grid))(stack)
        return found.value if what == "value" else found.value + found.error

    return integrate, (jnp.asarray(stack, jnp.float32),)


def _delays(sizes: Sizes, method: str) -> Made:
    rng, size = np.random.default_rng(0), sizes.samples
    apart = np.array([0.2, 0.3, 0.45]) if size < 128 else ECHOES
    clean = np.exp(-2j * np.pi * np.arange(size)[:, None] * apart) @ AMPLITUDES
    noise = rng.standard_normal((2, sizes.scans, size)) * 0.01
    values = jnp.asarray(clean + noise[0] + 1j * noise[1], jnp.complex64)

    def one(values: jax.Array) -> jax.Array:
        if method == "maximum likelihood":
            samples = delay.FrequencySamples.create(values)
            return delay.estimate_delays(samples, apart.size, window=size // 2).delays
        covariance = delay.smoothed_covariance(values, size // 2)
        subspace = delay.signal_subspace(covariance, apart.size, centro_hermitian=True)
        found = delay.root_music(subspace) if method == "root-MUSIC" else delay.esprit(subspace)
        return jnp.sort(found)

    return jax.vmap(one), (values,)


def _double(leaf: Any) -> Any:
    leaf = np.asarray(leaf)
    return leaf.astype({"f": np.float64, "c": np.complex128}.get(leaf.dtype.kind, leaf.dtype))


def _on_host(f: Callable, arguments: tuple) -> Any:
    """The same in float64 on the CPU; None where JAX was told not to use it."""
    try:
        host = jax.devices("cpu")[0]
    except RuntimeError:
        return None
    arguments = jax.tree.map(_double, arguments)
    jax.clear_caches()  # of traces with 32-bit indices, which JAX would mix in
    with jax.enable_x64(True), jax.default_device(host):
        wanted = jax.tree.map(np.asarray, jax.jit(f)(*arguments))
    jax.clear_caches()
    return wanted


def _apart(found: Any, wanted: Any) -> float:
    """The largest relative distance of the results."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    distances = [np.linalg.norm(_double(a) - b) / np.linalg.norm(b) for a, b in pairs]
    return float(max(distances))


def _seconds(call: Callable, longest: float = 1.0) -> float:
    """Median time of a call; short ones are sent several at a time, as on a card they queue."""
    first = harness.timed(call, warm=True)()
    many = int(np.clip(5e-3 / first, 1, 50))
    rounds = int(np.clip(longest / (2 * many * first), 3, 15))

    def queued() -> Any:
        return [call() for _ in range(many)][-1]

    return harness.medians({"": queued}, rounds, warm=True)[""] / many


def bandwidth(size: int) -> float:
    """Bytes a second that the device reads and writes in x ← x + 1 of ``size`` float32 numbers."""
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    kept = [jnp.zeros(size, jnp.float32)]

    def call() -> jax.Array:
        kept[0] = add(kept[0])
        return kept[0]

    return 2 * kept[0].nbytes / _seconds(call)


def measured(name: str, made: Made, speed: float) -> dict[str, Any]:
    """One row: the error against float64, seconds, the memory floor, seconds to compile.

    The floor is the time to read the arguments and to write the results once at ``speed`` B/s;
    what a cache holds goes below it.
    """
    f, arguments = made
    start = time.perf_counter()
    compiled = jax.jit(f).lower(*arguments).compile()
    compiling = time.perf_counter() - start
    found = compiled(*arguments)
    seconds = _seconds(lambda: compiled(*arguments))
    moved = sum(leaf.nbytes for leaf in jax.tree.leaves((arguments, found)))
    wanted = _on_host(f, arguments)
    return {
        "kernel": name,
        "error": None if wanted is None else _apart(found, wanted),
        "seconds": seconds,
        "floor": moved / speed,
        "ratio": seconds * speed / moved,
        "compile": compiling,
    }


def processor() -> str:
    """What the host computes with."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def machine() -> dict[str, str]:
    """The device, its driver, and the software that matters."""
    device, tool = jax.devices()[0], shutil.which("nvidia-smi")
    kind = processor() if device.platform == "cpu" else device.device_kind
    driver = getattr(device.client, "platform_version", "unknown").splitlines()[0]
    if device.platform == "gpu" and tool:
        asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
        driver = done.stdout.strip().split("\n")[0] or driver
    return {
        "device": f"{len(jax.devices())} x {kind}",
        "platform": device.platform,
        **({} if device.platform == "cpu" else {"driver": driver}),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def benchmark(
    path: Path = Path("runs/accelerator.json"),
    limit: float = 200.0,
    sizes: Sizes | None = None,
) -> dict[str, Any]:
    """Measure every kernel on the devices that JAX sees; print a table and write it as JSON.

    The error is relative to the same computation in float64 on the host (start with
    JAX_PLATFORMS=cuda,cpu if you set it). The floor is the time that reading the arguments and
    writing the results takes at the speed of x + 1, which is measured first.

    Args:
        path: file for the JSON.
        limit: seconds after which no further kernel is begun; those left out are listed.
        sizes: sizes of the cases; chosen for a CPU or an accelerator unless given.

    Returns:
        machine, bytes a second of x + 1, rows, and the names of what was not measured.
    """
    path, console, start = checked(path, (".json",)), Console(), time.perf_counter()
    about = machine()
    if sizes is None:
        sizes = Sizes() if about["platform"] == "cpu" else Sizes.large()
    speed, left = bandwidth(sizes.copy), []

    def rows() -> Iterator[harness.Row]:
        for name, make in cases(sizes):
            if time.perf_counter() - start > limit:
                left.append(name)
            else:
                yield measured(name, make(), speed)

    title = ", ".join(f"{name} {value}" for name, value in about.items())
    found = harness.show(f"{title}; x + 1 at {speed / 1e9:.0f} GB/s", rows(), console)
    if left:
        console.print(f"not measured, as {limit:.0f} s were over: {', '.join(left)}")
    (rows_found,) = found.values()
    report = {
        "machine": about, "bytes a second": speed, "rows": rows_found, "not measured": left,
    }  # fmt: skip
    harness.save(path, report)
    console.print(f"wrote {path} after {time.perf_counter() - start:.0f} s")
    return report
