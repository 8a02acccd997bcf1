"""A radar sees a serve: from echoes to the landing point, its error, and its derivatives."""


def main() -> object:
    import jax
    import tyro

    from diffsim.report.progress import waiting
    from reports import radar

    options = tyro.cli(radar.Options)
    jax.config.update("jax_enable_x64", True)
    with waiting("compiling and tracking"):
        text, found = radar.run(options)
    print(text)
    return found


if __name__ == "__main__":
    from _entry import entry

    entry(main)
