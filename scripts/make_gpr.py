"""Makes data/gpr_ascan.npy and data/gpr_bscan.npy, with their truth in data/gpr_truth.json."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from diffsim.delay.gpr import Layers, a_scan, layer_echoes

SETTINGS = {
    "sample_rate": 8e9,
    "samples": 256,
    "peak_frequency": 8e8,
    "noise": 2e-3,
    "permittivity": [4.0, 7.0, 12.0, 20.0],
    "conductivity": [1e-3, 4e-3, 1e-2, 2e-2],
    "thickness": [0.45, 0.06, 0.40],
    "traces": 32,
    "seed": 0,
}


def main(directory: Path = Path("data")) -> None:
    """Write the scans: an A-scan of three interfaces, and a B-scan whose middle layer thickens.

    Args:
        directory: where to write.
    """
    shared = np.array(SETTINGS["permittivity"]), np.array(SETTINGS["conductivity"])
    first, middle, last = SETTINGS["thickness"]
    position = np.linspace(0.0, 1.0, SETTINGS["traces"])
    thickness = np.stack(
        [first - 0.1 * position, middle + 0.1 * position, np.full_like(position, last)], 1
    )
    delays, amplitudes = jax.vmap(lambda h: layer_echoes(Layers.create(*shared, h)))(
        jnp.asarray(thickness)
    )

    def trace(delays, amplitudes, key):
        return a_scan(
            delays, amplitudes, SETTINGS["samples"], SETTINGS["sample_rate"],
            SETTINGS["peak_frequency"], SETTINGS["noise"], key,
        )

    keys = jax.random.split(jax.random.key(SETTINGS["seed"]), SETTINGS["traces"])
    scans = np.asarray(jax.vmap(trace)(delays, amplitudes, keys), np.float32)
    truth = SETTINGS | {
        "ascan": "the first trace of the B-scan",
        "delays": np.round(np.asarray(delays), 15).tolist(),
        "amplitudes": np.round(np.asarray(amplitudes), 6).tolist(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / "gpr_ascan.npy", scans[0])
    np.save(directory / "gpr_bscan.npy", scans)
    (directory / "gpr_truth.json").write_text(json.dumps(truth, indent=1) + "\n")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    tyro.cli(main)
