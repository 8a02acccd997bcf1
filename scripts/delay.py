"""Delays of the echoes in a recorded signal: python scripts/delay.py SIGNAL --sample-rate HZ."""

import sys
from pathlib import Path
from typing import Annotated

import jax
import tyro

from diffsim.delay.report import delay_report


def main(
    signal: Annotated[Path, tyro.conf.Positional],
    sample_rate: float,
    pulse: str | None = None,
    echoes: str = "auto",
    band: tuple[float, float] | None = None,
    gate: tuple[float, float] | None = None,
    time_zero: float = 0.0,
    trace: int = 0,
    plot: Path | None = None,
) -> int:
    """Print the delays of the echoes in a signal, with their standard errors.

    Args:
        signal: .npy, or .csv with one column of values or two of time and value.
        sample_rate: Hz.
        pulse: file of the pulse from its time zero on, or ricker:HZ.
        echoes: how many, or auto.
        band: lowest and highest frequency to use, Hz.
        gate: first and last time to use, s after the first sample.
        time_zero: when the pulse left, s after the first sample.
        trace: row of a 2-D file.
        plot: file for a picture of the spectrum over delay.
    """
    try:
        print(
            delay_report(
                signal,
                sample_rate,
                pulse=pulse,
                echoes=echoes,
                band=band,
                gate=gate,
                time_zero=time_zero,
                trace=trace,
                plot=plot,
            )
        )
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    sys.exit(tyro.cli(main))
