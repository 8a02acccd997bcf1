"""Delays of the echoes in a recorded signal: python scripts/delay.py SIGNAL --sample-rate HZ."""


def main() -> object:
    import jax
    import tyro

    from diffsim.report.progress import waiting
    from reports import delay

    options = tyro.cli(delay.Options)
    jax.config.update("jax_enable_x64", True)
    with waiting("compiling and looking for echoes"):
        text, found = delay.run(options)
    print(text)
    return found


if __name__ == "__main__":
    from _entry import entry

    entry(main)
