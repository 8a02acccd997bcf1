"""Makes data/gpr_ascan.npy and data/gpr_bscan.npy, with their truth in data/gpr_truth.json."""

import json
from pathlib import Path

import tyro

SAMPLES, SAMPLE_RATE = 256, 8e9
PEAK_FREQUENCY, NOISE = 8e8, 2e-3
PERMITTIVITY = [4.0, 7.0, 12.0, 20.0]
CONDUCTIVITY = [1e-3, 4e-3, 1e-2, 2e-2]
THICKNESS, CHANGE = [0.45, 0.06, 0.40], [-0.1, 0.1, 0.0]
TRACES, SEED = 32, 0


def main(directory: Path = Path("data")) -> None:
    """Write the scans: three interfaces, the middle layer thickening from trace to trace.

    Args:
        directory: folder to write to.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    from diffsim._files import folder, replacing
    from studies.gpr import Layers, a_scan, layer_echoes

    folder(directory)
    position = np.linspace(0.0, 1.0, TRACES)[:, None]
    thickness = np.array(THICKNESS) + position * np.array(CHANGE)
    delays, amplitudes = jax.vmap(
        lambda h: layer_echoes(Layers.create(PERMITTIVITY, CONDUCTIVITY, h))
    )(jnp.asarray(thickness))
    keys = jax.random.split(jax.random.key(SEED), TRACES)
    scans = jax.vmap(
        lambda d, a, key: a_scan(d, a, SAMPLES, SAMPLE_RATE, PEAK_FREQUENCY, NOISE, key)
    )(delays, amplitudes, keys)
    truth = {
        "sample_rate": SAMPLE_RATE,
        "peak_frequency": PEAK_FREQUENCY,
        "noise": NOISE,
        "permittivity": PERMITTIVITY,
        "conductivity": CONDUCTIVITY,
        "thickness": np.round(thickness, 12).tolist(),
        "delays": np.round(np.asarray(delays), 15).tolist(),
        "amplitudes": np.round(np.asarray(amplitudes), 6).tolist(),
        "seed": SEED,
    }
    for name, array in (("gpr_ascan", scans[0]), ("gpr_bscan", scans)):
        with replacing(directory / f"{name}.npy") as part:
            np.save(part, np.asarray(array, np.float32))
    with replacing(directory / "gpr_truth.json") as part:
        part.write_text(json.dumps(truth) + "\n")


if __name__ == "__main__":
    from _entry import entry

    entry(lambda: tyro.cli(main))
