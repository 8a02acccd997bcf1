"""Integrate samples on the sphere: python scripts/integrate.py SAMPLES.npy --measure flat."""


def main() -> object:
    import jax
    import tyro

    from reports import sphere

    options = tyro.cli(sphere.Options, config=(tyro.conf.PositionalRequiredArgs,))
    jax.config.update("jax_enable_x64", True)
    lines, found = sphere.run(options)
    print("\n".join(lines))
    return found


if __name__ == "__main__":
    from _entry import entry

    entry(main)
