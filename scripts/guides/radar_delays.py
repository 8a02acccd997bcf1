# %% [markdown]
# # Delays from a radar file
#
# Echoes that are closer than 1/bandwidth are found in a recorded trace, by MUSIC, ESPRIT and
# maximum likelihood, with error bounds. The readers take arrays, tables as oscilloscopes write
# them, Touchstone files (extra `rf`) and gprMax files (extra `hdf5`).

# %%
import json
from pathlib import Path

import jax
import numpy as np

from diffsim.delay import estimate_delays, from_signal, ricker_spectrum

jax.config.update("jax_enable_x64", True)
data = Path(__file__).parents[2] / "data"
trace, rate = np.load(data / "gpr_ascan.npy"), 8e9

# %% [markdown]
# The record becomes frequency samples, the pulse is divided out within the band where it is strong,
# and the number of echoes is found with their delays.

# %%
samples = from_signal(trace, rate, pulse=lambda f: ricker_spectrum(f, 800e6), band=(0.2e9, 1.8e9))
found = estimate_delays(samples, maximum=6)
truth = np.array(json.loads((data / "gpr_truth.json").read_text())["delays"])[0]
for delay, error, mask in zip(found.delays, found.standard_error, found.mask):
    if mask:
        print(f"{1e9 * float(delay):.4f} ± {1e9 * float(error):.4f} ns")
print("truth", 1e9 * truth)
assert int(found.count) == len(truth)
errors = np.abs(np.sort(np.asarray(found.delays)[np.asarray(found.mask)]) - truth)
assert np.all(errors < 5 * np.asarray(found.standard_error)[np.asarray(found.mask)])

# %% [markdown]
# From the command line: `python scripts/delay.py data/gpr_ascan.npy --sample-rate 8e9 --pulse
# ricker:8e8 --plot delays.png`. A B-scan is `jax.vmap` of the same function, and derivatives go
# through it: `python scripts/radar.py` follows a ball's echoes to its landing.
