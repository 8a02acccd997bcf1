"""Delays of the echoes in a recorded signal: python scripts/delay.py SIGNAL --sample-rate HZ."""

from pathlib import Path
from typing import Annotated

import tyro


def main(
    signal: Annotated[Path, tyro.conf.Positional],
    sample_rate: float | None = None,
    pulse: str | None = None,
    echoes: str = "auto",
    band: tuple[float, float] | None = None,
    gate: tuple[float, float] | None = None,
    time_zero: float = 0.0,
    trace: int = 0,
    plot: Path | None = None,
) -> object:
    """Print the delays of the echoes in a signal, with their standard errors.

    Args:
        signal: .npy; a table in text with one column of values, or time and values, as
            oscilloscopes write them; Touchstone .s1p, .s2p; gprMax .out, .h5.
        sample_rate: Hz, where the file has no clock.
        pulse: file of the pulse from its time zero on, or ricker:HZ.
        echoes: how many, or auto.
        band: lowest and highest frequency to use, Hz.
        gate: first and last time to use, s on the file's clock or after the first sample.
        time_zero: when the pulse left, on the same clock.
        trace: which record of a file with several, from 0 on.
        plot: file for a picture of the spectrum over delay.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    from diffsim.delay.report import delay_report
    from diffsim.report.progress import waiting

    with waiting("compiling and looking for echoes"):
        text, found = delay_report(
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
    print(text)
    return found


if __name__ == "__main__":
    from _entry import entry

    entry(lambda: tyro.cli(main))
